"""Lesion-wise Dice and HD95 as defined by the BraTS challenges since 2023.

The definition follows the challenge's public script (github.com/rachitsaluja/BraTS-2023-Metrics, ``eval.py``). This
independent implementation agreed with the script on every pair of masks compared.

1. The label is dilated. Components that merge under the dilation form one lesion, which still consists of its voxels
   in the undilated label.
2. A predicted component is assigned to every lesion whose dilation it overlaps. A component assigned to no lesion is a
   false positive.
3. Each lesion is compared with the union of the components assigned to it. Voxels of these components inside another
   lesion count as false positives, as in Eq. 3 of Rachmadi et al. (MIDL 2023), not Eq. 5.
4. Lesions no larger than the smallest volume are excluded. Components assigned to them do not become false positives.
5. A missed lesion and a false component each score a Dice of 0 and a distance of 374 mm. The means are taken over all
   lesions and false components.

The 2026 challenges use another definition: their package ``brats-evaluation`` matches instances one to one and uses
373 mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, as_masks, bounding_box, match_instances
from nnunet_ici.evaluation.metrics import dice, f1_of_counts
from nnunet_ici.evaluation.surface import hausdorff95_mm

__all__ = ["CHALLENGES", "WORST_MM", "BratsRule", "BratsScores", "brats_scores"]

Array = npt.NDArray[np.generic]

# Distance scored for a missed or false lesion: the diagonal of a 240 x 240 x 155 volume at 1 mm, rounded up.
WORST_MM = 374.0


@dataclass(frozen=True)
class BratsRule:
    """The challenge-specific parameters of the lesion count.

    Attributes:
        dilation: number of iterations of the label's dilation, each with 18-connectivity (8-connectivity in 2D).
        smallest_mm3: volume in mm3 (area in mm2 in 2D) up to which lesions are excluded; 0 excludes none.
    """

    dilation: int
    smallest_mm3: float

    def problems(self) -> list[str]:
        """What is wrong with the values, one sentence each; empty if nothing is."""
        return [
            f"{name} is not usable. Expected: 0 or more. Got: {value}"
            for name, value in vars(self).items()
            if not 0 <= value < math.inf
        ]

    def __str__(self) -> str:
        times = "once" if self.dilation == 1 else f"{self.dilation} times"
        return f"Label dilated {times}, lesions up to {self.smallest_mm3:g} mm3 left out"


# Metastases, meningioma, glioma, glioma in Sub-Saharan Africa, paediatric tumours.
CHALLENGES = {
    "met": BratsRule(1, 2.0),
    "men": BratsRule(1, 50.0),
    "gli": BratsRule(3, 50.0),
    "ssa": BratsRule(3, 50.0),
    "ped": BratsRule(3, 50.0),
}


@dataclass(frozen=True)
class BratsScores:
    """The BraTS scores of one case and one class.

    Attributes:
        found: number of lesions above the smallest volume with at least one predicted component assigned to them.
        missed: number of lesions above the smallest volume without such a component.
        false: number of predicted components assigned to no lesion.
        lesion_dice: lesion-wise Dice, in [0, 1]; 1 if all three counts are 0.
        lesion_hd95_mm: lesion-wise HD95 in mm, 0 or more; 0 if all three counts are 0.
    """

    found: int
    missed: int
    false: int
    lesion_dice: float
    lesion_hd95_mm: float

    @property
    def lesion_f1(self) -> float:
        """Lesion F1, 2 found / (2 found + missed + false); 1 if all three counts are 0."""
        return f1_of_counts(self.found, self.missed, self.false)


def brats_scores(
    label: Array, prediction: Array, spacing_mm: Sequence[float], rule: BratsRule, voxel_mm3: float | None = None
) -> BratsScores:
    """Score one case and one class as BraTS does.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        spacing_mm: voxel spacing, one value per array axis.
        rule: dilation and smallest volume, such as ``CHALLENGES["met"]``.
        voxel_mm3: volume of a voxel; by default the product of the spacing.

    Raises:
        TypeError, ValueError: as :func:`~nnunet_ici.evaluation.matching.match_instances`.

    Example:
        Three lesions in a row. Dilation merges the first two, which are found. The third is missed, and one predicted
        component is false:

        >>> import numpy as np
        >>> label      = np.array([[1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]])
        >>> prediction = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]])
        >>> scores = brats_scores(label, prediction, (1.0, 1.0), BratsRule(dilation=1, smallest_mm3=0))
        >>> scores.found, scores.missed, scores.false, round(scores.lesion_dice, 4)  # (2 / 3 + 0 + 0) / 3
        (1, 1, 1, 0.2222)
    """
    label, prediction = as_masks(label, prediction)
    # Each component of the dilated label contains exactly one lesion.
    matching = match_instances(_dilated(label, rule.dilation), prediction)
    lesion_ids = np.where(label[matching.box], matching.label_ids, 0)
    voxels = np.bincount(lesion_ids.ravel(), minlength=matching.label_instances + 1)[1:]
    counted = np.flatnonzero(voxels * (math.prod(spacing_mm) if voxel_mm3 is None else voxel_mm3) > rule.smallest_mm3)
    scores = _compare(matching, lesion_ids, counted + 1, spacing_mm)
    found = int(np.count_nonzero(matching.label_found[counted]))
    false = matching.false_instances
    total = len(scores) + false
    return BratsScores(
        found,
        counted.size - found,
        false,
        sum(overlap for overlap, _ in scores) / total if total else 1.0,
        (sum(distance for _, distance in scores) + false * WORST_MM) / total if total else 0.0,
    )


def _dilated(label: npt.NDArray[np.bool_], times: int) -> npt.NDArray[np.bool_]:
    from scipy import ndimage  # imported here to keep the command's help fast

    if times == 0 or not label.any():  # SciPy takes 0 iterations to mean "until nothing changes"
        return label
    box = tuple(slice(max(one.start - times, 0), one.stop + times) for one in bounding_box(label))
    dilated = np.zeros_like(label)
    dilated[box] = ndimage.binary_dilation(label[box], ndimage.generate_binary_structure(label.ndim, 2), times)
    return dilated


def _compare(
    matching: Matching, lesion_ids: npt.NDArray[np.int32], lesions: npt.NDArray[np.int64], spacing_mm: Sequence[float]
) -> list[tuple[float, float]]:
    """Dice and HD95 in mm of each lesion against the components assigned to it; 0 and 374 mm if there are none."""
    from scipy import ndimage  # imported here to keep the command's help fast

    if not lesions.size:
        return []
    lesion_boxes, predicted_boxes = map(ndimage.find_objects, (lesion_ids, matching.predicted_ids))
    scores = []
    for lesion in lesions:
        belonging = matching.pairs[matching.pairs[:, 0] == lesion, 1]
        if not belonging.size:
            scores.append((0.0, WORST_MM))
            continue
        boxes = [lesion_boxes[lesion - 1], *(predicted_boxes[component - 1] for component in belonging)]
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
        mask = lesion_ids[box] == lesion
        components = np.isin(matching.predicted_ids[box], belonging)
        scores.append((dice(mask, components), hausdorff95_mm(mask, components, spacing_mm)))
    return scores
