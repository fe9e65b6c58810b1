"""Lesion-wise average precision and free-response recall: by hand, and against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_ici.evaluation.average_precision import (
    COUNTS,
    FALSE_PER_CASE,
    THRESHOLDS,
    count_at_thresholds,
    free_response_recall,
    lesion_average_precision,
    matched_instances,
    threshold_curve,
)
from nnunet_ici.evaluation.matching import match_instances
from tests import reference_metrics as reference


def average_precision(label, probability):
    counts = dict(zip(COUNTS, count_at_thresholds(label, probability).T, strict=True))
    return float(lesion_average_precision(counts["matched"], counts["predicted"], counts["lesions"][0]))


def test_thresholds_are_even_in_the_logit():
    logits = np.log(THRESHOLDS) - np.log1p(-np.array(THRESHOLDS))
    assert np.diff(logits) == pytest.approx(0.5) and 0.5 in THRESHOLDS
    assert THRESHOLDS[0] < 0.02 and THRESHOLDS[-1] > 0.99998


def test_by_hand():
    label = np.array([[1, 0, 1, 0, 1, 0, 0, 0]])
    probability = np.array([[0.999, 0.0, 0.7, 0.0, 0.0, 0.0, 0.9, 0.0]])
    # above 0.9: 1 of 1; above 0.7: 1 of 2; below: 2 of 3; the third lesion is never reached
    counts = count_at_thresholds(label, probability, thresholds=(0.6, 0.8, 0.99))
    assert counts.tolist() == [[3, 2, 3, 1, 2], [3, 1, 2, 1, 1], [3, 1, 1, 0, 1]]
    assert average_precision(label, probability) == pytest.approx((1 + 2 / 3) / 3)


def test_a_perfect_prediction_and_none():
    label = np.array([[1, 0, 1]])
    assert average_precision(label, 0.9 * label) == 1
    assert average_precision(label, 0.0 * label) == 0
    assert math.isnan(average_precision(0 * label, 0.9 * label))


def test_a_flood_wins_nothing():
    """4,000 times the lesion's volume at every threshold: found at any overlap, never matched."""
    label, probability = np.zeros((20, 20, 22), bool), np.zeros((20, 20, 22))
    label[0, 0, :2] = True
    probability[:, :, 1:21] = 1
    assert count_at_thresholds(label, probability).tolist() == [[1, 1, 1, 0, 0]] * len(THRESHOLDS)
    assert average_precision(label, probability) == 0
    assert count_at_thresholds(label, probability, (0.5,), overlap=0.1).tolist() == [[1, 0, 1, 1, 0]]


def test_matches_are_one_to_one():
    """Two components on one lesion match once, and one component on two lesions matches one."""
    assert matched_instances(match_instances(np.array([[1, 1, 1]]), np.array([[1, 0, 1]]))) == 1
    assert matched_instances(match_instances(np.array([[1, 0, 1]]), np.array([[1, 1, 1]]))) == 1
    # IoU 1/11 is too low, 1/10 is enough
    label = np.array([[1] + [0] * 10])
    assert [matched_instances(match_instances(label, np.arange(11)[None] < n)) for n in (11, 10)] == [0, 1]


def test_matches_have_the_largest_sum_of_iou(rng):
    for _ in range(100):
        label, prediction = rng.random((12, 12)) < 0.25, rng.random((12, 12)) < 0.25
        lesions, predicted = (
            [reference.whole(one, mask.shape) for one in reference.components(mask, corners=True)]
            for mask in (label, prediction)
        )
        iou = np.array([[(a & b).sum() / (a | b).sum() for b in predicted] for a in lesions])
        assert matched_instances(match_instances(label, prediction)) == best_assignment(np.where(iou < 0.1, 0, iou))[1]


def best_assignment(iou):
    """The largest sum of IoU over one-to-one pairs, and the number of its pairs above 0, lesion by lesion."""
    if not iou.size:
        return 0, 0
    first, rest = iou[0], iou[1:]
    options = [best_assignment(rest)]
    for at in np.flatnonzero(first):
        total, pairs = best_assignment(np.delete(rest, at, axis=1))
        options.append((total + first[at], pairs + 1))
    return max(options)


def test_precision_is_the_highest_at_this_or_a_higher_recall():
    matched, predicted = [1, 2, 3], [4, 4, 6]  # precision 1/4, 1/2, 1/2 at recall 1/4, 1/2, 3/4
    assert lesion_average_precision(matched, predicted, 4) == pytest.approx(0.75 * 0.5)
    order = [2, 0, 1]
    assert lesion_average_precision(np.take(matched, order), np.take(predicted, order), 4) == pytest.approx(0.75 * 0.5)
    several = lesion_average_precision([matched, [0, 0, 0]], [predicted, [5, 0, 0]], [4, 0])
    assert several[0] == pytest.approx(0.75 * 0.5) and math.isnan(several[1])


def test_it_means_the_same_with_one_lesion_and_with_ninety():
    for lesions in (1, 90):
        assert lesion_average_precision([lesions], [2 * lesions], lesions) == 0.5


def test_free_response_recall_by_hand():
    assert FALSE_PER_CASE == (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    # at 1/8 no threshold has so few; a tie at 1/4; at 1 the higher recall of fewer false ones; beyond 2 the highest
    recall = free_response_recall([0.25, 0.25, 0.5, 1, 2], [0.1, 0.2, 0.4, 0.3, 0.6])
    assert recall.tolist() == [0, 0.2, 0.4, 0.4, 0.6, 0.6, 0.6]
    assert np.isnan(free_response_recall([0, 1], [math.nan, math.nan])).all()
    assert free_response_recall([[0, 1], [4, 8]], [[0.5, 1], [0.5, 1]], (0.5, 6)).tolist() == [[0.5, 1], [0, 0.5]]


def test_the_curve_by_hand():
    """Counts of 4 cases with 4 lesions at four thresholds, the highest last."""
    counts = [(4, 3, 8, 4, 2), (4, 3, 5, 2, 2), (4, 2, 2, 0, 1), (4, 1, 1, 0, 1)]
    curve = threshold_curve(np.array(counts), cases=4)
    assert curve["false_per_case"] == [0, 0, 0.5, 1] and curve["sensitivity"] == [0, 0.5, 0.75, 0.75]
    assert curve["at"] == [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]
    assert curve["average_precision"] == [pytest.approx(0.25 * 1 + 0.25 * 2 / 5)]


def test_the_curve_without_lesions_and_without_predictions():
    nothing = threshold_curve(np.zeros((3, 5), int), cases=2)
    assert all(map(math.isnan, [*nothing["average_precision"], *nothing["at"], *nothing["sensitivity"]]))
    missed = threshold_curve(np.array([[3, 0, 0, 0, 0]]), cases=2)
    assert missed["average_precision"] == [0] and missed["at"] == [0] * 7 and missed["sensitivity"] == [0, 0]


def test_counts_are_those_of_each_threshold(rng):
    """Each row, from the masks; equal masks in a row are counted once, which must not show."""
    label = rng.random((10, 11)) < 0.1
    probability = np.round(rng.random(label.shape) ** 3, 1)
    thresholds = (0.05, 0.1, 0.3, 0.35, 0.4, 0.9, 1.0)
    for threshold, counts in zip(thresholds, count_at_thresholds(label, probability, thresholds).tolist(), strict=True):
        found, missed, false = reference.found_missed_false(label, probability >= threshold, corners=True)
        predicted = len(reference.components(probability >= threshold, corners=True))
        assert counts[:4] == [found + missed, found, predicted, false]
