"""Matching and metrics: by hand on two voxels, against loops on random volumes, and their errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import METRICS, dice, evaluate_case, lesion_f1
from nnunet_ici.evaluation.tables import markdown_table, summarise


def naive(label, prediction):
    """Missed and false instances, one after the other."""
    ones = np.ones((3,) * label.ndim)
    (label_ids, labels), (pred_ids, preds) = ndimage.label(label, ones), ndimage.label(prediction, ones)
    missed = sum(not (prediction & (label_ids == n)).any() for n in range(1, labels + 1))
    false = sum(not (label & (pred_ids == m)).any() for m in range(1, preds + 1))
    return labels, missed, preds, false


@pytest.mark.parametrize("axes", [2, 3])
def test_random_volumes_against_loops(axes, rng):
    for _ in range(60):
        shape = rng.integers(1, 24 if axes == 2 else 10, size=axes)
        label, prediction = (rng.random(shape) < rng.choice([0, 0.05, 0.3]) for _ in range(2))
        matching = match_instances(label, prediction)
        found = (
            matching.label_instances,
            matching.missed_instances,
            matching.predicted_instances,
            matching.false_instances,
        )
        assert found == naive(label, prediction)
        ids = ndimage.label(label, np.ones((3,) * axes))[0]
        missed = [n for n in range(1, ids.max() + 1) if not (prediction & (ids == n)).any()]
        np.testing.assert_array_equal(matching.missed_mask(), np.isin(ids, missed))
        parts = matching.found_mask(), matching.false_mask()
        np.testing.assert_array_equal(parts[0] | parts[1], prediction)
        assert not (parts[0] & parts[1]).any()


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
    for shape in ((1, 3), (3, 1), (1, 1, 3)):
        matching = match_instances(np.array(label).reshape(shape), np.array(prediction).reshape(shape))
        assert lesion_f1(matching) == pytest.approx(expected)


def test_corners_connect():
    diagonal = np.eye(2, dtype=bool)
    assert match_instances(diagonal, np.zeros_like(diagonal)).label_instances == 1
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert match_instances(corner, ~corner).label_instances == 1


def test_touching_needs_a_shared_voxel():
    matching = match_instances(np.array([[1, 0]]), np.array([[0, 1]]))  # neighbours, and no more
    assert (matching.missed_instances, matching.false_instances) == (1, 1)


def test_all_metrics_of_a_case():
    values = evaluate_case(np.array([[1, 0, 1, 0, 0]]), np.array([[1, 0, 0, 0, 1]]))
    assert tuple(values) == METRICS
    assert list(values.values()) == [0.5, 2, 1, 2, 1, 0.5]


def test_errors():
    mask = np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match=r"differ in shape\. Expected: \(3, 3\), as the label\. Got: \(3, 4\)"):
        evaluate_case(mask, np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match=r"label is no image\. Expected: 2 or 3 dimensions\. Got: shape \(3,\)"):
        match_instances(mask[0], mask[0])
    with pytest.raises(TypeError, match=r"prediction is not a mask.*Got: dtype float32"):
        evaluate_case(mask, mask.astype(np.float32))
    with pytest.raises(ValueError, match=r"label is not a mask.*Got: values 0, 2"):
        dice(2 * np.eye(2, dtype=int), np.eye(2, dtype=int))


def row(model, case, dsc, missed, false, name="lesion"):
    values = dict(zip(METRICS, (dsc, 5, missed, 4, false, dsc / 2), strict=True))
    return {"model": model, "case": case, "class": name, **values}


def test_summary_and_table():
    rows = [row("a", "1", 0.5, 2, 0), row("a", "2", 0.75, 0, 0), row("b", "1", 1.0, 3, 1), row("b", "2", 1.0, 0, 0)]
    summary = summarise(rows)
    assert summary["a"]["lesion"]["paper.dsc"] == {"mean": 0.625, "median": 0.625}
    assert summary["b"]["lesion"]["paper.missed_instances"] == {"total": 3, "cases_with": 1}
    assert summary["a"]["lesion"]["paper.label_instances"] == {"total": 10}
    lines = markdown_table(summary).splitlines()
    assert lines[0].startswith("| model | cases | Dice, mean |") and len(lines) == 4
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0][2] == "0.625" and cells[1][2] == "**1.000**"  # the higher Dice
    assert cells[0][7] == "**2**" and cells[1][7] == "3"  # the fewer missed
    assert cells[0][8] == cells[1][8] == "**1**"  # a tie


def test_a_table_of_one_model_has_nothing_bold_and_of_several_classes_a_column_more():
    table = markdown_table(summarise([row("a", "1", 0.5, 1, 1), row("a", "1", 0.25, 1, 1, name="edema")]))
    assert "**" not in table and table.splitlines()[0].startswith("| model | class | cases |")
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:]] == ["lesion", "edema"]
    assert summarise([]) == {}
