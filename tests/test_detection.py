"""Single instances, by size, and floods: by hand, against loops, and each empty case."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_ici.evaluation.detection import INSTANCE_COLUMNS, by_size, flood_warnings, instance_rows
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
        ("label", 1, 2, 4.0, 1, nan, 2 / 3, 0.75),
        ("label", 2, 1, 2.0, 0, nan, 0.0, nan),  # 0.5 there, but nothing is predicted
        ("predicted", 1, 1, 2.0, 1, 1.0, nan, 0.75),
        ("predicted", 2, 2, 4.0, 0, 0.0, nan, 0.875),
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
        found = [(row["kind"], row["size"], row["found"], row["peak_probability"]) for row in rows]
        assert sorted((*row[:3], -1 if math.isnan(row[3]) else row[3]) for row in found) == sorted(expected)


def instance(kind, size=1.0, found=1):
    return {"kind": kind, "size": size, "found": found}


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


def flood(case, label, predicted, model="A", share=0.0004):
    rows = [
        instance("label", label),
        instance("predicted", predicted) | {"lesion_share": share, "overlaps": "1:2 2:1 4:1", "id": 7},
    ]
    return [{"model": model, "case": case, "class": "lesion", **row} for row in rows]


def test_floods_are_named():
    rows = [
        *flood("one", 2, 8000),
        *flood("two", 10, 100),
        *flood("three", 10, 101, share=0.5),
        *flood("one", 5, 6, "B", 1),
    ]
    assert flood_warnings(rows, "mm3") == [
        "A: predicted volume above 10 times the label's in 2 cases, as in one: 8,000 mm3 for 2 mm3; "
        "2 components of which less than a tenth is lesion; component 7 of one covers 3 lesions, 0.04 % of it is lesion"
    ]
    (ten_times,) = flood_warnings([row for row in rows if row["case"] == "two"], "mm3")  # is not above
    assert ten_times.startswith(
        "A: 1 component of which less than a tenth is lesion; component 7 of two covers 3 lesions"
    )
    assert flood_warnings(flood("one", 10, 99, share=0.1), "mm3") == []
    (nothing_to_flood,) = flood_warnings([row for row in rows[:2] if row["kind"] == "predicted"], "mm3")
    assert "volume" not in nothing_to_flood
    assert flood_warnings([], "mm3") == []
    old = [{name: value for name, value in row.items() if name not in ("lesion_share", "overlaps")} for row in rows[:2]]
    assert flood_warnings(old, "mm3") == [
        "A: predicted volume above 10 times the label's in 1 case, as in one: 8,000 mm3 for 2 mm3"
    ]
    (large,) = flood_warnings(flood("one", 1.25, 1.0011e6, share=1), "mm3")
    assert large.endswith("as in one: 1,001,100 mm3 for 1.25 mm3")
    classes = flood_warnings([*rows, *(row | {"class": "core"} for row in flood("one", 1, 1, share=1))], "mm3")
    assert len(classes) == 1 and classes[0].startswith("A, lesion: predicted volume")
