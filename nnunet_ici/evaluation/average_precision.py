"""Scores over all thresholds of the probability: lesion-wise average precision, and free-response recall.

At each threshold the predicted instances are the connected components of the voxels whose probability reaches it. They
are matched with the lesions, and the counts are added over all cases. Both scores are functions of these counts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, as_mask, bounding_box, match_ids
from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = [
    "COUNTS",
    "CURVES_NOTE",
    "FALSE_PER_CASE",
    "MATCHING_IOU",
    "THRESHOLDS",
    "count_at_thresholds",
    "free_response_recall",
    "lesion_average_precision",
    "matched_instances",
    "threshold_curve",
]

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float64]

# IoU at which a predicted instance matches a lesion in the average precision, as in PI-CAI (Saha et al., 2024).
MATCHING_IOU = 0.1
# Even in the logit, in steps of 0.5, from 0.018 to 0.99999.
THRESHOLDS = tuple((1 / (1 + np.exp(-np.arange(-4, 12, 0.5)))).tolist())
# What is counted at each threshold.
COUNTS = ("lesions", "found", "predicted", "false", "matched")
# False instances per case at which the free-response curve is read off, as in LUNA16 (Setio et al., 2017).
FALSE_PER_CASE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# The definitions printed below the tables and in the report.
CURVES_NOTE = (
    "AP and FROC are pooled over all cases. At each of 32 thresholds of the probability, even in the logit from 0.018 "
    "to 0.99999, the predictions are the connected components that reach it. AP: area under precision over recall of "
    "one-to-one matches with an IoU of 0.1 or more, interpolated as in PASCAL VOC; 0 at a recall never reached. "
    "FROC: mean recall at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false predictions per case, each the highest recall of all "
    "thresholds with at most as many; 0 if there is none."
)


def matched_instances(matching: Matching, minimum_iou: float = MATCHING_IOU) -> int:
    """The number of one-to-one matches of label and predicted instances: those of the largest sum of IoU.

    Args:
        matching: matching of one case and class.
        minimum_iou: IoU that a pair needs to match.

    Example:
        One predicted instance covers two lesions with an IoU of 1/3 each, and can match only one:

        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> matched_instances(match_instances(np.array([[1, 0, 1]]), np.array([[1, 1, 1]])))
        1
    """
    from scipy.optimize import linear_sum_assignment

    near = matching.iou >= minimum_iou
    labels, label = np.unique(matching.pairs[near, 0], return_inverse=True)
    predictions, predicted = np.unique(matching.pairs[near, 1], return_inverse=True)
    if labels.size == predictions.size == label.size:
        return int(label.size)
    iou = np.zeros((labels.size, predictions.size))
    iou[label, predicted] = matching.iou[near]
    return int(np.count_nonzero(iou[linear_sum_assignment(iou, maximize=True)]))


def count_at_thresholds(
    label: Array,
    probability: npt.NDArray[np.floating],
    thresholds: tuple[float, ...] = THRESHOLDS,
    overlap: float = 0.0,
) -> npt.NDArray[np.int64]:
    """Count the instances of one case and class at each threshold.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        probability: the same shape, floating point.
        thresholds: probabilities that a predicted voxel reaches or exceeds.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel. It has no effect on ``matched``.

    Returns:
        int64 (thresholds, 5), in the order of :data:`COUNTS`: the numbers of lesions, found lesions, predicted
        instances, false predicted instances, and one-to-one matches at the IoU :data:`MATCHING_IOU`.
    """
    label = as_mask(label, "label")
    active = probability >= min(thresholds, default=np.inf)
    box = bounding_box(label | active)
    label_ids, lesions = label_array(label[box])
    label_voxels = np.bincount(label_ids[label_ids > 0], minlength=lesions + 1)[1:]
    # Only the voxels at the lowest threshold matter, which are few, and fewer at each higher one.
    shape, voxels, values = label_ids.shape, np.flatnonzero(active[box]), probability[active]
    label_ids, packed = label_ids.ravel()[voxels], label_ids.size
    counts = np.zeros((len(thresholds), len(COUNTS)), np.int64)
    row: tuple[int, ...] | None = None
    for number in np.argsort(thresholds):
        reached = values >= thresholds[number]
        if row is None or not reached.all():  # else the mask is that of the threshold before
            voxels, label_ids, values = voxels[reached], label_ids[reached], values[reached]
            if voxels.size < packed / 2:
                voxels, shape = _without_gaps(voxels, shape)
                packed = voxels.size
            mask = np.zeros(shape, bool)
            mask.ravel()[voxels] = True
            ids, predicted = label_array(mask)
            matching = match_ids(label_ids, label_voxels, ids.ravel()[voxels], predicted, overlap, label.shape, box)
            found, false = matching.found_instances, matching.false_instances
            row = lesions, found, predicted, false, matched_instances(matching)
        counts[number] = row
    return counts


def _without_gaps(voxels: npt.NDArray[np.intp], shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], tuple[int, ...]]:
    """Flat indices of voxels in a smaller image with the same components, and its shape: of several empty planes in a
    row, one is enough to separate components."""
    places = []
    for axis in np.unravel_index(voxels, shape):
        kept = np.zeros(axis.max(initial=0) + 1, bool)
        kept[axis] = True
        kept[1:] |= kept[:-1]
        places.append((np.cumsum(kept) - 1)[axis])
    shape = tuple(int(place.max(initial=0)) + 1 for place in places)
    return np.ravel_multi_index(places, shape), shape


def lesion_average_precision(matched: npt.ArrayLike, predicted: npt.ArrayLike, lesions: npt.ArrayLike) -> FloatArray:
    """Lesion-wise average precision: the area under precision over recall, from the counts at each threshold.

    Precision is ``matched / predicted``, recall is ``matched / lesions``. As in PASCAL VOC since 2010, the precision at
    a recall is the highest one at this or any higher recall. At a recall that no threshold reaches it is 0.

    Args:
        matched: (..., T), number of one-to-one matches at each threshold, in any order, over all cases.
        predicted: (..., T), number of predicted instances at each threshold.
        lesions: (...), number of lesions.

    Returns:
        float64 (...), in [0, 1]; NaN without lesions, 0 without predictions.

    Example:
        Two lesions. At the high threshold one of one instance matches, at the low threshold both match and two do not:

        >>> float(lesion_average_precision([1, 2], [1, 4], 2))  # (1 + 2 / 4) / 2
        0.75
    """
    matched, predicted = np.asarray(matched, float), np.asarray(predicted, float)
    lesions = np.asarray(lesions, float)[..., None]
    precision = np.divide(matched, predicted, out=np.zeros_like(matched), where=predicted > 0)
    recall = np.divide(matched, lesions, out=np.full_like(matched, np.nan), where=lesions > 0)
    order = np.argsort(recall, axis=-1)
    recall, precision = (np.take_along_axis(values, order, -1) for values in (recall, precision))
    best = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    area: FloatArray = (np.diff(recall, prepend=0, axis=-1) * best).sum(axis=-1)
    return area


def free_response_recall(
    false_per_case: npt.ArrayLike, recall: npt.ArrayLike, rates: tuple[float, ...] = FALSE_PER_CASE
) -> FloatArray:
    """The recall at given numbers of false instances per case on a free-response curve.

    It is the highest recall of all thresholds with at most this number of false instances per case. Instances with the
    same probability therefore count together, nothing is interpolated, a rate below those of all thresholds has a
    recall of 0, and a rate beyond them has the highest recall of all.

    Args:
        false_per_case: (..., T), number of false instances per case at each threshold, in any order.
        recall: (..., T), share of the lesions found at each threshold.
        rates: numbers of false instances per case, (R,).

    Returns:
        float64 (..., R); NaN where a recall is NaN.

    Example:
        >>> free_response_recall([0.5, 2, 16], [0.2, 0.6, 0.8], rates=(0.25, 1, 2, 64)).tolist()
        [0.0, 0.2, 0.6, 0.8]
    """
    false, found = np.asarray(false_per_case, float)[..., None, :], np.asarray(recall, float)[..., None, :]
    reached = np.where(false <= np.asarray(rates, float)[:, None], found, np.where(np.isnan(found), found, 0))
    highest: FloatArray = reached.max(axis=-1, initial=0)
    return highest


def threshold_curve(counts: npt.NDArray[np.int64], cases: int) -> dict[str, list[float]]:
    """Both scores and the free-response curve of one model and class.

    Args:
        counts: int64 (thresholds, 5), sum of :func:`count_at_thresholds` over the cases.
        cases: number of cases, including those without instances.

    Returns:
        Lists.

        - ``average_precision``: :func:`lesion_average_precision`, one number.
        - ``at``: :func:`free_response_recall` at :data:`FALSE_PER_CASE`; its mean is the FROC score.
        - ``false_per_case`` and ``sensitivity``: points of the curve from (0, 0), both ascending.

        Without lesions all but ``false_per_case`` are NaN.
    """
    lesions, found, predicted, false, matched = counts.T
    rates = false / max(cases, 1)
    recall = np.divide(found, lesions, out=np.full(len(counts), np.nan), where=lesions > 0)
    points = np.unique(rates)
    sensitivity = free_response_recall(rates, recall, tuple(points))
    return {
        "average_precision": [float(lesion_average_precision(matched, predicted, lesions[0]))],
        "at": free_response_recall(rates, recall).tolist(),
        "false_per_case": [0.0, *points.tolist()],
        "sensitivity": [0.0 if lesions[0] else np.nan, *sensitivity.tolist()],
    }
