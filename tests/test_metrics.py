"""The metrics of one case: by hand on a few voxels, each empty case, and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import (
    dice,
    instance_dice,
    lesion_count_difference,
    lesion_dice,
    lesion_f1,
    lesion_precision,
    lesion_recall,
    panoptic_quality,
    pr_auc,
    volume_difference,
)
from tests import reference_metrics as reference
from tests.panoptica_values import CASES, VALUES, masks


def matched(label, prediction):
    """The matching of two rows of voxels, the same in each of three shapes."""
    matchings = [
        match_instances(np.array(label).reshape(shape), np.array(prediction).reshape(shape))
        for shape in ((1, -1), (-1, 1), (1, 1, -1))
    ]
    counts = {(m.found_instances, m.missed_instances, m.predicted_instances, m.false_instances) for m in matchings}
    assert len(counts) == 1
    return matchings[0]


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        ([1, 1], [1, 0], 2 / 3),
        ([1, 0], [0, 1], 0),
        ([1, 1], [1, 1], 1),
        ([0, 0], [0, 0], 1),  # by convention
        ([0, 0], [0, 1], 0),
        ([1, 0], [0, 0], 0),
    ],
)
def test_dice_of_two_voxels(label, prediction, expected):
    assert dice(np.array([label]), np.array([prediction])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [([1, 1], [1, 0], 1), ([1, 0], [0, 1], 0), ([0, 0], [1, 1], 2), ([1, 1], [0, 0], 2), ([0, 0], [0, 0], 0)],
)
def test_volume_difference_of_two_voxels(label, prediction, expected):
    label, prediction = np.array([label]), np.array([prediction])
    assert volume_difference(label, prediction) == expected
    assert volume_difference(prediction, label) == expected


def test_the_prediction_is_not_subtracted_from_itself():
    """The ATLAS challenge's container does so for a single image, and returns 0 for every label."""
    label, prediction = np.array([[1, 1, 1]], np.uint8), np.array([[1, 0, 0]], np.uint8)
    assert volume_difference(label, prediction) == 2
    assert volume_difference(prediction, label) == 2  # nor does uint8 wrap around below 0


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        ([1, 0, 1], [1, 0, 0], 2 / 3),  # one found, one missed
        ([1, 0, 1], [1, 1, 1], 1),  # one prediction over two lesions finds both
        ([1, 1, 1], [1, 0, 1], 1),  # two predictions on one lesion: none is false
        ([1, 0, 0], [0, 0, 1], 0),
        ([1, 0, 0], [1, 0, 1], 2 / 3),  # one found, one false
        ([0, 0, 0], [0, 0, 0], 1),  # by convention
        ([0, 0, 0], [1, 0, 0], 0),
        ([1, 0, 0], [0, 0, 0], 0),
    ],
)
def test_lesion_f1_by_hand(label, prediction, expected):
    assert lesion_f1(matched(label, prediction)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("label", "prediction", "difference", "recall", "precision"),
    [
        ([1, 0, 1], [1, 0, 0], 1, 0.5, 1),
        ([1, 0, 0], [1, 0, 1], 1, 1, 0.5),
        ([1, 0, 0], [0, 0, 1], 0, 0, 0),  # as many, elsewhere
        ([0, 0, 0], [1, 0, 1], 2, math.nan, 0),
        ([1, 0, 1], [0, 0, 0], 2, 0, math.nan),
        ([0, 0, 0], [0, 0, 0], 0, math.nan, math.nan),
    ],
)
def test_counts_recall_and_precision_by_hand(label, prediction, difference, recall, precision):
    matching = matched(label, prediction)
    assert lesion_count_difference(matching) == difference
    assert lesion_recall(matching) == pytest.approx(recall, nan_ok=True)
    assert lesion_precision(matching) == pytest.approx(precision, nan_ok=True)


@pytest.mark.parametrize(
    ("label", "prediction", "each", "expected"),
    [
        ([1, 1, 0, 0], [1, 0, 0, 0], [2 / 3], 2 / 3),
        ([1, 1, 0, 0], [1, 0, 0, 1], [2 / 3], 1 / 3),  # a false one counts 0
        ([1, 1, 0, 1], [1, 0, 0, 0], [2 / 3, 0], 1 / 3),  # a missed one too
        ([1, 0, 1, 1], [1, 1, 1, 1], [2 / 5, 4 / 6], (2 / 5 + 4 / 6) / 2),  # each with the whole prediction
        ([1, 1, 1, 0], [1, 0, 1, 0], [4 / 5], 4 / 5),  # with both parts of it
        ([0, 0, 0, 0], [0, 1, 0, 0], [], 0),
        ([0, 1, 0, 0], [0, 0, 0, 0], [0], 0),
        ([0, 0, 0, 0], [0, 0, 0, 0], [], 1),  # by convention
    ],
)
def test_lesion_dice_by_hand(label, prediction, each, expected):
    matching = matched(label, prediction)
    np.testing.assert_allclose(instance_dice(matching), each)
    assert lesion_dice(matching) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("label", "probability", "expected"),
    [
        ([1, 0], [0.9, 0.1], 1),
        ([1, 0], [0.1, 0.9], 1 / 2),
        ([1, 0], [0.5, 0.5], 1 / 2),  # a tie counts at once
        ([1, 0, 1], [0.9, 0.8, 0.7], (1 + 2 / 3) / 2),
        ([1, 1], [0.0, 0.0], 1),
        ([0, 0], [0.9, 0.1], math.nan),
    ],
)
def test_pr_auc_by_hand(label, probability, expected):
    found = pr_auc(np.array(label), np.array(probability, np.float32))
    assert found == pytest.approx(expected, nan_ok=True)


def test_pr_auc_is_that_of_scikit_learn(rng):
    for _ in range(60):
        label = rng.random((9, 11)) < rng.choice([0.02, 0.3, 0.9])
        label[0, 0] = True
        probability = np.round(rng.random((9, 11)), rng.integers(1, 4)).astype(np.float32)  # with ties
        found = pr_auc(label, probability)
        assert found == pytest.approx(average_precision_score(label.ravel(), probability.ravel()), abs=1e-12)
        assert found == pytest.approx(reference.average_precision(label, probability), abs=1e-12)


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 0], 3 / 4),
        ([1, 1, 0, 0], [1, 0, 0, 0], 1 / 2),  # an IoU of 0.5 is a match
        ([1, 1, 1, 0], [1, 0, 0, 0], 0),  # an IoU of 1 / 3 is not
        ([1, 1, 0, 1], [1, 1, 0, 0], 1 / (1 + 1 / 2)),
        ([1, 1, 0, 0], [1, 1, 0, 1], 1 / (1 + 1 / 2)),
        ([0, 0, 0, 0], [0, 0, 0, 0], 1),  # by convention
        ([0, 0, 0, 0], [1, 0, 0, 0], 0),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0),
    ],
)
def test_panoptic_quality_by_hand(label, prediction, expected):
    found = panoptic_quality(matched(label, prediction))
    assert found == pytest.approx(expected)
    label, prediction = np.array([label], bool), np.array([prediction], bool)
    assert reference.panoptic_quality(label, prediction) == pytest.approx(expected)


def test_panoptic_quality_is_that_of_panoptica():
    assert len(VALUES) == CASES
    for case, expected in enumerate(VALUES):
        assert panoptic_quality(match_instances(*masks(case))) == pytest.approx(expected, abs=1e-12), case


@pytest.mark.parametrize("axes", [2, 3])
def test_panoptic_quality_and_lesion_dice_against_loops(axes, rng):
    between = 0
    for _ in range(60):
        shape = tuple(rng.integers(1, 16 if axes == 2 else 8, size=axes))
        label = rng.random(shape) < rng.choice([0, 0.1, 0.25])
        prediction = np.logical_xor(label, rng.random(shape) < rng.choice([0, 0.03, 0.2]))
        matching = match_instances(label, prediction)
        quality = panoptic_quality(matching)
        assert quality == pytest.approx(reference.panoptic_quality(label, prediction), abs=1e-9)
        assert lesion_dice(matching) == pytest.approx(reference.lesion_dice(label, prediction), abs=1e-9)
        between += 0 < quality < 1
    assert between > 10


def test_errors():
    mask = np.zeros((3, 3), bool)
    for metric in (dice, volume_difference):
        with pytest.raises(ValueError, match=r"differ in shape\. Expected: \(3, 3\), as the label\. Got: \(3, 4\)"):
            metric(mask, np.zeros((3, 4), bool))
        with pytest.raises(TypeError, match=r"prediction is not a mask.*Got: dtype float32"):
            metric(mask, mask.astype(np.float32))
        with pytest.raises(ValueError, match=r"label is not a mask.*Got: values 0, 2"):
            metric(2 * np.eye(2, dtype=int), np.eye(2, dtype=int))
    with pytest.raises(ValueError, match=r"label and probability differ in shape\. Expected: \(3, 3\).*Got: \(9,\)"):
        pr_auc(mask, np.zeros(9))
