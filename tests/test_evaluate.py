"""``nnunet_ici evaluate`` on folders: numbers, classes, probabilities, and one report of all problems."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from sklearn.metrics import average_precision_score

from nnunet_ici.cli import main
from nnunet_ici.evaluation.families import FAMILIES, metrics_of
from nnunet_ici.evaluation.summary import read_rows, summarise

OUTPUTS = ["cases.csv", "instances.csv", "summary.json", "tables.csv", "tables.md", "tables.tex"]


def write(path, array, spacing=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = sitk.GetImageFromArray(array)
    if spacing is not None:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def save_probabilities(path, lesion):
    """As nnU-Net does for two labels; (D, H, W), or a slice."""
    lesion = lesion.astype(np.float32)
    both = np.stack([1 - lesion, lesion])
    np.savez_compressed(path, probabilities=both if lesion.ndim == 3 else both[:, None])


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


def refuse(constant):
    raise ValueError(f"JSON does not know {constant}")


def read_summary(root):
    return json.loads((root / "out" / "summary.json").read_text(), parse_constant=refuse)


def test_the_numbers(folders, capsys):
    rows = evaluate(folders)
    assert list(rows) == [(m, c, "foreground") for m in "AB" for c in ("one", "two")]
    one = rows["A", "one", "foreground"]
    counts = [one[f"paper.{name}_instances"] for name in ("label", "missed", "predicted", "false")]
    assert counts == ["2", "1", "2", "1"]
    assert float(one["paper.dsc"]) == pytest.approx(16 / 18) and float(one["isles.lesion_f1"]) == 0.5
    assert float(rows["B", "one", "foreground"]["isles.lesion_f1"]) == 1
    summary = read_summary(folders)
    missed = summary["models"]["A"]["foreground"]["paper.missed_instances"]
    assert (missed["total"], missed["cases_with"], missed["mean"]) == (1, 1, 0.5)
    assert summary["models"]["B"]["foreground"]["isles.lesion_f1"]["mean"] == 1
    assert summary["files"]["one"]["predictions"]["A"] == str(folders / "A" / "one.nii.gz")
    table = (folders / "out" / "tables.md").read_text()
    assert table in capsys.readouterr().out and "| B | **1.000** (1) |" in table


def test_all_outputs_say_the_same(folders):
    evaluate(folders)
    out = folders / "out"
    assert sorted(os.listdir(out)) == OUTPUTS
    metrics = metrics_of(list(FAMILIES), with_probability=False)
    rows, summary = read_rows(out / "cases.csv"), read_summary(folders)
    assert list(rows[0]) == ["model", "case", "class", *(metric.name for metric in metrics)]
    again = summarise(rows, metrics)  # from the file, as anybody may do
    assert summary["models"] == json.loads(json.dumps(again))
    with open(out / "tables.csv", newline="") as file:
        cells = {(line["table"], line["row"], line["column"]): line for line in csv.DictReader(file)}
    for metric in metrics:
        family = metric.name.split(".")[0]
        if family != "paper":
            assert float(cells[family, "A", metric.title]["value"]) == again["A"]["foreground"][metric.name]["mean"]
    assert cells["paper", "A", "missed"]["text"] == "1" and cells["paper", "A", "missed"]["rank"] == "2"
    latex = (out / "tables.tex").read_text()
    tables = {table for table, _, _ in cells}
    assert tables == {*FAMILIES, "sizes", "differences"}
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == len(tables)
    instances = read_rows(out / "instances.csv", text=("model", "case", "class", "kind"))
    labels = [row for row in instances if row["model"] == "A" and row["kind"] == "label"]
    assert [(row["case"], row["voxels"], row["touched"]) for row in labels] == [
        ("one", 8, 1),
        ("one", 1, 0),
        ("two", 8, 1),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_family(folders, family):
    (row, *_) = evaluate(folders, "--family", family).values()
    assert {name.split(".")[0] for name in row if "." in name} == {family}
    summary = read_summary(folders)
    assert bool(summary["by_size"]) == (family == "detection")
    assert (folders / "out" / "tables.md").read_text().count("## ") == (3 if family == "detection" else 2)


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


@pytest.mark.parametrize("sizes", [["10", "5"], ["0", "5"], ["5", "5"], ["nan"], ["5", "inf"]])
def test_sizes_that_are_no_edges(folders, capsys, sizes):
    evaluate(folders, "--sizes", *sizes, expected=1)
    assert "--sizes are no edges. Expected: ascending numbers above 0. Got: [" in capsys.readouterr().err


def test_probabilities_beside_the_predictions(folders, rng):
    lesions, probabilities = [], []
    for name in ("one", "two"):
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "gt" / f"{name}.nii.gz")))
        probability = np.clip(0.5 * label + 0.5 * rng.random(label.shape), 0, 1).astype(np.float32)
        write(folders / "A" / f"{name}.nii.gz", (probability > 0.5).astype(np.uint8))
        save_probabilities(folders / "A" / f"{name}.npz", probability)
        lesions.append(label.ravel())
        probabilities.append(probability.ravel())
    rows = evaluate(folders)
    for name, lesion, probability in zip(("one", "two"), lesions, probabilities, strict=True):
        found = float(rows["A", name, "foreground"]["isles.pr_auc"])
        assert found == pytest.approx(average_precision_score(lesion, probability), abs=1e-6)
    assert rows["B", "one", "foreground"]["isles.pr_auc"] == ""  # no probabilities, and none made up
    summary = read_summary(folders)
    assert list(summary["froc"]) == ["A"]
    assert summary["froc"]["A"]["foreground"]["sensitivity"][-1] == 1
    assert "| PR-AUC |" in (folders / "out" / "tables.md").read_text()
    assert "| FROC |" in (folders / "out" / "tables.md").read_text()


def test_ignored_voxels_have_no_probability(tmp_path):
    label = np.array([[1, 0, 2, 2]], np.uint8)
    write(tmp_path / "gt" / "a.png", label)
    write(tmp_path / "A" / "a.png", np.array([[1, 0, 1, 0]], np.uint8))
    save_probabilities(tmp_path / "A" / "a.npz", np.array([[0.75, 0.25, 1.0, 0.0]]))
    declared = {"labels": {"background": 0, "lesion": 1, "ignore": 2}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    (row,) = evaluate(tmp_path, models=("A",)).values()
    assert float(row["isles.pr_auc"]) == 1  # a half, were the third voxel to count
    assert (row["isles.dice"], row["paper.false_instances"]) == ("1.0", "0")


def test_probabilities_of_some_cases_only(folders, capsys):
    save_probabilities(folders / "A" / "one.npz", np.zeros((6, 16, 16)))
    evaluate(folders, expected=1)
    report = capsys.readouterr().err
    assert f"A: no probabilities beside {folders / 'A' / 'two.nii.gz'}, as there are beside others." in report
    assert f"Expected: {folders / 'A' / 'two.npz'}. Got: no such file" in report


def test_probabilities_of_another_shape(folders, capsys):
    for name in ("one", "two"):
        save_probabilities(folders / "A" / f"{name}.npz", np.zeros((5, 16, 16)))
    evaluate(folders, expected=1)
    report = capsys.readouterr().err
    assert "2 problems, nothing was written:" in report
    assert f"{folders / 'A' / 'one.npz'} has another shape than its label map." in report


def test_flat_images(tmp_path):
    label = np.zeros((20, 24), np.uint8)
    label[3:6, 3:6] = 1
    for folder in ("gt", "A"):
        write(tmp_path / folder / "cell.png", label)
    save_probabilities(tmp_path / "A" / "cell.npz", 0.75 * label)
    rows = evaluate(tmp_path, models=("A",))
    row = rows["A", "cell", "foreground"]
    assert row["paper.label_instances"] == "1" and float(row["isles.pr_auc"]) == 1
    assert read_summary(tmp_path)["size_unit"] == "voxels"  # PNG knows no spacing
    assert "differences" not in (tmp_path / "out" / "tables.csv").read_text()  # of one model


def test_flat_images_with_a_spacing(tmp_path):
    label = np.zeros((20, 24), np.uint8)
    label[3:6, 3:6] = 1
    write(tmp_path / "gt" / "a.nii.gz", label, spacing=(0.5, 2.0))
    write(tmp_path / "A" / "a.nii.gz", label * 0, spacing=(0.5, 2.0))
    (row,) = evaluate(tmp_path, models=("A",)).values()
    assert float(row["isles.volume_difference_ml"]) == pytest.approx(0.009)
    assert row["atlas22.volume_difference"] == "9" and row["detection.precision"] == ""
    assert read_summary(tmp_path)["size_unit"] == "mm2"


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
    assert "| A | core |" in (tmp_path / "out" / "tables.md").read_text()
    declared["labels"] = {"background": 0, "low": 1, "high": 2, "ignore": 3}
    (tmp_path / "labels.json").write_text(json.dumps(declared))
    rows = evaluate(tmp_path, "--dataset-json", str(tmp_path / "labels.json"), models=("A",))
    assert rows["A", "a", "low"]["paper.false_instances"] == "1"  # at 3, where the label is high
    assert rows["A", "a", "high"]["paper.missed_instances"] == "1"


def test_empty_cases_leave_no_nan(tmp_path):
    for name, label, prediction in (("both", 0, 0), ("label", 1, 0), ("prediction", 0, 1)):
        write(tmp_path / "gt" / f"{name}.nii.gz", np.full((2, 3, 4), label, np.uint8))
        write(tmp_path / "A" / f"{name}.nii.gz", np.full((2, 3, 4), prediction, np.uint8))
        save_probabilities(tmp_path / "A" / f"{name}.npz", np.full((2, 3, 4), prediction))
    rows = evaluate(tmp_path, models=("A",))
    assert [row["isles.dice"] for row in rows.values()] == ["1.0", "0.0", "0.0"]
    assert [row["detection.recall"] for row in rows.values()] == ["", "0.0", ""]
    assert [row["isles.pr_auc"] for row in rows.values()] == ["", "1.0", ""]  # ties: all voxels are lesion
    assert "nan" not in (tmp_path / "out" / "cases.csv").read_text().lower()
    recall = read_summary(tmp_path)["models"]["A"]["foreground"]["detection.recall"]
    assert recall == {"cases": 1, "mean": 0, "median": 0, "sd": None}


def test_a_missing_prediction_is_an_error_or_counts_as_empty(folders, capsys):
    (folders / "A" / "one.nii.gz").unlink()
    evaluate(folders, expected=1)
    assert f"A: no prediction for case one. Expected: {folders / 'A' / 'one.nii.gz'}" in capsys.readouterr().err
    rows = evaluate(folders, "--allow-missing")
    assert rows["A", "one", "foreground"]["paper.missed_instances"] == "2"
    assert rows["A", "one", "foreground"]["paper.all_missed"] == "1"
    assert rows["A", "one", "foreground"]["paper.dsc"] == "0.0"
    assert read_summary(folders)["files"]["one"]["predictions"]["A"] is None


def test_a_missing_prediction_has_no_probability_anywhere(folders, rng):
    for name in ("one", "two"):
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "gt" / f"{name}.nii.gz")))
        save_probabilities(folders / "A" / f"{name}.npz", 0.75 * label)
    for ending in (".nii.gz", ".npz"):
        (folders / "A" / f"one{ending}").unlink()
    rows = evaluate(folders, "--allow-missing", "--family", "isles")
    prevalence = label_share(folders / "gt" / "one.nii.gz")
    assert float(rows["A", "one", "foreground"]["isles.pr_auc"]) == pytest.approx(prevalence)
    assert rows["A", "two", "foreground"]["isles.pr_auc"] == "1.0"
    assert rows["B", "one", "foreground"]["isles.pr_auc"] == ""


def label_share(path):
    return float((sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0).mean())


def test_everything_wrong_in_one_report(folders, capsys):
    write(folders / "A" / "three.nii.gz", np.zeros((2, 2, 2), np.uint8))
    write(folders / "B" / "one.nii.gz", np.zeros((5, 16, 16), np.uint8))
    path = folders / "B" / "two.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    write(folders / "A" / "two.nii.gz", np.full((6, 16, 16), 0.5, np.float32))
    evaluate(folders, "--sizes", "5", "1", expected=1)
    report = capsys.readouterr().err
    assert "5 problems, nothing was written:" in report
    assert f"A: prediction without a ground truth: {folders / 'A' / 'three.nii.gz'}" in report
    assert "another shape than its ground truth. Expected: (6, 16, 16)" in report and "Got: (5, 16, 16)" in report
    assert f"{path} cannot be read. Expected: a whole image. Got: Compressed file ended" in report
    assert "is not a label map. Expected: whole numbers. Got: 0.5 and 1535 more of 1536 values" in report
    assert "--sizes are no edges" in report


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "-gt is missing. Expected: the folder of the ground truth, or -d ID with -tr. Got: neither"),
        (["-gt", "{root}/gt"], "no predictions. Expected: -pred NAME=DIR, or -tr TRAINER. Got: neither"),
        (["-gt", "{root}/none", "-pred", "A={root}/A"], "none cannot be read. Expected: a folder."),
        (["-gt", "{root}/gt", "-pred", "A={root}/A", "-o", "{root}/A/one.nii.gz"], "-o is not usable."),
    ],
)
def test_what_is_not_there(folders, capsys, arguments, message):
    arguments = [argument.format(root=folders) for argument in arguments]
    assert main(["evaluate", "-np", "1", "-o", str(folders / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err and not (folders / "out").exists()
