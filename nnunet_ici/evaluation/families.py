"""The metrics of a case, each under one name, and the families: lists of these names.

``atlas22``
    As in the evaluation container of the ATLAS challenge (ISLES 2022). Volumes are in voxels regardless of the spacing,
    and lesions are connected through faces. (The container's function for single images subtracts the prediction from
    itself. The challenge ran its function for batches, which is correct.)
``isles``
    As in ISLES: volumes in ml, and 26 neighbors (8 in 2D). With probabilities, also the area under the precision-recall
    curve.
``paper``
    The quantities of Tables 1 and 3 of Rachmadi et al. (MIDL 2023): Dice, missed and false instances.
``detection``
    Scores of instances. The scores over all cases are in :mod:`~nnunet_ici.evaluation.detection`.
``cc``
    CC-Dice (:func:`~nnunet_ici.evaluation.metrics.cc_dice`).
``brats``
    As in the BraTS challenges since 2023 (:mod:`~nnunet_ici.evaluation.brats`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Literal

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation import metrics
from nnunet_ici.evaluation.average_precision import MATCHING_IOU
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule, BratsScores, brats_scores
from nnunet_ici.evaluation.matching import Matching, as_masks, match_instances

__all__ = [
    "CONVENTIONS",
    "DEFAULT_FAMILIES",
    "FAMILIES",
    "IN_VOXELS",
    "METRICS",
    "OLD_NAMES",
    "Metric",
    "Pair",
    "evaluate_case",
    "metrics_of",
]

CONVENTIONS = """\
A lesion is a connected component (8 neighbors in 2D, 26 in 3D; 4 and 6 where a column says so). A lesion is found if a
predicted component overlaps it by at least one voxel, or by the IoU of --overlap, and missed otherwise. A predicted
component that overlaps no lesion in this way is false. The family brats dilates the label first. Two empty masks score
1, one empty mask scores 0; as distances, 0 and 374 mm. Cases in which a metric is undefined (recall without lesions,
PR-AUC of an empty label) are left out of its mean.
"""

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, eq=False)
class Pair:
    """The label and the prediction of one case and class.

    Attributes:
        label: bool, (H, W) or (D, H, W).
        prediction: bool, the same shape.
        spacing_mm: voxel spacing, one value per array axis.
        voxel_mm3: volume of a voxel in mm3; in 2D, its area in mm2.
        probability: float32, the same shape; None without probabilities.
        brats_rule: dilation and smallest volume of the family brats.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel.
    """

    label: npt.NDArray[np.bool_]
    prediction: npt.NDArray[np.bool_]
    spacing_mm: tuple[float, ...]
    voxel_mm3: float
    probability: npt.NDArray[np.float32] | None = None
    brats_rule: BratsRule = CHALLENGES["met"]
    overlap: float = 0.0

    @cached_property
    def matching(self) -> Matching:
        """The matching of instances with 8 neighbors in 2D, 26 in 3D."""
        return match_instances(self.label, self.prediction, overlap=self.overlap)

    @cached_property
    def face_matching(self) -> Matching:
        """The matching of instances with 4 neighbors in 2D, 6 in 3D."""
        return match_instances(self.label, self.prediction, faces=True, overlap=self.overlap)

    @cached_property
    def strict_matching(self) -> Matching:
        """:attr:`matching` at the IoU of the lesion-wise average precision, 0.1."""
        return replace(self.matching, overlap=MATCHING_IOU)

    @cached_property
    def brats(self) -> BratsScores:
        """The scores of the family brats."""
        return brats_scores(self.label, self.prediction, self.spacing_mm, self.brats_rule, self.voxel_mm3)

    @cached_property
    def difference(self) -> int:
        """Absolute difference between the numbers of voxels in the two masks."""
        return metrics.volume_difference(self.label, self.prediction)


@dataclass(frozen=True)
class Metric:
    """A column of cases.csv.

    Attributes:
        name: name of the column.
        title: title of its column in tables.
        better: whether higher or lower values are better; "" if neither.
        function: function of the pair, or of one of its attributes.
        of: name of this attribute; empty for the pair.
        counts: whether the metric is a count whose sum over cases is reported.
        needs_probability: whether the metric needs probabilities.
    """

    name: str
    title: str
    better: Better
    function: Callable[..., float]
    of: str = "matching"
    counts: bool = False
    needs_probability: bool = False

    def compute(self, pair: Pair) -> float:
        """The value for a case."""
        return self.function(getattr(pair, self.of) if self.of else pair)


def _pr_auc(pair: Pair) -> float:
    return float("nan") if pair.probability is None else metrics.pr_auc(pair.label, pair.probability)


def _all_missed(matching: Matching) -> int:
    return int(0 < matching.label_instances == matching.missed_instances)


def _no_mistake(matching: Matching) -> int:
    return int(matching.missed_instances == matching.false_instances == 0)


_difference, _f1 = "absolute lesion count difference", metrics.lesion_f1
_EVERY = (
    Metric("dice", "Dice", "higher", lambda pair: metrics.dice(pair.label, pair.prediction), ""),
    Metric("volume_difference_voxels", "absolute volume difference (voxels)", "lower", attrgetter("difference"), ""),
    Metric(
        *("volume_difference_ml", "absolute volume difference (ml)", "lower"),
        *(lambda pair: pair.difference * (pair.voxel_mm3 / 1000), ""),
    ),
    Metric("lesion_count_difference", _difference, "lower", metrics.lesion_count_difference),
    Metric(
        *("lesion_count_difference_faces", f"{_difference} (6 neighbors)", "lower"),
        *(metrics.lesion_count_difference, "face_matching"),
    ),
    Metric("lesion_f1", "lesion F1", "higher", _f1),
    Metric("lesion_f1_faces", "lesion F1 (6 neighbors)", "higher", _f1, "face_matching"),
    Metric("lesion_f1_iou10", "lesion F1 (IoU 0.1)", "higher", _f1, "strict_matching"),
    Metric("pr_auc", "PR-AUC", "higher", _pr_auc, "", needs_probability=True),
    Metric("label_instances", "instances", "", attrgetter("label_instances"), counts=True),
    Metric("missed_instances", "missed", "lower", attrgetter("missed_instances"), counts=True),
    Metric("predicted_instances", "predicted", "", attrgetter("predicted_instances"), counts=True),
    Metric("false_instances", "false", "lower", attrgetter("false_instances"), counts=True),
    Metric("all_missed", "all instances missed", "lower", _all_missed, counts=True),
    Metric("no_mistake", "neither missed nor false", "higher", _no_mistake, counts=True),
    Metric("mostly_outside", "mostly outside", "lower", metrics.mostly_outside, counts=True),
    Metric("lesion_recall", "recall", "higher", metrics.lesion_recall),
    Metric("lesion_precision", "precision", "higher", metrics.lesion_precision),
    Metric("lesion_dice", "lesion-wise Dice", "higher", metrics.lesion_dice),
    Metric("panoptic_quality", "panoptic quality", "higher", metrics.panoptic_quality),
    Metric("cc_dice", "CC-Dice", "higher", metrics.cc_dice),
    Metric("brats_lesion_dice", "lesion-wise Dice", "higher", attrgetter("lesion_dice"), "brats"),
    Metric("brats_lesion_hd95_mm", "lesion-wise HD95 (mm)", "lower", attrgetter("lesion_hd95_mm"), "brats"),
    Metric("brats_lesion_hd95_voxels", "lesion-wise HD95 (voxels)", "lower", attrgetter("lesion_hd95_mm"), "brats"),
    Metric("brats_lesion_f1", "lesion F1", "higher", attrgetter("lesion_f1"), "brats"),
    Metric("brats_found", "found per case", "", attrgetter("found"), "brats", counts=True),
    Metric("brats_missed", "missed per case", "lower", attrgetter("missed"), "brats", counts=True),
    Metric("brats_false", "false per case", "lower", attrgetter("false"), "brats", counts=True),
)
METRICS = {metric.name: metric for metric in _EVERY}

_COUNTS = ("label_instances", "missed_instances", "predicted_instances", "false_instances", "all_missed", "no_mistake")
_BRATS = ("lesion_dice", "lesion_hd95_mm", "lesion_f1", "found", "missed", "false")
# Names of metrics by family.
FAMILIES: dict[str, tuple[str, ...]] = {
    "atlas22": ("dice", "volume_difference_voxels", "lesion_count_difference_faces", "lesion_f1_faces"),
    "isles": ("dice", "volume_difference_ml", "lesion_count_difference", "lesion_f1", "pr_auc"),
    "paper": ("dice", *_COUNTS),
    "detection": (
        *("lesion_recall", "lesion_precision", "lesion_f1", "lesion_f1_iou10"),
        *("lesion_dice", "panoptic_quality", "mostly_outside"),
    ),
    "cc": ("cc_dice",),
    "brats": tuple(f"brats_{name}" for name in _BRATS),
}
# Metrics that replace others for formats without a voxel size, where the spacing is 1.
IN_VOXELS = {"volume_difference_ml": "volume_difference_voxels", "brats_lesion_hd95_mm": "brats_lesion_hd95_voxels"}
# Distances take three times as long as all other metrics together, so these two are computed on request only.
DEFAULT_FAMILIES = tuple(name for name in FAMILIES if name not in ("cc", "brats"))

# Names of the metrics until version 0.2, which had a column for each family.
OLD_NAMES = {
    **{f"{family}.dsc": "dice" for family in ("atlas22", "paper")},
    "isles.dice": "dice",
    "atlas22.volume_difference": "volume_difference_voxels",
    "atlas22.lesion_count_difference": "lesion_count_difference_faces",
    "atlas22.lesion_f1": "lesion_f1_faces",
    **{f"isles.{name}": name for name in FAMILIES["isles"][1:]},
    **{f"paper.{name}": name for name in _COUNTS},
    "detection.recall": "lesion_recall",
    "detection.precision": "lesion_precision",
    **{f"detection.{name}": name for name in ("lesion_dice", "panoptic_quality")},
    **{f"brats.{name}": f"brats_{name}" for name in _BRATS},
    "touched": "found",  # of instances.csv
}


def metrics_of(families: Sequence[str], with_probability: bool = True, in_mm: bool = True) -> list[Metric]:
    """The metrics of the given families, each once, in order; those that need probabilities only if there are any.

    Without a voxel size (``in_mm``), those in mm and ml are replaced by :data:`IN_VOXELS`.
    """
    names = dict.fromkeys(name for family in families for name in FAMILIES[family])
    if not in_mm:
        names = dict.fromkeys(IN_VOXELS.get(name, name) for name in names)
    return [METRICS[name] for name in names if with_probability or not METRICS[name].needs_probability]


def evaluate_case(
    label: npt.NDArray[np.generic],
    prediction: npt.NDArray[np.generic],
    spacing_mm: Sequence[float] | None = None,
    probability: npt.NDArray[np.float32] | None = None,
    families: Sequence[str] = ("atlas22", "isles", "paper"),
    brats_rule: BratsRule = CHALLENGES["met"],
    overlap: float = 0.0,
) -> dict[str, float]:
    """Compute the metrics of one case and one class.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        spacing_mm: voxel spacing, one value per array axis; 1 mm by default. For volumes in ml, a 2D slice is assumed
            to be 1 mm thick.
        probability: float32, the same shape, probability of the class; without it ``pr_auc`` is omitted.
        families: names in :data:`FAMILIES`.
        brats_rule: dilation and smallest volume of the family brats; by default those for metastases.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel.

    Returns:
        The value of each metric by name, int for counts and float otherwise. For empty masks see
        :mod:`~nnunet_ici.evaluation.metrics` and :mod:`~nnunet_ici.evaluation.brats`.

    Raises:
        KeyError: if there is no such family.
        TypeError, ValueError: as :func:`~nnunet_ici.evaluation.matching.match_instances`.

    Example:
        >>> import numpy as np
        >>> values = evaluate_case(np.array([[1, 0, 1]]), np.array([[1, 0, 0]]), families=["paper"])
        >>> values["missed_instances"], values["no_mistake"]
        (1, 0)
    """
    spacing_mm = (1.0,) * label.ndim if spacing_mm is None else tuple(spacing_mm)
    pair = Pair(*as_masks(label, prediction), spacing_mm, float(np.prod(spacing_mm)), probability, brats_rule, overlap)
    return {metric.name: metric.compute(pair) for metric in metrics_of(families, probability is not None)}
