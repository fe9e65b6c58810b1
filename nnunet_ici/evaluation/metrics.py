"""Metrics of one case and one class: pure functions of two masks, or of their matching.

Each states its empty case. Where a metric has no value (a recall without lesions) it is NaN, which summaries leave out.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, as_mask

__all__ = [
    "average_precision",
    "dice",
    "dice_of_counts",
    "f1_of_counts",
    "instance_dice",
    "lesion_count_difference",
    "lesion_dice",
    "lesion_f1",
    "lesion_precision",
    "lesion_recall",
    "panoptic_quality",
    "volume_difference",
]

Array = npt.NDArray[np.generic]


def _masks(label: Array, prediction: Array) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    label, prediction = as_mask(label, "label"), as_mask(prediction, "prediction")
    if label.shape != prediction.shape:
        raise ValueError(
            f"label and prediction differ in shape. Expected: {label.shape}, as the label. Got: {prediction.shape}"
        )
    return label, prediction


def dice(label: Array, prediction: Array) -> float:
    """Dice similarity coefficient: 2 |label and prediction| / (|label| + |prediction|), counted in voxels.

    Args:
        label: any shape, bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.

    Returns:
        A number in [0, 1]. Two empty masks: 1, by convention. One empty mask: 0.

    Raises:
        TypeError, ValueError: if one is not a mask, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> dice(np.array([[1, 1]]), np.array([[1, 0]]))  # 2 * 1 / (2 + 1)
        0.6666666666666666
    """
    label, prediction = _masks(label, prediction)
    shared, *sizes = (int(np.count_nonzero(mask)) for mask in (label & prediction, label, prediction))
    return dice_of_counts(shared, *sizes)


def dice_of_counts(shared: int, label: int, predicted: int) -> float:
    """Dice from the numbers of voxels in both masks, in the label and in the prediction; 1 for two empty masks.

    Example:
        >>> dice_of_counts(shared=1, label=2, predicted=1)
        0.6666666666666666
    """
    return 2 * shared / (label + predicted) if label + predicted else 1.0


def volume_difference(label: Array, prediction: Array, voxel_volume: float = 1.0) -> float:
    """Absolute difference of the two volumes; where they lie does not matter.

    Args:
        label: any shape, bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        voxel_volume: volume of one voxel, in the unit of the result; 1 counts voxels.

    Returns:
        0 or more; 0 for two empty masks.

    Example:
        >>> import numpy as np
        >>> volume_difference(np.array([[1, 1, 0, 0]]), np.array([[0, 0, 0, 1]]), voxel_volume=0.5)
        0.5
    """
    label, prediction = _masks(label, prediction)
    voxels = abs(int(np.count_nonzero(label)) - int(np.count_nonzero(prediction)))
    return float(voxels * voxel_volume)


def average_precision(label: Array, probability: npt.NDArray[np.floating]) -> float:
    """Area under the precision-recall curve over voxels, as scikit-learn's average precision: no interpolation.

    Recall changes at the probabilities of lesion voxels only. The other voxels are passed on as counts between these.
    The result is the same, without sorting millions of voxels.

    Args:
        label: any shape, bool or integers 0 and 1.
        probability: the same shape, floating point.

    Returns:
        A number in (0, 1]; NaN for an empty label, which has no recall.

    Example:
        >>> import numpy as np
        >>> average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))  # (1 + 2 / 3) / 2
        0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

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
    return float(
        average_precision_score(
            np.repeat([1, 0], thresholds.size),
            np.tile(thresholds, 2),
            sample_weight=np.concatenate([lesion_voxels, other_voxels]),
        )
    )


def lesion_count_difference(matching: Matching) -> int:
    """Absolute difference of the numbers of instances; where they lie does not matter. 0 for two empty masks.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_count_difference(match_instances(np.array([[1, 0, 1]]), np.array([[0, 1, 0]])))
        1
    """
    return abs(matching.label_instances - matching.predicted_instances)


def lesion_f1(matching: Matching) -> float:
    """Lesion-wise F1, as in ISLES: 2 TP / (2 TP + FP + FN), counted in instances.

    TP are the label's instances that a prediction touches, FN those that none touches, FP the predicted instances that
    touch no label. A prediction over two lesions finds both; two predictions on one lesion are one TP and no FP.

    Returns:
        A number in [0, 1]. No instance in either mask: 1, by convention. None in one of them: 0.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_f1(match_instances(np.array([[1, 0, 1]]), np.array([[1, 0, 0]])))  # 1 found, 1 missed
        0.6666666666666666
    """
    return f1_of_counts(matching.found_instances, matching.missed_instances, matching.false_instances)


def f1_of_counts(found: int, missed: int, false: int, empty: float = 1.0) -> float:
    """F1 from the numbers of found, missed and false instances: 2 TP / (2 TP + FN + FP).

    Args:
        found, missed, false: TP, FN and FP.
        empty: the value where all three are 0.

    Example:
        >>> f1_of_counts(found=1, missed=1, false=0)
        0.6666666666666666
    """
    total = 2 * found + missed + false
    return 2 * found / total if total else empty


def lesion_recall(matching: Matching) -> float:
    """Share of the label's instances that a prediction touches; NaN where the label has none.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_recall(match_instances(np.array([[1, 0, 1]]), np.array([[1, 0, 0]])))
        0.5
    """
    return matching.found_instances / matching.label_instances if matching.label_instances else math.nan


def lesion_precision(matching: Matching) -> float:
    """Share of the predicted instances that touch a label; NaN where nothing is predicted.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_precision(match_instances(np.array([[1, 0, 0]]), np.array([[1, 0, 1]])))
        0.5
    """
    predicted = matching.predicted_instances
    return (predicted - matching.false_instances) / predicted if predicted else math.nan


def instance_dice(matching: Matching, exclude_other_instances: bool = False) -> npt.NDArray[np.float64]:
    """The Dice of each of the label's instances with all predicted instances that touch it, whole.

    That is Eq. 3 of Rachmadi et al. (MIDL 2023) on a binary prediction, without its eps.

    Args:
        matching: matching of one case and class.
        exclude_other_instances: whether to leave out the voxels in other instances of the label, as Eq. 5 does.

    Returns:
        float64 (n,), entry i for id i + 1; 0 for a missed instance, no entry for an empty label.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> instance_dice(match_instances(np.array([[1, 1, 0, 1]]), np.array([[0, 1, 1, 0]])))  # 2 / (2 + 2), missed
        array([0.5, 0. ])
    """
    label, predicted = (matching.pairs - 1).T
    shared = np.bincount(label, weights=matching.shared_voxels, minlength=matching.label_instances)
    sizes = matching.predicted_voxels
    if exclude_other_instances:  # the false voxels of each predicted instance
        sizes = sizes - np.bincount(predicted, weights=matching.shared_voxels, minlength=sizes.size)
    covered = np.bincount(label, weights=sizes[predicted], minlength=matching.label_instances)
    if exclude_other_instances:
        covered += shared
    return 2 * shared / (matching.label_voxels + covered)


def lesion_dice(matching: Matching, exclude_other_instances: bool = False) -> float:
    """Lesion-wise Dice: the sum of :func:`instance_dice` over the number of label instances plus false predictions.

    A missed lesion and a false one count 0, as in the BraTS challenges since 2023, but without their dilation and their
    smallest volume (:mod:`~nnunet_ici.evaluation.brats`).

    Args:
        matching: matching of one case and class.
        exclude_other_instances: as in :func:`instance_dice`; BraTS does not.

    Returns:
        A number in [0, 1]. No instance in either mask: 1, by convention. None in one of them: 0.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> lesion_dice(match_instances(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 1]])))  # (2 / (2 + 1) + 0) / 2
        0.3333333333333333
    """
    count = matching.label_instances + matching.false_instances
    return float(instance_dice(matching, exclude_other_instances).sum() / count) if count else 1.0


def panoptic_quality(matching: Matching) -> float:
    """Panoptic quality: the sum of the IoU of matched pairs over (TP + FP / 2 + FN / 2).

    A label instance and a predicted one match at an IoU of 0.5 or more. No instance can match two others: both would
    have an IoU of exactly 0.5 and fill it between them, and then they would touch and be one instance. Source: Kirillov
    et al., CVPR 2019, with the threshold included as in panoptica (Kofler et al., 2023).

    Returns:
        A number in [0, 1]. No instance in either mask: 1, by convention. None in one of them: 0.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> panoptic_quality(match_instances(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]])))  # 0.5 / (1 + 0.5)
        0.3333333333333333
    """
    instances = matching.label_instances + matching.predicted_instances
    label, predicted = (matching.pairs - 1).T
    shared = matching.shared_voxels
    union = matching.label_voxels[label] + matching.predicted_voxels[predicted] - shared
    matched = 2 * shared >= union
    return float(2 * (shared[matched] / union[matched]).sum() / instances) if instances else 1.0
