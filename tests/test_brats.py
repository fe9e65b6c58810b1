"""Lesion-wise Dice and HD95 of BraTS: by hand, against the naive reference, and through the command.

The naive reference (tests/reference_brats.py) and the code were compared with the challenge's script
(github.com/rachitsaluja/BraTS-2023-Metrics, including its surface-distance) outside this repository: 50 pairs of
three-label maps up to 12^3, 50 up to 29^3, and the 27 masks of MS lesions against shifted, eroded and thinned copies.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule, brats_scores
from nnunet_ici.evaluation.families import evaluate_case
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import lesion_dice
from nnunet_ici.evaluation.surface import _element_areas, hausdorff95_mm
from nnunet_ici.losses import instance_loss
from tests import reference_metrics
from tests.reference_brats import brats as reference
from tests.test_evaluate import evaluate, read_summary, write
from tests.test_metrics_real import MASKS

MET, GLI = CHALLENGES["met"], CHALLENGES["gli"]
PLAIN = BratsRule(0, 0)


def compare_with_reference(label, prediction, spacing_mm, rule):
    found = evaluate_case(label, prediction, spacing_mm, families=["brats"], brats_rule=rule)
    expected = reference(label, prediction, spacing_mm, rule.dilation, rule.smallest_mm3)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-6)
    return found


@pytest.mark.parametrize("axes", [2, 3])
def test_random_masks_against_the_naive_reference(axes, rng):
    seen = set()
    for _ in range(60):
        shape = rng.integers(1, 14 if axes == 2 else 8, size=axes)
        label, prediction = (rng.random(shape) < rng.choice([0, 0.01, 0.04, 0.15]) for _ in range(2))
        if rng.random() < 0.5:
            label, prediction = (ndimage.binary_dilation(mask) for mask in (label, prediction))
        rule = BratsRule(int(rng.integers(4)), float(rng.choice([0, 2, 8])))
        spacing_mm = tuple(rng.choice([0.5, 1, 1.5, 3], size=axes).tolist())
        values = compare_with_reference(label, prediction, spacing_mm, rule)
        seen.add(tuple(bool(values[f"brats_{name}"]) for name in ("found", "missed", "false")))
    assert len(seen) >= 6  # of the eight


@pytest.mark.skipif(not MASKS, reason="../shared/data/ms-lesions is absent")
@pytest.mark.parametrize("path", MASKS, ids=lambda path: path.name.split("_")[0])
def test_real_lesions_against_the_naive_reference(path, rng):
    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
    voxels = np.argwhere(whole)
    corner = np.maximum(voxels[len(voxels) // 2] - 8, 0)
    label = whole[tuple(slice(at, at + 16) for at in corner)]
    for prediction in (
        np.roll(label, (1, 2, 0), axis=(0, 1, 2)),
        ndimage.binary_erosion(label),
        label & (rng.random(label.shape) < 0.1),
    ):
        values = [compare_with_reference(label, prediction, (1.0, 1.0, 1.0), rule) for rule in (MET, GLI)]
        assert values[0]["brats_lesion_dice"] < 1


def row(*runs, length=24):
    """A row of voxels, 1 in the given ranges."""
    mask = np.zeros((1, length), bool)
    for start, stop in runs:
        mask[0, start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("label", "prediction", "rule", "counts", "dice", "distance"),
    [
        # nothing at all; a missed one; a false one
        (row(), row(), PLAIN, (0, 0, 0), 1, 0),
        (row((0, 3)), row(), PLAIN, (0, 1, 0), 0, 374),
        (row(), row((0, 3)), PLAIN, (0, 0, 1), 0, 374),
        # one found, at 2 / 3 and 1 mm; one missed; one false
        (row((0, 4), (9, 10)), row((0, 2), (20, 22)), PLAIN, (1, 1, 1), 4 / 6 / 3, (2 + 374 + 374) / 3),
        # two voxels between: apart without dilation, one lesion with it
        (row((0, 2), (4, 6)), row((0, 2)), PLAIN, (1, 1, 0), 0.5, 374 / 2),
        (row((0, 2), (4, 6)), row((0, 2)), MET, (1, 0, 0), 4 / 6, 4),
        (
            row((0, 2), (5, 7)),
            row((0, 2)),
            MET,
            (0, 0, 0),
            1,
            0,
        ),  # three voxels between: two lesions of 2 mm2, left out
        # a component one voxel away belongs to the lesion with dilation only
        (row((0, 3)), row((3, 6)), PLAIN, (0, 1, 1), 0, 374),
        (row((0, 3)), row((3, 6)), MET, (1, 0, 0), 0, 3),
        (row((0, 3)), row((4, 7)), MET, (0, 1, 1), 0, 374),
        # a lesion of the smallest volume is left out, and what belongs to it is not false
        (row((0, 2)), row((0, 2)), MET, (0, 0, 0), 1, 0),
        (row((0, 2)), row(), MET, (0, 0, 0), 1, 0),
        (row((0, 2)), row((8, 9)), MET, (0, 0, 1), 0, 374),
        (row((0, 3)), row((0, 3)), MET, (1, 0, 0), 1, 0),
        # a false component has no smallest volume
        (row((0, 3)), row((0, 3), (9, 10)), MET, (1, 0, 1), 0.5, 374 / 2),
        # one component over two lesions counts for both, whole: 2 * 3 / (3 + 13)
        (row((0, 3), (10, 13)), row((0, 13)), PLAIN, (2, 0, 0), 6 / 16, 10),
        # two components on one lesion are one
        (row((0, 9)), row((0, 3), (6, 9)), PLAIN, (1, 0, 0), 12 / 15, 1),
    ],
)
def test_by_hand(label, prediction, rule, counts, dice, distance):
    scores = brats_scores(label, prediction, (1.0, 1.0), rule)
    assert (scores.found, scores.missed, scores.false) == counts
    assert scores.lesion_dice == pytest.approx(dice)
    assert scores.lesion_hd95_mm == pytest.approx(distance)


def test_volumes_and_distances_are_in_mm():
    label, prediction = row((0, 3)), row((0, 6))
    near = brats_scores(label, prediction, (1.0, 1.0), BratsRule(1, 3))
    far = brats_scores(label, prediction, (1.0, 2.0), BratsRule(1, 3))
    assert (near.found, far.found) == (0, 1) and far.lesion_hd95_mm == 6


def test_the_settings_of_the_challenges():
    values = {name: (rule.dilation, rule.smallest_mm3) for name, rule in CHALLENGES.items()}
    assert values == {"met": (1, 2), "men": (1, 50), "gli": (3, 50), "ssa": (3, 50), "ped": (3, 50)}
    assert str(MET) == "Label dilated once, lesions up to 2 mm3 left out"
    assert str(GLI) == "Label dilated 3 times, lesions up to 50 mm3 left out"


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (0.7, 1.3, 5.0), (1.0, 1.0), (0.7, 1.3)])
def test_areas_of_surface_elements_are_those_of_surface_distance(spacing_mm):
    table, kernel = pytest.importorskip("monai.metrics.utils").get_code_to_measure_table(spacing_mm)
    weights = kernel.numpy().ravel().astype(int)  # of the voxels around a corner, in our order
    areas = _element_areas(spacing_mm)
    codes = [sum(weight for bit, weight in enumerate(weights) if code >> bit & 1) for code in range(areas.size)]
    np.testing.assert_allclose(areas, table.numpy()[codes], rtol=1e-6)


def test_hausdorff_by_hand():
    cube = np.zeros((9, 9, 20), bool)
    cube[2:5, 2:5, 2:5] = True
    assert hausdorff95_mm(cube, cube, (1.0, 1.0, 1.0)) == 0
    assert hausdorff95_mm(cube, np.roll(cube, 4, axis=2), (1.0, 1.0, 2.5)) == 10
    assert hausdorff95_mm(cube, cube & False, (1.0, 1.0, 1.0)) == math.inf
    assert hausdorff95_mm(cube & False, cube & False, (1.0, 1.0, 1.0)) == 0
    # a far voxel counts only if its surface is more than 5 % of the total
    for edge, expected in ((8, 0), (2, 9)):
        block = np.zeros((edge, edge, 20), bool)
        block[:, :, :edge] = True
        other = block.copy()
        other[0, 0, edge + 9] = True
        assert hausdorff95_mm(block, other, (1.0, 1.0, 1.0)) == pytest.approx(expected, abs=1 if expected else 0)


@pytest.mark.parametrize("axes", [2, 3])
def test_lesion_wise_dice_in_both_readings(axes, rng):
    """The naive reference, the detection family, and the loss: (1 - instance loss) * lesions / (lesions + false)."""
    differing = 0
    for _ in range(60):
        label, prediction = (rng.random((12, 13, 5)[:axes]) < rng.choice([0, 0.02, 0.1, 0.3]) for _ in range(2))
        whole, excluding = (lesion_dice(match_instances(label, prediction), exclude) for exclude in (False, True))
        assert whole == pytest.approx(reference_metrics.lesion_dice(label, prediction), abs=1e-12)
        assert whole == pytest.approx(brats_scores(label, prediction, (1.0,) * axes, PLAIN).lesion_dice, abs=1e-12)
        assert excluding >= whole - 1e-12
        differing += excluding > whole + 1e-6
        found, missed, false = reference_metrics.found_missed_false(label, prediction, corners=True)
        if found + missed == 0:
            assert excluding == whole == float(false == 0)
            continue
        prob, target = (torch.from_numpy(mask)[None, None].double() for mask in (prediction, label))
        for exclude, value in ((False, whole), (True, excluding)):
            loss = instance_loss(prob, target > 0, exclude_other_instances=exclude, smooth=1e-12)
            assert value == pytest.approx((1 - float(loss)) * (found + missed) / (found + missed + false), abs=1e-6)
    assert differing > 5


def test_regions_of_dataset_json_and_the_options(tmp_path):
    label, prediction = np.zeros((4, 8, 30), np.uint8), np.zeros((4, 8, 30), np.uint8)
    label[1:3, 1:5, 1:9] = 2
    label[1, 2, 2:5] = 3
    label[1, 6, 20] = 1
    prediction[1:3, 1:5, 1:9] = 2
    prediction[1, 2, 2:4] = 3
    prediction[0, 0, 28] = 1
    write(tmp_path / "gt" / "a.nii.gz", label)
    write(tmp_path / "A" / "a.nii.gz", prediction)
    labels = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
    (tmp_path / "A" / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))

    def counts(*extra):
        rows = evaluate(tmp_path, "--family", "brats", *extra, models=("A",))
        return {
            name: (*(int(row[f"brats_{n}"]) for n in ("found", "missed", "false")), float(row["brats_lesion_dice"]))
            for (_, _, name), row in rows.items()
        }

    # by default as for metastases: the lesion of one voxel is left out
    assert counts() == {
        "whole": (1, 0, 1, 0.5),
        "core": (1, 0, 1, pytest.approx(0.4)),
        "enhancing": (1, 0, 0, pytest.approx(0.8)),
    }
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert "BraTS (since 2023)" in tables and "Label dilated once, lesions up to 2 mm3 left out." in tables
    assert read_summary(tmp_path)["brats"] == {"dilation": 1, "smallest_mm3": 2}
    assert counts("--brats", "gli")["enhancing"] == (0, 0, 0, 1)
    assert read_summary(tmp_path)["brats"] == {"dilation": 3, "smallest_mm3": 50}
    assert counts("--brats-smallest", "0")["whole"] == (1, 1, 1, pytest.approx(1 / 3))
    assert counts("--brats-smallest", "0", "--brats-dilation", "8")["core"][:2] == (1, 0)  # all lesions joined


def test_meaningless_options_are_refused(tmp_path, capsys):
    write(tmp_path / "gt" / "a.nii.gz", np.zeros((2, 3, 4), np.uint8))
    write(tmp_path / "A" / "a.nii.gz", np.zeros((2, 3, 4), np.uint8))
    evaluate(tmp_path, "--brats-dilation", "-1", "--brats-smallest", "nan", models=("A",), expected=1)
    complaint = capsys.readouterr().err
    assert "dilation is not usable. Expected: 0 or more. Got: -1" in complaint
    assert "smallest_mm3 is not usable. Expected: 0 or more. Got: nan" in complaint


def test_errors():
    with pytest.raises(TypeError, match=r"label is not a mask\..*Got: dtype float64"):
        brats_scores(np.zeros((3, 3)), np.zeros((3, 3), bool), (1.0, 1.0), MET)
    with pytest.raises(ValueError, match=r"differ in shape\. Expected: \(3, 3\), as the label\. Got: \(3, 4\)"):
        brats_scores(np.zeros((3, 3), bool), np.zeros((3, 4), bool), (1.0, 1.0), MET)
