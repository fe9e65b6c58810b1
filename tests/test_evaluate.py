"""``nnunet_ici evaluate`` on folders: numbers, classes, sizes, formats and empty cases."""

from __future__ import annotations

import csv
import json
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.evaluation.families import FAMILIES, METRICS, metrics_of
from nnunet_ici.evaluation.summary import read_rows, summarise
from nnunet_ici.evaluation.verdict import COLUMNS
from tests.evaluate_command import evaluate, folders, read_summary, save_probabilities, write

__all__ = ["folders"]


OUTPUTS = ["cases.csv", "instances.csv", "summary.json", "tables.csv", "tables.md", "tables.tex"]


def test_the_numbers(folders, capsys):
    rows = evaluate(folders)
    assert list(rows) == [(m, c, "foreground") for m in "AB" for c in ("one", "two")]
    one = rows["A", "one", "foreground"]
    counts = [one[f"{name}_instances"] for name in ("label", "missed", "predicted", "false")]
    assert counts == ["2", "1", "2", "1"]
    assert float(one["dice"]) == pytest.approx(16 / 18) and float(one["lesion_f1"]) == 0.5
    assert float(rows["B", "one", "foreground"]["lesion_f1"]) == 1
    summary = read_summary(folders)
    missed = summary["models"]["A"]["foreground"]["missed_instances"]
    assert (missed["total"], missed["cases_with"], missed["mean"]) == (1, 1, 0.5)
    assert summary["models"]["B"]["foreground"]["lesion_f1"]["mean"] == 1
    assert summary["files"]["one"]["predictions"]["A"] == str(folders / "A" / "one.nii.gz")
    assert "| B | 1.000 (1) |" in (folders / "out" / "tables.md").read_text()  # not bold: two cases are too few


def test_the_terminal(folders, capsys, monkeypatch):
    """Paths, the verdict, and where the rest is; without Markdown."""
    monkeypatch.setenv("COLUMNS", "200")
    evaluate(folders)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"2 cases: {folders / 'gt'}", f"A: {folders / 'A'}", f"B: {folders / 'B'}"]
    assert lines[5:] == [
        "model  lesion-wise Dice ↑  Dice ↑  lesion F1 (IoU 0.1) ↑  missed ↓  false ↓  volume difference (ml) ↓",
        "A      0.667               0.944   0.750                  0.500     0.500    0.000",
        "B      1.000               1.000   1.000                  0.000     0.000    0.000",
        "Mean over 2 cases. Star: better than every other model, with an interval of the difference that excludes 0 "
        "after Holm's correction for 6 comparisons.",
        "",
        "2 cases cannot show a clear difference between B and A: at least 10 are needed.",
        "Ranked by the mean of lesion-wise Dice and Dice: B (1.000) and A (0.806).",
        "",
        f"all tables: {folders / 'out' / 'tables.md'}; as a page: nnunet_ici report {folders / 'out'}",
    ]


def test_many_models_fit_into_the_terminal(folders, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    names = [f"nnUNetTrainer_with_a_long_name_{number}" for number in range(16)]
    for name in names:
        (folders / name).symlink_to(folders / "A")
    evaluate(folders, models=names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 30 and "and 11 more models" in lines and any("in tables.md" in line for line in lines[:-1])
    assert (folders / "out" / "tables.md").read_text().count(f"| {names[-1]} |") > 1


def test_surface_distances_are_left_out_by_default(folders):
    (row, *_) = evaluate(folders).values()
    assert "lesion_f1" in row and not {"cc_dice", "brats_lesion_dice", "brats_lesion_hd95_mm"} & set(row)


def test_all_outputs_say_the_same(folders):
    evaluate(folders, "--family", *FAMILIES)
    out = folders / "out"
    assert sorted(os.listdir(out)) == OUTPUTS
    metrics = metrics_of(list(FAMILIES), with_probability=False)
    rows, summary = read_rows(out / "cases.csv"), read_summary(folders)
    assert list(rows[0]) == ["model", "case", "class", *(metric.name for metric in metrics)]
    again = summarise(rows, metrics)  # from the file, as anybody may do
    assert summary["models"] == json.loads(json.dumps(again))
    with open(out / "tables.csv", newline="") as file:
        cells = {(line["table"], line["row"], line["column"]): line for line in csv.DictReader(file)}
    for family, names in FAMILIES.items():
        for metric in (METRICS[name] for name in names if family != "paper" and METRICS[name] in metrics):
            assert float(cells[family, "A", metric.title]["value"]) == again["A"]["foreground"][metric.name]["mean"]
    assert cells["paper", "A", "missed"]["text"] == "1" and cells["paper", "A", "missed"]["rank"] == "2"
    latex = (out / "tables.tex").read_text()
    tables = {table for table, _, _ in cells}
    assert tables == {"verdict", *FAMILIES, "sizes", "differences"}
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == len(tables)
    instances = read_rows(out / "instances.csv", text=("model", "case", "class", "kind", "overlaps"))
    labels = [row for row in instances if row["model"] == "A" and row["kind"] == "label"]
    assert [(row["case"], row["voxels"], row["found"]) for row in labels] == [
        ("one", 8, 1),
        ("one", 1, 0),
        ("two", 8, 1),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_family(folders, family):
    (row, *_) = evaluate(folders, "--family", family).values()
    of_family = [name for name in FAMILIES[family] if name != "pr_auc"]
    of_verdict = [column.metric for column in COLUMNS if column.metric not in of_family]
    assert list(row)[3:] == [*of_family, *of_verdict]
    assert bool(read_summary(folders)["by_size"]) == (family == "detection")
    # the verdict, the family, and the differences
    assert (folders / "out" / "tables.md").read_text().count("## ") == (4 if family == "detection" else 3)


def test_several_processes_give_the_same(folders):
    evaluate(folders)
    first = {name: (folders / "out" / name).read_text() for name in OUTPUTS if name != "summary.json"}
    models = read_summary(folders)["models"]
    evaluate(folders, "-np", "2")
    assert first == {name: (folders / "out" / name).read_text() for name in first}
    assert read_summary(folders)["models"] == models


def test_sizes_in_mm3_and_in_voxels(folders):
    for path in (*(folders / "gt").iterdir(), *(folders / "A").iterdir()):
        write(path, sitk.GetArrayFromImage(sitk.ReadImage(str(path))), spacing=(0.5, 0.5, 2.0))
    evaluate(folders, "--sizes", "1", "3", models=("A",))
    summary = read_summary(folders)
    assert summary["size_unit"] == "mm3"
    groups = summary["by_size"]["A"]["foreground"]
    # lesions of 0.5 (missed) and twice 4 mm3, predictions of 0.5 (false) and twice 4 mm3
    assert [(group["from"], group["to"], group["label"], group["found"]) for group in groups] == [
        (0, 1, 1, 0),
        (1, 3, 0, 0),
        (3, None, 2, 2),
    ]
    assert (groups[0]["precision"], groups[1]["recall"], groups[2]["f1"]) == (0, None, 1)
    evaluate(folders, "--sizes", "1", "3", "--voxels", models=("A",))
    summary = read_summary(folders)
    assert summary["size_unit"] == "voxels"
    assert [group["label"] for group in summary["by_size"]["A"]["foreground"]] == [0, 1, 2]
    assert "size (voxels)" in (folders / "out" / "tables.md").read_text()


def test_flat_images(tmp_path):
    label = np.zeros((20, 24), np.uint8)
    label[3:6, 3:6] = 1
    for folder in ("gt", "A"):
        write(tmp_path / folder / "cell.png", label)
    save_probabilities(tmp_path / "A" / "cell.npz", 0.75 * label)
    rows = evaluate(tmp_path, models=("A",))
    row = rows["A", "cell", "foreground"]
    assert row["label_instances"] == "1" and float(row["pr_auc"]) == 1
    assert read_summary(tmp_path)["size_unit"] == "voxels"  # PNG has no spacing
    assert "differences" not in (tmp_path / "out" / "tables.csv").read_text()  # of one model


def test_flat_images_with_a_spacing(tmp_path):
    label = np.zeros((20, 24), np.uint8)
    label[3:6, 3:6] = 1
    write(tmp_path / "gt" / "a.nii.gz", label, spacing=(0.5, 2.0))
    write(tmp_path / "A" / "a.nii.gz", label * 0, spacing=(0.5, 2.0))
    (row,) = evaluate(tmp_path, models=("A",)).values()
    assert float(row["volume_difference_ml"]) == pytest.approx(0.009)
    assert row["volume_difference_voxels"] == "9" and row["lesion_precision"] == ""
    assert read_summary(tmp_path)["size_unit"] == "mm2"


def test_a_sheared_voxel_has_the_volume_of_its_affine(tmp_path):
    """The determinant, 3 mm3; the product of the spacings is 3.13 mm3."""
    affine = np.diag([1.0, 1, 3, 1])
    affine[0, 1] = 0.3
    for folder, voxels in (("gt", 5), ("A", 3)):
        array = np.zeros((4, 5, 6), np.uint8)
        array[0, :voxels, 0] = 1
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(array, affine), tmp_path / folder / "a.nii.gz")
    (row,) = evaluate(tmp_path, "--family", "isles", "brats", "--brats-smallest", "15.1", models=("A",)).values()
    assert float(row["volume_difference_ml"]) == pytest.approx(0.006)
    assert row["brats_missed"] == row["brats_found"] == "0"  # 15 mm3, which is no larger than the smallest volume
    instances = read_rows(tmp_path / "out" / "instances.csv", text=("model", "case", "class", "kind", "overlaps"))
    assert [one["size"] for one in instances] == [pytest.approx(15), pytest.approx(9)]


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
    assert [whole[f"{name}_instances"] for name in names] == ["3", "1", "3", "1"]
    assert [core[f"{name}_instances"] for name in names] == ["1", "1", "1", "1"]
    assert "| A | core |" in (tmp_path / "out" / "tables.md").read_text()
    declared["labels"] = {"background": 0, "low": 1, "high": 2, "ignore": 3}
    (tmp_path / "labels.json").write_text(json.dumps(declared))
    rows = evaluate(tmp_path, "--dataset-json", str(tmp_path / "labels.json"), models=("A",))
    assert rows["A", "a", "low"]["false_instances"] == "1"  # at 3, where the label is high
    assert rows["A", "a", "high"]["missed_instances"] == "1"


def test_empty_cases_leave_no_nan(tmp_path):
    for name, label, prediction in (("both", 0, 0), ("label", 1, 0), ("prediction", 0, 1)):
        write(tmp_path / "gt" / f"{name}.nii.gz", np.full((2, 3, 4), label, np.uint8))
        write(tmp_path / "A" / f"{name}.nii.gz", np.full((2, 3, 4), prediction, np.uint8))
        save_probabilities(tmp_path / "A" / f"{name}.npz", np.full((2, 3, 4), prediction))
    rows = evaluate(tmp_path, models=("A",))
    assert [row["dice"] for row in rows.values()] == ["1.0", "0.0", "0.0"]
    assert [row["lesion_recall"] for row in rows.values()] == ["", "0.0", ""]
    assert [row["pr_auc"] for row in rows.values()] == ["", "1.0", ""]  # ties: all voxels are lesion
    assert "nan" not in (tmp_path / "out" / "cases.csv").read_text().lower()
    recall = read_summary(tmp_path)["models"]["A"]["foreground"]["lesion_recall"]
    assert recall == {"cases": 1, "mean": 0, "median": 0, "sd": None}


def test_a_flood_is_a_warning(folders, capsys):
    label = np.zeros((20, 20, 22), np.uint8)
    label[0, 0, :2] = 1
    write(folders / "gt" / "flood.nii.gz", label)
    write(folders / "B" / "flood.nii.gz", label)
    label[:, :, 1:21], label[0, 0, 0] = 1, 0  # 4,000 times its volume, and one voxel of it
    write(folders / "A" / "flood.nii.gz", label)
    rows = evaluate(folders)
    warning = (
        "A: predicted volume above 10 times the label's in 1 case, as in flood: 8,000 mm3 for 2 mm3; "
        "1 component of which less than a tenth is lesion; component 1 of flood covers 1 lesion, 0.013 % of it is "
        "lesion"
    )
    assert f"Warning: {warning}.\n" in capsys.readouterr().err
    assert f"**Warning:** {warning}." in (folders / "out" / "tables.md").read_text()
    assert read_summary(folders)["warnings"] == [warning]
    row = rows["A", "flood", "foreground"]
    assert (row["lesion_f1"], row["lesion_f1_iou10"], row["mostly_outside"]) == ("1.0", "0.0", "1")
    rows = evaluate(folders, "--overlap", "0.1")
    assert rows["A", "flood", "foreground"]["lesion_f1"] == "0.0" and read_summary(folders)["overlap"] == 0.1
    assert rows["B", "flood", "foreground"]["lesion_f1"] == "1.0"


def test_a_missing_prediction_is_an_error_or_counts_as_empty(folders, capsys):
    (folders / "A" / "one.nii.gz").unlink()
    evaluate(folders, expected=1)
    assert f"A: no prediction for case one. Expected: {folders / 'A' / 'one.nii.gz'}" in capsys.readouterr().err
    rows = evaluate(folders, "--allow-missing")
    assert rows["A", "one", "foreground"]["missed_instances"] == "2"
    assert rows["A", "one", "foreground"]["all_missed"] == "1"
    assert rows["A", "one", "foreground"]["dice"] == "0.0"
    assert read_summary(folders)["files"]["one"]["predictions"]["A"] is None
