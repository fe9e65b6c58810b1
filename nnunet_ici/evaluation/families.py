"""The metric families: how each metric is computed for one case, and whether higher or lower values are better.

``atlas22``
    Dice, volume difference, lesion count difference (there called "simple lesion count") and lesion F1 per case, as in
    the evaluation container of the ATLAS challenge (ISLES 2022). Volumes are in voxels regardless of the spacing, and
    lesions are connected through faces. (The container's function for single images subtracts the prediction from
    itself. The challenge ran its function for batches, which is correct.)
``isles``
    Dice, volume difference in ml, lesion count difference and lesion F1 as in ISLES, with 26 neighbors (8 in 2D). With
    probabilities, also the area under the precision-recall curve.
``paper``
    The quantities of Tables 1 and 3 of Rachmadi et al. (MIDL 2023): Dice, missed and false instances.
``detection``
    Recall, precision, lesion-wise Dice and panoptic quality. FROC, and recall, precision and F1 by size, are pooled
    over all cases and are in :mod:`~nnunet_ici.evaluation.detection`.
``brats``
    Lesion-wise Dice and HD95 as in the BraTS challenges since 2023 (:mod:`~nnunet_ici.evaluation.brats`), and the
    numbers of found, missed and false lesions.
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
A lesion is a connected component (8 neighbors in 2D, 26 in 3D; 4 and 6 in the family atlas22). A lesion is found if
the prediction overlaps it by at least one voxel, and missed otherwise. A predicted component that overlaps no lesion is
false. The family brats dilates the label first. Two empty masks score 1, one empty mask scores 0; as distances, 0 and
374 mm. Cases in which a metric is undefined (recall without lesions, PR-AUC of an empty label) are left out of its
mean.
"""

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, eq=False)
class Pair:
    """The label and the prediction of one case and class.

    Attributes:
        label: bool, (H, W) or (D, H, W).
        prediction: bool, the same shape.
        spacing_mm: voxel spacing, one value per array axis.
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
        """The matching of instances with 8 neighbors in 2D, 26 in 3D."""
        return match_instances(self.label, self.prediction)

    @cached_property
    def face_matching(self) -> Matching:
        """The matching of instances with 4 neighbors in 2D, 6 in 3D."""
        return match_instances(self.label, self.prediction, faces=True)

    @cached_property
    def brats(self) -> BratsScores:
        """The scores of the family brats."""
        return brats_scores(self.label, self.prediction, self.spacing_mm, self.brats_rule)

    @property
    def voxel_mm(self) -> float:
        """Volume of a voxel in mm3; in 2D, its area in mm2."""
        return float(np.prod(self.spacing_mm))


@dataclass(frozen=True)
class Metric:
    """A column of cases.csv.

    Attributes:
        name: family and metric, joined by a dot.
        title: title of its column in tables.
        better: whether higher or lower values are better; "" if neither.
        compute: function that computes the value for a case.
        counts: whether the metric is a count whose sum over cases is reported.
        needs_probability: whether the metric needs probabilities.
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


# Surface distances take three times as long as all other metrics together, so brats is computed on request only.
DEFAULT_FAMILIES = tuple(name for name in FAMILIES if name != "brats")


def metrics_of(families: Sequence[str], with_probability: bool = True) -> list[Metric]:
    """The metrics of the given families, in order; without probabilities, the metrics that need them are omitted."""
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
    """Compute the metrics of one case and one class.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        spacing_mm: voxel spacing, one value per array axis; 1 mm by default. For volumes in ml, a 2D slice is assumed
            to be 1 mm thick.
        probability: float32, the same shape, probability of the class; without it ``isles.pr_auc`` is omitted.
        families: names in :data:`FAMILIES`.
        brats_rule: dilation and smallest volume of the family brats; by default those for metastases.

    Returns:
        The value of each metric by name, int for counts and float otherwise. For empty masks see
        :mod:`~nnunet_ici.evaluation.metrics` and :mod:`~nnunet_ici.evaluation.brats`.

    Raises:
        KeyError: if there is no such family.
        TypeError: if a mask is neither bool nor integer.
        ValueError: if a mask holds other values than 0 and 1, the shapes differ, or they are neither 2D nor 3D.

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
