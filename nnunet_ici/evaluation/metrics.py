"""Metrics of one case and one class: pure functions of two masks, or of their matching.

Masks have any shape and hold bool or the integers 0 and 1; functions of two masks raise the errors of
:func:`~nnunet_ici.evaluation.matching.as_masks`. Scores are in [0, 1]. If neither mask has a voxel, a score is 1 by
convention; if only one has, it is 0. A metric that is undefined in a case, such as recall without lesions, is NaN.
Summaries omit NaN.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, as_mask, as_masks

__all__ = [
    "cc_dice",
    "dice",
    "dice_of_counts",
    "f1_of_counts",
    "instance_dice",
    "lesion_count_difference",
    "lesion_dice",
    "lesion_f1",
    "lesion_precision",
    "lesion_recall",
    "mostly_outside",
    "panoptic_quality",
    "pr_auc",
    "volume_difference",
]

Array = npt.NDArray[np.generic]

# A predicted instance of which a smaller share lies inside the label is mostly something else.
MOSTLY = 0.5


def dice(label: Array, prediction: Array) -> float:
    """Dice similarity coefficient: 2 |label and prediction| / (|label| + |prediction|), counted in voxels.

    Example:
        >>> dice(np.array([[1, 1]]), np.array([[1, 0]]))  # 2 * 1 / (2 + 1)
        0.6666666666666666
    """
    label, prediction = as_masks(label, prediction)
    shared, *sizes = (int(np.count_nonzero(mask)) for mask in (label & prediction, label, prediction))
    return dice_of_counts(shared, *sizes)


def dice_of_counts(shared: int, label: int, predicted: int) -> float:
    """:func:`dice` from the numbers of voxels in both masks, in the label and in the prediction."""
    return 2 * shared / (label + predicted) if label + predicted else 1.0


def volume_difference(label: Array, prediction: Array) -> int:
    """Absolute difference between the numbers of voxels, regardless of their overlap.

    Example:
        >>> volume_difference(np.array([[1, 1, 0, 0]]), np.array([[0, 0, 0, 1]]))
        1
    """
    label, prediction = as_masks(label, prediction)
    return abs(int(np.count_nonzero(label)) - int(np.count_nonzero(prediction)))


def pr_auc(label: Array, probability: npt.NDArray[np.floating]) -> float:
    """Area under the voxel-wise precision-recall curve: scikit-learn's average precision, without interpolation.

    Recall changes only at the probabilities of lesion voxels. All other voxels are only counted between these
    thresholds, without sorting millions of voxels. (Importing scikit-learn takes a second in each worker.)

    Args:
        label: any shape, bool or integers 0 and 1.
        probability: the same shape, any floating-point dtype.

    Returns:
        A number in (0, 1]; NaN for an empty label.

    Raises:
        TypeError, ValueError: as for two masks.

    Example:
        >>> pr_auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))  # (1 + 2 / 3) / 2
        0.8333333333333333
    """
    label = as_mask(label, "label")
    if label.shape != probability.shape:
        raise ValueError(
            f"label and probability differ in shape. Expected: {label.shape}, as the label. Got: {probability.shape}"
        )
    if not label.any():
        return math.nan
    thresholds, lesion_voxels = np.unique(probability[label], return_counts=True)
    others = probability[~label & (probability >= thresholds[0])]
    other_voxels = np.bincount(np.searchsorted(thresholds, others, side="right") - 1, minlength=thresholds.size)
    found, other = (voxels[::-1].cumsum()[::-1] for voxels in (lesion_voxels, other_voxels))  # at each threshold
    return float(np.sum(-np.diff(found / found[0], append=0) * (found / (found + other))))


def lesion_count_difference(matching: Matching) -> int:
    """Absolute difference between the numbers of instances, regardless of their overlap."""
    return abs(matching.label_instances - matching.predicted_instances)


def lesion_f1(matching: Matching) -> float:
    """Lesion-wise F1, as in ISLES: 2 TP / (2 TP + FP + FN), counted in instances.

    TP are the found and FN the missed label instances, FP the false predicted instances. A predicted instance that
    touches two lesions finds both. Two predicted instances on one lesion count as one TP and no FP.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_f1(match_instances(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]])))
        0.6666666666666666
    """
    return f1_of_counts(matching.found_instances, matching.missed_instances, matching.false_instances)


def f1_of_counts(found: int, missed: int, false: int, empty: float = 1.0) -> float:
    """2 TP / (2 TP + FN + FP) from the numbers of found, missed and false instances; ``empty`` if all three are 0."""
    total = 2 * found + missed + false
    return 2 * found / total if total else empty


def lesion_recall(matching: Matching) -> float:
    """Fraction of the label instances that are found; NaN if there are none."""
    return matching.found_instances / matching.label_instances if matching.label_instances else math.nan


def lesion_precision(matching: Matching) -> float:
    """Fraction of the predicted instances that are true; NaN if there are none."""
    predicted = matching.predicted_instances
    return (predicted - matching.false_instances) / predicted if predicted else math.nan


def instance_dice(matching: Matching, exclude_other_instances: bool = False) -> npt.NDArray[np.float64]:
    """The Dice of each label instance with the union of all predicted instances that touch it.

    This is Eq. 3 of Rachmadi et al. (MIDL 2023) applied to a binary prediction, without its eps.

    Args:
        matching: matching of one case and class.
        exclude_other_instances: whether to exclude the voxels inside other label instances, as Eq. 5 does.

    Returns:
        float64 (n,), entry i for id i + 1, in [0, 1]; 0 for a missed instance.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> instance_dice(match_instances(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]])))
        array([0.66666667, 0.        ])
    """
    label, predicted = (matching.pairs - 1).T
    shared = np.bincount(label, weights=matching.shared_voxels, minlength=matching.label_instances)
    sizes = matching.predicted_voxels
    if exclude_other_instances:  # the false voxels of each predicted instance
        sizes = sizes - matching.inside_voxels
    covered = np.bincount(label, weights=sizes[predicted], minlength=matching.label_instances)
    if exclude_other_instances:
        covered += shared
    return 2 * shared / (matching.label_voxels + covered)


def lesion_dice(matching: Matching, exclude_other_instances: bool = False) -> float:
    """Lesion-wise Dice: the sum of :func:`instance_dice`, divided by TP + FN + FP at any overlap.

    Missed lesions and false predicted instances contribute 0. BraTS has used this definition since 2023, with a
    dilation of the label and a smallest volume in addition (:mod:`~nnunet_ici.evaluation.brats`).

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_dice(match_instances(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]])))  # (2 / (2 + 1) + 0) / 2
        0.3333333333333333
    """
    count = matching.label_instances + int(np.count_nonzero(matching.inside_voxels == 0))
    return float(instance_dice(matching, exclude_other_instances).sum() / count) if count else 1.0


def mostly_outside(matching: Matching) -> int:
    """The number of predicted instances that touch a label instance, but lie outside the label by more than half.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> mostly_outside(match_instances(np.array([[1, 0, 0, 1]]), np.array([[1, 1, 1, 0]])))
        1
    """
    return int(np.count_nonzero((matching.lesion_share > 0) & (matching.lesion_share < MOSTLY)))


def cc_dice(matching: Matching) -> float:
    """CC-Dice: the Dice in the Voronoi region of each label instance, averaged over the label instances.

    The region holds the voxels that are nearer to this instance than to any other, by Euclidean distance in voxels.
    Every predicted voxel counts in exactly one region, so false instances lower the Dice of the nearest lesion. Source:
    CC-Metrics (Jaus et al., AAAI 2025), and MONAI's ``DiceMetric(per_component=True)``.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> cc_dice(match_instances(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]])))  # (2 / 3 + 0) / 2
        0.3333333333333333
    """
    from scipy import ndimage  # imported here to keep the command's help fast

    label, predicted = matching.label_ids, matching.predicted_ids > 0
    if not (matching.label_instances and matching.predicted_instances):
        return float(matching.label_instances == matching.predicted_instances)
    nearest = ndimage.distance_transform_edt(label == 0, return_distances=False, return_indices=True)
    region = label[tuple(axis[predicted] for axis in nearest)]
    inside, of_prediction = (
        np.bincount(ids, minlength=matching.label_instances + 1)[1:] for ids in (label[predicted], region)
    )
    return float(np.mean(2 * inside / (matching.label_voxels + of_prediction)))


def panoptic_quality(matching: Matching) -> float:
    """Panoptic quality: the sum of the IoU of all matched pairs, divided by (TP + FP / 2 + FN / 2).

    A label instance and a predicted instance match if their IoU is 0.5 or more. No instance A can match two others.
    Both would need an IoU of exactly 0.5 and fill A completely between them, but then they would be connected and thus
    a single instance. Source: Kirillov et al., CVPR 2019. The threshold is inclusive, as in panoptica (Kofler et al.,
    2023).

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> panoptic_quality(match_instances(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]])))  # 0.5 / (1 + 0.5)
        0.3333333333333333
    """
    instances = matching.label_instances + matching.predicted_instances
    return float(2 * matching.iou[matching.iou >= 0.5].sum() / instances) if instances else 1.0
