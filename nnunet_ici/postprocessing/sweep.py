"""The grid search on one case: all settings are scored with one connected component labeling per threshold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, bounding_box, match_instances
from nnunet_ici.evaluation.metrics import dice, dice_of_counts, f1_of_counts, lesion_f1
from nnunet_ici.instances.labelling_cc3d import label_array
from nnunet_ici.postprocessing.rule import Setting, component_table

__all__ = ["STATISTICS", "Grid", "score_mask", "sweep_case"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

# The columns of every array of scores.
STATISTICS = ("dice", "lesion_f1", "missed_instances", "false_instances")


@dataclass(frozen=True)
class Grid:
    """The grid of values to try.

    Attributes:
        thresholds: thresholds of the probability.
        volumes_mm3: minimum volumes; 0 removes nothing and is always tried.
        peaks: peak probabilities that exempt a component from removal; None exempts none.
    """

    thresholds: tuple[float, ...]
    volumes_mm3: tuple[float, ...]
    peaks: tuple[float | None, ...]

    def settings(self) -> list[Setting]:
        """All settings, in the order of preference in a tie: thresholds nearest to 0.5 first, then the least removal.

        Redundant settings are omitted. A peak is redundant if nothing is removed, or if it is not above the threshold,
        because every component then reaches it.

        Example:
            >>> for setting in Grid((0.3, 0.5), (0, 10), (None, 0.4)).settings():
            ...     print(setting)
            above 0.5, no removal
            above 0.5, below 10 mm³ removed
            above 0.3, no removal
            above 0.3, below 10 mm³ removed unless it reaches 0.4
            above 0.3, below 10 mm³ removed
        """
        removals = set(itertools.product((v for v in self.volumes_mm3 if v > 0), self.peaks)) | {(0.0, None)}
        settings = {
            Setting(threshold, volume, peak)
            for threshold in self.thresholds
            for volume, peak in removals
            if peak is None or peak > threshold
        }
        return sorted(settings, key=_preference)


def _preference(setting: Setting) -> tuple[float, float, float, float]:
    # Rounded, because 0.5 - 0.4 and 0.6 - 0.5 differ in the last bit. The lower threshold then comes first.
    distance = round(abs(setting.threshold - 0.5), 9)
    peak = 2.0 if setting.peak_probability is None else setting.peak_probability
    return distance, setting.minimum_volume_mm3, peak, setting.threshold


def score_mask(label: BoolArray, prediction: BoolArray) -> Scores:
    """The :data:`STATISTICS` of a predicted mask, float64 (4,), from two bool masks of the same shape, 2D or 3D."""
    matching = match_instances(label, prediction)
    return np.array(
        [dice(label, prediction), lesion_f1(matching), matching.missed_instances, matching.false_instances],
        dtype=np.float64,
    )


def sweep_case(
    probability: FloatArray,
    label: BoolArray,
    settings: Sequence[Setting],
    voxel_mm3: float,
    counts: BoolArray | None = None,
) -> Scores:
    """Score each setting; the result equals :func:`score_mask` of ``setting.mask(probability, voxel_mm3)``.

    Components are labeled once per threshold. Their volumes, peaks, overlaps and touching lesions then give the scores
    of every setting.

    Args:
        probability: float32 (H, W) or (D, H, W), in [0, 1].
        label: bool, the same shape.
        settings: settings to try.
        voxel_mm3: volume of a voxel in mm³.
        counts: bool, the same shape, False where the ground truth is ignored; None if nothing is. Components are kept
            or removed as a whole, but only their voxels that count are scored.

    Returns:
        float64 (settings, 4), with the columns :data:`STATISTICS`. Dice and lesion F1 are 1 for two empty masks, and 0
        for one empty mask.
    """
    if counts is not None:
        label = label & counts
    scores = np.empty((len(settings), len(STATISTICS)))
    lowest = min((setting.threshold for setting in settings), default=0.0)
    box = bounding_box(label | (probability > np.float32(lowest)))
    probability, label = probability[box], label[box]
    counts = None if counts is None else counts[box]
    for threshold in dict.fromkeys(setting.threshold for setting in settings):
        table = _Components.at(threshold, probability, label, voxel_mm3, counts)
        for index, setting in enumerate(settings):
            if setting.threshold == threshold:
                scores[index] = table.score(setting.keeps(table.volumes_mm3, table.peaks))
    return scores


@dataclass(frozen=True, eq=False)
class _Components:
    """The components at one threshold, and their parts outside ignored voxels.

    Without ignored voxels, the parts are the components themselves.

    Attributes:
        volumes_mm3, peaks: volume and peak probability of each component (n,).
        component: index of each part's component (m,), from 0.
        sizes, overlaps: number of voxels of each part, and number of these inside the label (m,).
        matching: matching of the label and the parts.
        label_size: number of voxels in the label.
    """

    volumes_mm3: npt.NDArray[np.float64]
    peaks: FloatArray
    component: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    overlaps: npt.NDArray[np.int64]
    matching: Matching
    label_size: int

    @classmethod
    def at(
        cls, threshold: float, probability: FloatArray, label: BoolArray, voxel_mm3: float, counts: BoolArray | None
    ) -> _Components:
        """Label the components at a threshold."""
        mask = probability > np.float32(threshold)
        matching = match_instances(label, mask if counts is None else mask & counts)
        parts, count = matching.predicted_ids, matching.predicted_instances
        component = np.arange(-1, count)
        if counts is None:
            volumes_mm3, peaks = component_table(parts, count, probability[matching.box], voxel_mm3)
        else:
            ids, components = label_array(mask)
            volumes_mm3, peaks = component_table(ids, components, probability, voxel_mm3)
            component[parts] = ids[matching.box] - 1
        return cls(
            volumes_mm3=volumes_mm3,
            peaks=peaks,
            component=component[1:],
            sizes=np.bincount(parts.ravel(), minlength=count + 1)[1:],
            overlaps=np.bincount(parts[label[matching.box]], minlength=count + 1)[1:],
            matching=matching,
            label_size=int(np.count_nonzero(label)),
        )

    def score(self, kept_components: BoolArray) -> list[float]:
        """The :data:`STATISTICS` if only the given components, bool (n,), are kept."""
        kept = kept_components[self.component]
        pairs = self.matching.pairs
        found = np.unique(pairs[kept[pairs[:, 1] - 1], 0]).size
        missed = self.matching.label_instances - found
        false = int(np.count_nonzero(kept & ~self.matching.predicted_true))
        return [
            dice_of_counts(int(self.overlaps[kept].sum()), self.label_size, int(self.sizes[kept].sum())),
            f1_of_counts(found, missed, false),
            missed,
            false,
        ]
