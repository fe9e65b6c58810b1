"""Matching by hand, against loops on random volumes, and its errors; summaries over cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from nnunet_ici.evaluation.families import METRICS, metrics_of
from nnunet_ici.evaluation.matching import as_mask, match_instances
from nnunet_ici.evaluation.summary import group_rows, read_rows, summarise, write_rows
from tests import reference_metrics as reference


@pytest.mark.parametrize("faces", [False, True])
@pytest.mark.parametrize("axes", [2, 3])
def test_random_volumes_against_loops(axes, faces, rng):
    for _ in range(60):
        shape = rng.integers(1, 24 if axes == 2 else 10, size=axes)
        label, prediction = (rng.random(shape) < rng.choice([0, 0.05, 0.3]) for _ in range(2))
        matching = match_instances(label, prediction, faces)
        found, missed, false = reference.found_missed_false(label, prediction, corners=not faces)
        assert (matching.found_instances, matching.missed_instances, matching.false_instances) == (found, missed, false)
        lesions, predicted = (
            [reference.whole(component, label.shape) for component in reference.components(mask, corners=not faces)]
            for mask in (label, prediction)
        )
        assert (matching.label_instances, matching.predicted_instances) == (len(lesions), len(predicted))
        assert sorted(matching.label_voxels) == sorted(mask.sum() for mask in lesions)
        assert sorted(matching.predicted_voxels) == sorted(mask.sum() for mask in predicted)
        overlaps = [(lesion & mask).sum() for lesion in lesions for mask in predicted if (lesion & mask).any()]
        assert sorted(matching.shared_voxels) == sorted(overlaps)
        missed_mask = np.zeros_like(label)
        for lesion in lesions:
            missed_mask |= lesion & (not (lesion & prediction).any())
        np.testing.assert_array_equal(matching.missed_mask(), missed_mask)
        false_mask = np.zeros_like(label)
        for mask in predicted:
            false_mask |= mask & (not (mask & label).any())
        np.testing.assert_array_equal(matching.false_mask(), false_mask)


def test_ids_sizes_and_pairs_agree(rng):
    label, prediction = rng.random((20, 22)) < 0.2, rng.random((20, 22)) < 0.2
    matching = match_instances(label, prediction)
    for number, voxels in enumerate(matching.label_voxels, start=1):
        assert (matching.label_ids == number).sum() == voxels
    for number, voxels in enumerate(matching.predicted_voxels, start=1):
        assert (matching.predicted_ids == number).sum() == voxels
    for (one, other), shared in zip(matching.pairs, matching.shared_voxels, strict=True):
        assert ((matching.label_ids == one) & (matching.predicted_ids == other)).sum() == shared
    assert matching.pairs.tolist() == sorted(map(list, {tuple(pair) for pair in matching.pairs.tolist()}))
    np.testing.assert_array_equal(matching.label_ids > 0, label[matching.box])


def test_corners_connect_and_with_faces_they_do_not():
    diagonal = np.eye(2, dtype=bool)
    nothing = np.zeros_like(diagonal)
    assert match_instances(diagonal, nothing).label_instances == 1
    assert match_instances(diagonal, nothing, faces=True).label_instances == 2
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert match_instances(corner, ~corner).label_instances == 1
    assert match_instances(corner, ~corner, faces=True).label_instances == 2
    edge = np.zeros((2, 2, 2), bool)
    edge[0, 0, 0] = edge[0, 1, 1] = True
    assert [match_instances(edge, edge, faces).label_instances for faces in (False, True)] == [1, 2]


def test_touching_needs_a_shared_voxel():
    matching = match_instances(np.array([[1, 0]]), np.array([[0, 1]]))  # only neighbors
    assert (matching.missed_instances, matching.false_instances) == (1, 1)
    assert matching.pairs.shape == (0, 2) and matching.shared_voxels.shape == (0,)


def test_two_empty_masks():
    matching = match_instances(np.zeros((3, 4), bool), np.zeros((3, 4), bool))
    assert matching.label_instances == matching.predicted_instances == matching.missed_instances == 0
    assert matching.missed_mask().shape == (3, 4) and not matching.missed_mask().any()


def test_errors():
    mask = np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match=r"differ in shape\. Expected: \(3, 3\), as the label\. Got: \(3, 4\)"):
        match_instances(mask, np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match=r"label is not an image\. Expected: 2 or 3 dimensions\. Got: shape \(3,\)"):
        match_instances(mask[0], mask[0])
    with pytest.raises(TypeError, match=r"prediction is not a mask.*Got: dtype float32"):
        match_instances(mask, mask.astype(np.float32))
    with pytest.raises(ValueError, match=r"label is not a mask.*Got: values 0, 2"):
        match_instances(2 * np.eye(2, dtype=int), np.eye(2, dtype=int))
    assert as_mask(np.eye(2, dtype=int), "label").dtype == bool


PAPER = metrics_of(["paper"])


def row(model, case, dsc, missed, false, name="lesion"):
    values = dict(zip((metric.name for metric in PAPER), (dsc, 5, missed, 4, false, 0, 0), strict=True))
    return {"model": model, "case": case, "class": name, **values}


def test_summary_by_hand():
    rows = [row("a", "1", 0.5, 2, 0), row("a", "2", 0.75, 0, 0), row("b", "1", 1.0, 3, 1), row("b", "2", 1.0, 0, 0)]
    summary = summarise(rows, PAPER)
    assert list(summary) == ["a", "b"] and summary["a"]["lesion"]["cases"] == {"total": 2}
    assert summary["a"]["lesion"]["dice"] == {
        "cases": 2,
        "mean": 0.625,
        "median": 0.625,
        "sd": pytest.approx(0.125 * math.sqrt(2)),
    }
    missed = summary["b"]["lesion"]["missed_instances"]
    assert (missed["total"], missed["cases_with"], missed["mean"], missed["median"]) == (3, 1, 1.5, 1.5)
    assert summary["a"]["lesion"]["label_instances"]["total"] == 10


def test_nan_is_left_out_of_a_summary():
    recall = [METRICS["lesion_recall"]]
    rows = [{"model": "a", "case": str(n), "class": "x", "lesion_recall": v} for n, v in enumerate([math.nan, 0.5])]
    statistics = summarise(rows, recall)["a"]["x"]["lesion_recall"]
    assert statistics["cases"] == 1 and statistics["mean"] == statistics["median"] == 0.5
    assert math.isnan(statistics["sd"])
    nothing = summarise(rows[:1], recall)["a"]["x"]
    assert nothing["cases"] == {"total": 1} and nothing["lesion_recall"]["cases"] == 0
    assert math.isnan(nothing["lesion_recall"]["mean"]) and math.isnan(nothing["lesion_recall"]["median"])
    assert summarise([], recall) == {}


def test_rows_survive_their_file(tmp_path):
    rows = [row("a|b", "01", 1 / 3, 2, 0), row('c,"d"', "2", math.nan, 0, 0, name="core")]
    write_rows(tmp_path / "cases.csv", rows, [metric.name for metric in PAPER])
    again = read_rows(tmp_path / "cases.csv")
    assert math.isnan(again[1].pop("dice")) and math.isnan(rows[1].pop("dice"))
    assert again == rows and isinstance(again[0]["missed_instances"], int)  # the case 01 is no number
    assert json.dumps(list(group_rows(again))) == json.dumps(["a|b", 'c,"d"'])


def test_tables_that_cannot_be_read(tmp_path):
    path = tmp_path / "cases.csv"
    with pytest.raises(ValueError, match=r"cases\.csv cannot be read\. Expected: a table of nnunet_ici evaluate\."):
        read_rows(path)
    path.write_text("model,case,class,dice\na,1,x,much\n")
    with pytest.raises(ValueError, match=r"cases\.csv cannot be read.*Got: could not convert string to float: .much."):
        read_rows(path)


def test_faces_are_those_of_scipy(rng):
    mask = rng.random((9, 8, 7)) < 0.4
    assert match_instances(mask, mask, faces=True).label_instances == ndimage.label(mask)[1]
    assert match_instances(mask, mask).label_instances == ndimage.label(mask, np.ones((3, 3, 3)))[1]
