"""The metrics by family: how each is computed for a case, and whether higher or lower is better.

``atlas22``
    Dice, volume difference, lesion count difference ("simple lesion count" there) and lesion F1 as the evaluation
    container of the ATLAS challenge (ISLES 2022) counts them, each case on its own: volumes in voxels, whatever the
    spacing, and lesions connected through faces. (The container's function for single images subtracts the prediction
    from itself; its function for batches, which the challenge ran, does not.)
``isles``
    Dice, volume difference in ml, lesion count difference and lesion F1 as in ISLES, with 26 neighbours (8 in 2D), and
    the area under the precision-recall curve where there are probabilities.
``paper``
    What Tables 1 and 3 of Rachmadi et al. (MIDL 2023) count: Dice, missed and false instances.
``detection``
    Recall, precision, lesion-wise Dice and panoptic quality; recall, precision and F1 by size and FROC are in
    :mod:`~nnunet_ici.evaluation.detection`, because they are computed over all cases together.
``brats``
    Lesion-wise Dice and HD95 as in the BraTS challenges since 2023 (:mod:`~nnunet_ici.evaluation.brats`), and the
    lesions they are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation import metrics
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule, BratsScores, brats_scores
from nnunet_ici.evaluation.matching import Matching, as_mask, match_instances

__all__ = ["CONVENTIONS", "DEFAULT_FAMILIES", "FAMILIES", "Metric", "Pair", "evaluate_case", "metrics_of"]

CONVENTIONS = """\
A lesion is a connected component (8 neighbours in 2D, 26 in 3D; in the family atlas22 4 and 6). It is found where a
prediction shares a voxel with it, else missed; a predicted component that shares no voxel with the label is false. The
family brats dilates the label first. Two empty masks score 1, one empty mask 0 (a distance: 0, and 374 mm); a metric
without a value in a case (recall without lesions, PR-AUC of an empty label) leaves the case out of its mean.
"""

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, eq=False)
class Pair:
    """The masks of one class in a label and in a prediction.

    Attributes:
        label: bool, (H, W) or (D, H, W).
        prediction: bool, the same shape.
        spacing_mm: edge lengths of a voxel, one for each axis.
        probability: float32, the same shape; None without probabilities.
        brats_rule: dilation and smallest volume of the family brats.
    """

    label: npt.NDArray[np.bool_]
    prediction: npt.NDArray[np.bool_]
    spacing_mm: tuple[float, ...]
    probability: npt.NDArray[np.float32] | None = None
    brats_rule: BratsRule = CHALLENGES["met"]

    @cached_property
    def matching(self) -> Matching:
        """Instances with full connectivity."""
        return match_instances(self.label, self.prediction)

    @cached_property
    def face_matching(self) -> Matching:
        """Instances connected through faces."""
        return match_instances(self.label, self.prediction, faces=True)

    @cached_property
    def brats(self) -> BratsScores:
        """Lesions joined by their dilation."""
        return brats_scores(self.label, self.prediction, self.spacing_mm, self.brats_rule)

    @property
    def voxel_mm(self) -> float:
        """Volume of a voxel in mm3, in 2D its area in mm2."""
        return float(np.prod(self.spacing_mm))


@dataclass(frozen=True)
class Metric:
    """A column of cases.csv.

    Attributes:
        name: family and metric, joined by a dot.
        title: title of its column in tables.
        better: whether a higher or a lower value is better; "" where neither is.
        compute: function that computes its value for a case.
        counts: whether it is a count, so that its sum over cases has a meaning.
        needs_probability: whether it needs probabilities.
    """

    name: str
    title: str
    better: Better
    compute: Callable[[Pair], float]
    counts: bool = False
    needs_probability: bool = False


def _average_precision(pair: Pair) -> float:
    return float("nan") if pair.probability is None else metrics.average_precision(pair.label, pair.probability)


def _all_missed(pair: Pair) -> int:
    return int(0 < pair.matching.label_instances == pair.matching.missed_instances)


def _no_mistake(pair: Pair) -> int:
    return int(pair.matching.missed_instances == pair.matching.false_instances == 0)


FAMILIES: dict[str, tuple[Metric, ...]] = {
    "atlas22": (
        Metric("atlas22.dsc", "Dice", "higher", lambda pair: metrics.dice(pair.label, pair.prediction)),
        Metric(
            "atlas22.volume_difference",
            "absolute volume difference (voxels)",
            "lower",
            lambda pair: int(metrics.volume_difference(pair.label, pair.prediction)),
        ),
        Metric(
            "atlas22.lesion_count_difference",
            "absolute lesion count difference",
            "lower",
            lambda pair: metrics.lesion_count_difference(pair.face_matching),
        ),
        Metric("atlas22.lesion_f1", "lesion F1", "higher", lambda pair: metrics.lesion_f1(pair.face_matching)),
    ),
    "isles": (
        Metric("isles.dice", "Dice", "higher", lambda pair: metrics.dice(pair.label, pair.prediction)),
        Metric(
            "isles.volume_difference_ml",
            "absolute volume difference (ml)",
            "lower",
            lambda pair: metrics.volume_difference(pair.label, pair.prediction, pair.voxel_mm / 1000),
        ),
        Metric(
            "isles.lesion_count_difference",
            "absolute lesion count difference",
            "lower",
            lambda pair: metrics.lesion_count_difference(pair.matching),
        ),
        Metric("isles.lesion_f1", "lesion F1", "higher", lambda pair: metrics.lesion_f1(pair.matching)),
        Metric("isles.pr_auc", "PR-AUC", "higher", _average_precision, needs_probability=True),
    ),
    "paper": (
        Metric("paper.dsc", "Dice", "higher", lambda pair: metrics.dice(pair.label, pair.prediction)),
        Metric("paper.label_instances", "instances", "", lambda pair: pair.matching.label_instances, counts=True),
        Metric("paper.missed_instances", "missed", "lower", lambda pair: pair.matching.missed_instances, counts=True),
        Metric(
            "paper.predicted_instances", "predicted", "", lambda pair: pair.matching.predicted_instances, counts=True
        ),
        Metric("paper.false_instances", "false", "lower", lambda pair: pair.matching.false_instances, counts=True),
        Metric("paper.all_missed", "all instances missed", "lower", _all_missed, counts=True),
        Metric("paper.no_mistake", "neither missed nor false", "higher", _no_mistake, counts=True),
    ),
    "detection": (
        Metric("detection.recall", "recall", "higher", lambda pair: metrics.lesion_recall(pair.matching)),
        Metric("detection.precision", "precision", "higher", lambda pair: metrics.lesion_precision(pair.matching)),
        Metric("detection.lesion_dice", "lesion-wise Dice", "higher", lambda pair: metrics.lesion_dice(pair.matching)),
        Metric(
            "detection.panoptic_quality",
            "panoptic quality",
            "higher",
            lambda pair: metrics.panoptic_quality(pair.matching),
        ),
    ),
    "brats": (
        Metric("brats.lesion_dice", "lesion-wise Dice", "higher", lambda pair: pair.brats.lesion_dice),
        Metric("brats.lesion_hd95_mm", "lesion-wise HD95 (mm)", "lower", lambda pair: pair.brats.lesion_hd95_mm),
        Metric("brats.found", "found per case", "", lambda pair: pair.brats.found, counts=True),
        Metric("brats.missed", "missed per case", "lower", lambda pair: pair.brats.missed, counts=True),
        Metric("brats.false", "false per case", "lower", lambda pair: pair.brats.false, counts=True),
    ),
}


# Surface distances take three times as long as everything else together, so brats is computed on demand.
DEFAULT_FAMILIES = tuple(name for name in FAMILIES if name != "brats")


def metrics_of(families: Sequence[str], with_probability: bool = True) -> list[Metric]:
    """The metrics of some families, in order; without probabilities those that need them are left out."""
    return [
        metric for name in families for metric in FAMILIES[name] if with_probability or not metric.needs_probability
    ]


def evaluate_case(
    label: npt.NDArray[np.generic],
    prediction: npt.NDArray[np.generic],
    spacing_mm: Sequence[float] | None = None,
    probability: npt.NDArray[np.float32] | None = None,
    families: Sequence[str] = ("atlas22", "isles", "paper"),
    brats_rule: BratsRule = CHALLENGES["met"],
) -> dict[str, float]:
    """All metrics of one case and one class.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        spacing_mm: edges of a voxel; 1 mm by default. In 2D a slice is taken as 1 mm thick for ml.
        probability: float32, the same shape, of the class; without it there is no ``isles.pr_auc``.
        families: names in :data:`FAMILIES`.
        brats_rule: dilation and smallest volume of the family brats; by default those of metastases.

    Returns:
        A value for each metric, by name: int for counts, else float; the empty cases are those of
        :mod:`~nnunet_ici.evaluation.metrics`.

    Raises:
        TypeError, ValueError: if one is not a mask, the shapes differ, or they are neither 2D nor 3D.

    Example:
        >>> import numpy as np
        >>> values = evaluate_case(np.array([[1, 0, 1]]), np.array([[1, 0, 0]]), families=["paper"])
        >>> values["paper.missed_instances"], values["paper.no_mistake"]
        (1, 0)
    """
    pair = Pair(
        as_mask(label, "label"),
        as_mask(prediction, "prediction"),
        (1.0,) * label.ndim if spacing_mm is None else tuple(spacing_mm),
        probability,
        brats_rule,
    )
    return {metric.name: metric.compute(pair) for metric in metrics_of(families, probability is not None)}
