"""``nnunet_ici evaluate`` on folders: numbers, classes, pictures, and one report of all that is wrong."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main


def write(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def folders(tmp_path):
    """Two cases with three lesions; model A misses one and sees one too many, model B is perfect."""
    for name, count in (("one", 2), ("two", 1)):
        label = np.zeros((6, 16, 16), np.uint8)
        label[1:3, 2:4, 2:4] = 1
        label[4, 10, 10] = count - 1
        write(tmp_path / "gt" / f"{name}.nii.gz", label)
        write(tmp_path / "B" / f"{name}.nii.gz", label)
        prediction = label.copy()
        if name == "one":
            prediction[4, 10, 10], prediction[0, 14, 1] = 0, 1
        write(tmp_path / "A" / f"{name}.nii.gz", prediction)
        write(tmp_path / "images" / f"{name}_0000.nii.gz", 50 * label + np.arange(16, dtype=np.uint8))
    return tmp_path


def evaluate(root, *extra, models=("A", "B"), expected=0):
    predictions = [f"{model}={root / model}" for model in models]
    code = main(
        ["evaluate", "-gt", str(root / "gt"), "-pred", *predictions, "-o", str(root / "out"), "-np", "1", *extra]
    )
    assert code == expected
    if expected:
        assert not (root / "out").exists()
        return None
    with open(root / "out" / "cases.csv", newline="") as file:
        return {(row["model"], row["case"], row["class"]): row for row in csv.DictReader(file)}


def test_the_numbers(folders, capsys):
    rows = evaluate(folders)
    assert list(rows) == [(m, c, "foreground") for m in "AB" for c in ("one", "two")]
    one = rows["A", "one", "foreground"]
    counts = [one[f"paper.{name}_instances"] for name in ("label", "missed", "predicted", "false")]
    assert counts == ["2", "1", "2", "1"]
    assert float(one["paper.dsc"]) == pytest.approx(16 / 18) and float(one["isles.lesion_f1"]) == 0.5
    assert float(rows["B", "one", "foreground"]["isles.lesion_f1"]) == 1
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["models"]["A"]["foreground"]["paper.missed_instances"] == {"total": 1, "cases_with": 1}
    assert summary["models"]["B"]["foreground"]["isles.lesion_f1"]["mean"] == 1
    table = (folders / "out" / "tables.md").read_text()
    assert table in capsys.readouterr().out and "| B | 2 | **1.000** |" in table


def test_several_processes_give_the_same(folders):
    first = evaluate(folders)
    assert evaluate(folders, "-np", "2") == first


def test_pictures(folders):
    evaluate(folders, "--pictures", str(folders / "images"))
    pictures = sorted(os.listdir(folders / "out" / "pictures"))
    assert pictures == ["1_worst_one.png", "2_best_two.png"]
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "out" / "pictures" / pictures[0])))
    assert min(picture.shape[:2]) > 200
    colours = {tuple(pixel) for pixel in picture.reshape(-1, picture.shape[-1])[:, :3]}
    assert (213, 94, 0) in colours and (240, 228, 66) in colours  # missed and false, in the legend at the least


def test_flat_pictures(tmp_path):
    label = np.zeros((20, 24), np.uint8)
    label[3:6, 3:6] = 1
    for folder in ("gt", "A"):
        write(tmp_path / folder / "cell.png", label)
    write(tmp_path / "images" / "cell_0000.png", 200 * label)
    rows = evaluate(tmp_path, "--pictures", str(tmp_path / "images"), models=("A",))
    assert rows["A", "cell", "foreground"]["paper.label_instances"] == "1"
    assert os.listdir(tmp_path / "out" / "pictures") == ["1_worst_cell.png"]


def test_classes_regions_and_ignored_voxels(tmp_path):
    label, prediction = np.zeros((1, 12), np.uint8), np.zeros((1, 12), np.uint8)
    label[0] = [1, 1, 0, 2, 0, 0, 3, 3, 0, 1, 0, 0]
    prediction[0] = [1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 2]
    write(tmp_path / "gt" / "a.png", label)
    write(tmp_path / "A" / "a.png", prediction)
    declared = {"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, "file_ending": ".png"}
    (tmp_path / "A" / "dataset.json").write_text(json.dumps(declared))
    rows = evaluate(tmp_path, models=("A",))
    whole, core = rows["A", "a", "whole"], rows["A", "a", "core"]
    # whole: lesions at 0-1, 3, 9; predictions at 0, 3, 11; that at 6 is ignored
    names = ("label", "missed", "predicted", "false")
    assert [whole[f"paper.{name}_instances"] for name in names] == ["3", "1", "3", "1"]
    assert [core[f"paper.{name}_instances"] for name in names] == ["1", "1", "1", "1"]
    declared["labels"] = {"background": 0, "low": 1, "high": 2, "ignore": 3}
    (tmp_path / "labels.json").write_text(json.dumps(declared))
    rows = evaluate(tmp_path, "--dataset-json", str(tmp_path / "labels.json"), models=("A",))
    assert rows["A", "a", "low"]["paper.false_instances"] == "1"  # at 3, where the label is high
    assert rows["A", "a", "high"]["paper.missed_instances"] == "1"


def test_a_missing_prediction_is_an_error_or_counts_as_empty(folders, capsys):
    (folders / "A" / "one.nii.gz").unlink()
    evaluate(folders, expected=1)
    assert f"A: no prediction for case one. Expected: {folders / 'A' / 'one.nii.gz'}" in capsys.readouterr().err
    rows = evaluate(folders, "--allow-missing")
    assert rows["A", "one", "foreground"]["paper.missed_instances"] == "2"
    assert rows["A", "one", "foreground"]["paper.dsc"] == "0.0"


def test_everything_wrong_in_one_report(folders, capsys):
    write(folders / "A" / "three.nii.gz", np.zeros((2, 2, 2), np.uint8))
    write(folders / "B" / "one.nii.gz", np.zeros((5, 16, 16), np.uint8))
    path = folders / "B" / "two.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    write(folders / "A" / "two.nii.gz", np.full((6, 16, 16), 0.5, np.float32))
    evaluate(folders, expected=1)
    report = capsys.readouterr().err
    assert "4 problems, nothing was written:" in report
    assert f"A: prediction without a ground truth: {folders / 'A' / 'three.nii.gz'}" in report
    assert "another shape than its ground truth. Expected: (6, 16, 16)" in report and "Got: (5, 16, 16)" in report
    assert f"{path} cannot be read. Expected: a whole image. Got: Compressed file ended" in report
    assert "is not a label map. Expected: whole numbers. Got: 0.5 and 1535 more of 1536 values" in report


def test_values_without_a_class(folders, capsys):
    declared = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (folders / "dataset.json").write_text(json.dumps(declared))  # beside gt, as in nnUNet_raw
    write(folders / "A" / "one.nii.gz", np.full((6, 16, 16), 7, np.uint8))
    evaluate(folders, expected=1)
    assert "holds values that stand for no class. Expected: lesion (1). Got: 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["A"], r"-pred is malformed. Expected: NAME=DIR. Got: A"),
        (["=x"], r"-pred is malformed. Expected: NAME=DIR. Got: =x"),
        (["A={root}/A", "A={root}/B"], "-pred has two folders of one name. Expected: each name once."),
        (["A={root}/none"], "none cannot be read. Expected: a folder. Got: no such folder"),
        (["A={root}/empty"], "empty holds no label map. Expected: *.nii.gz. Got: 0 other files"),
    ],
)
def test_arguments(folders, capsys, models, message):
    (folders / "empty").mkdir()
    models = [model.format(root=folders) for model in models]
    assert main(["evaluate", "-gt", str(folders / "gt"), "-pred", *models, "-o", str(folders / "out"), "-np", "1"]) == 1
    assert message in capsys.readouterr().err and not (folders / "out").exists()


def test_no_image_for_a_picture(folders, capsys):
    (folders / "images" / "one_0000.nii.gz").unlink()
    evaluate(folders, "--pictures", str(folders / "images"), expected=1)
    assert "no image for case one. Expected: " in capsys.readouterr().err
