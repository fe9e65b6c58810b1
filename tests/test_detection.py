"""Single instances, by size and FROC: by hand, against loops, and each empty case."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_ici.evaluation.detection import FALSE_PER_CASE, INSTANCE_COLUMNS, by_size, froc, instance_rows
from nnunet_ici.evaluation.matching import match_instances
from tests import reference_metrics as reference

nan = math.nan


def test_rows_by_hand():
    label = np.array([[1, 1, 0, 1, 0, 0, 0]])
    prediction = np.array([[1, 0, 0, 0, 0, 1, 1]])
    probability = np.array([[0.75, 0.25, 0.0, 0.5, 0.0, 0.5, 0.875]], np.float32)
    rows = instance_rows(match_instances(label, prediction), 2.0, probability)
    assert all(tuple(row) == INSTANCE_COLUMNS for row in rows)
    expected = [
        ("label", 1, 2, 4.0, 1, 2 / 3, 0.75),
        ("label", 2, 1, 2.0, 0, 0.0, nan),  # 0.5 there, but nothing is predicted
        ("predicted", 1, 1, 2.0, 1, nan, 0.75),
        ("predicted", 2, 2, 4.0, 0, nan, 0.875),
    ]
    for row, wanted in zip(rows, expected, strict=True):
        assert tuple(row.values()) == pytest.approx(wanted, nan_ok=True)
    without = instance_rows(match_instances(label, prediction))
    assert all(math.isnan(row["peak_probability"]) and row["size"] == row["voxels"] for row in without)


def test_a_lesion_gets_the_best_of_all_predictions_on_it():
    label, prediction = np.array([[1, 1, 1, 0, 1]]), np.array([[1, 0, 1, 1, 1]])
    probability = np.array([[0.875, 0.0, 0.5, 0.75, 0.625]], np.float32)
    peaks = [row["peak_probability"] for row in instance_rows(match_instances(label, prediction), 1.0, probability)]
    assert peaks == [0.875, 0.75, 0.875, 0.75]  # the right prediction's peak lies beside both lesions


def test_no_instance_gives_no_row():
    nothing = np.zeros((2, 3), bool)
    assert instance_rows(match_instances(nothing, nothing), 1.0, np.ones((2, 3), np.float32)) == []


def test_rows_against_loops(rng):
    for _ in range(20):
        label, prediction = rng.random((8, 7, 6)) < 0.1, rng.random((8, 7, 6)) < 0.1
        probability = rng.random(label.shape).astype(np.float32)
        rows = instance_rows(match_instances(label, prediction), 0.5, probability)
        lesions = [reference.whole(one, label.shape) for one in reference.components(label, corners=True)]
        predicted = [reference.whole(one, label.shape) for one in reference.components(prediction, corners=True)]
        expected = []
        for mask in lesions:
            peaks = [probability[other].max() for other in predicted if (other & mask).any()]
            expected.append(("label", 0.5 * mask.sum(), int(bool(peaks)), max(peaks, default=-1)))
        expected += [("predicted", 0.5 * m.sum(), int((m & label).any()), probability[m].max()) for m in predicted]
        found = [(row["kind"], row["size"], row["touched"], row["peak_probability"]) for row in rows]
        assert sorted((*row[:3], -1 if math.isnan(row[3]) else row[3]) for row in found) == sorted(expected)


def instance(kind, size=1.0, touched=1, peak=nan):
    return {"kind": kind, "size": size, "touched": touched, "peak_probability": peak}


def test_by_size_by_hand():
    rows = [
        instance("label", 1, 0),
        instance("label", 9.5, 1),
        instance("label", 10, 1),  # an edge belongs to the range above it
        instance("predicted", 5, 0),
        instance("predicted", 9, 1),
        instance("predicted", 100, 0),
    ]
    small, middle, large = by_size(rows, [10, 100])
    assert small == {
        "from": 0,
        "to": 10,
        "label": 2,
        "found": 1,
        "missed": 1,
        "false": 1,
        "recall": 0.5,
        "precision": 0.5,
        "f1": 0.5,
    }
    assert (middle["recall"], middle["precision"], middle["f1"]) == (1, 1, 1)
    assert (large["precision"], large["f1"], large["to"]) == (0, 0, math.inf) and math.isnan(large["recall"])


def test_recall_precision_and_f1_by_size_are_of_one_matching(rng):
    """A small prediction on a large lesion leaves no precision of 0 beside an F1 above 0 among the small ones."""
    rows = [
        instance("label", 5, 1),
        instance("label", 50, 1),
        instance("predicted", 5, 0),
        instance("predicted", 50, 1),
    ]
    small, large = by_size(rows, [10])
    assert (small["recall"], small["precision"], small["f1"]) == (1, 0.5, pytest.approx(2 / 3))
    assert (large["recall"], large["precision"], large["f1"]) == (1, 1, 1)
    for _ in range(50):
        rows = [
            instance(rng.choice(["label", "predicted"]), float(size), int(rng.integers(2)))
            for size in rng.integers(1, 50, size=rng.integers(1, 30))
        ]
        for group in by_size(rows, [10, 20]):
            recall, precision = group["recall"], group["precision"]
            if group["found"]:
                assert group["f1"] == pytest.approx(2 * recall * precision / (recall + precision))
            else:
                assert not group["f1"] > 0


def test_by_size_of_nothing():
    (group,) = by_size([], [])
    assert (group["from"], group["to"], group["label"], group["false"]) == (0, math.inf, 0, 0)
    assert all(math.isnan(group[key]) for key in ("recall", "precision", "f1"))


def test_every_instance_is_in_one_range(rng):
    rows = [
        instance(rng.choice(["label", "predicted"]), float(size), int(rng.integers(2)))
        for size in rng.integers(1, 50, size=200)
    ]
    groups, (whole,) = by_size(rows, [5, 10, 20]), by_size(rows, [])
    for key in ("label", "found", "missed", "false"):
        assert sum(group[key] for group in groups) == whole[key]


def test_froc_by_hand():
    rows = [
        instance("label", touched=1, peak=0.9),
        instance("label", touched=1, peak=0.5),
        instance("label", touched=0),
        instance("label", touched=1, peak=0.2),
        instance("predicted", touched=1, peak=0.9),  # touches a lesion: neither false nor counted twice
        instance("predicted", touched=0, peak=0.7),
        instance("predicted", touched=0, peak=0.3),
    ]
    curve = froc(rows, cases=4)
    assert curve["false_per_case"] == [0, 0, 0.25, 0.25, 0.5, 0.5]
    assert curve["sensitivity"] == [0, 0.25, 0.25, 0.5, 0.5, 0.75]
    assert FALSE_PER_CASE == (0.125, 0.25, 0.5, 1, 2, 4, 8)
    assert curve["at"] == [0.25, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]


def test_a_tie_drops_all_at_once():
    rows = [instance("label", touched=1, peak=0.5), instance("predicted", touched=0, peak=0.5)]
    curve = froc(rows, cases=1)
    assert (curve["false_per_case"], curve["sensitivity"]) == ([0, 1], [0, 1])
    assert curve["at"] == [0, 0, 0, 1, 1, 1, 1]


def test_cases_without_instances_count():
    rows = [instance("label", touched=1, peak=0.5), instance("predicted", touched=0, peak=0.5)]
    assert froc(rows, cases=8)["false_per_case"] == [0, 0.125]


def test_froc_without_lesions():
    curve = froc([instance("predicted", touched=0, peak=0.5)], cases=1)
    assert curve["false_per_case"] == [0, 1]
    assert all(map(math.isnan, curve["sensitivity"])) and all(map(math.isnan, curve["at"]))


def test_froc_without_candidates():
    curve = froc([instance("label", touched=0)], cases=3)
    assert (curve["false_per_case"], curve["sensitivity"], curve["at"]) == ([0], [0], [0] * len(FALSE_PER_CASE))
    nothing = froc([], cases=0)
    assert nothing["false_per_case"] == [0] and all(map(math.isnan, nothing["at"]))


def test_froc_is_what_dropping_the_less_certain_leaves(rng):
    """Each point, computed again by matching only the predictions that are certain enough."""
    rows, images = [], []
    for _ in range(5):
        label = rng.random((12, 12)) < 0.08
        prediction = label & (rng.random(label.shape) < 0.6) | (rng.random(label.shape) < 0.04)
        probability = np.round(rng.random(label.shape), 1).astype(np.float32)
        images.append((label, prediction, probability))
        rows += instance_rows(match_instances(label, prediction), 1.0, probability)
    curve = froc(rows, cases=5)
    points = []
    levels = sorted({np.float32(row["peak_probability"]) for row in rows if row["kind"] == "predicted"}, reverse=True)
    for level in levels:
        found = false = lesions = 0
        for label, prediction, probability in images:
            kept = np.zeros_like(prediction)
            for one in reference.components(prediction, corners=True):
                mask = reference.whole(one, label.shape)
                kept |= mask & (probability[mask].max() >= level)
            counts = reference.found_missed_false(label, kept, corners=True)
            found, false, lesions = found + counts[0], false + counts[2], lesions + counts[0] + counts[1]
        points.append((false / 5, found / lesions))
    assert [(0, 0), *dict.fromkeys(points)] == list(
        dict.fromkeys(zip(curve["false_per_case"], curve["sensitivity"], strict=True))
    )
