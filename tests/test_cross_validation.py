"""Cross-validations gathered from nnU-Net's folders by trainer name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.evaluation.cross_validation import (
    dataset_folder,
    fold_predictions,
    folds_with_predictions,
    validation_cases,
)
from nnunet_ici.evaluation.summary import read_rows

DATASET = "Dataset007_Cells"
FOLDS = (("c0", "c1"), ("c2", "c3"))
A, B = "nnUNetTrainer", "nnUNetTrainerICI"
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def write(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two trainers, two folds of two cases with two lesions each; A misses one of them in each case."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, str(tmp_path / variable))
    raw, preprocessed, results = (tmp_path / variable / DATASET for variable in VARIABLES)
    for fold, cases in enumerate(FOLDS):
        for case in cases:
            label = np.zeros((8, 9), np.uint8)
            label[1:3, 1:3] = label[6, 7] = 1
            write(raw / "labelsTr" / f"{case}.png", label)
            for trainer in (A, B):
                prediction = label.copy()
                prediction[6, 7] = trainer == B
                write(
                    results / f"{trainer}__nnUNetPlans__2d" / f"fold_{fold}" / "validation" / f"{case}.png", prediction
                )
    declared = {"labels": {"background": 0, "cell": 1}, "file_ending": ".png"}
    (raw / "dataset.json").write_text(json.dumps(declared))
    preprocessed.mkdir(parents=True)
    splits = [{"train": list(FOLDS[1 - fold]), "val": list(cases)} for fold, cases in enumerate(FOLDS)]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    return tmp_path


def validation(root, trainer=A, fold=0):
    return root / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__2d" / f"fold_{fold}" / "validation"


def evaluate(root, *arguments, expected=0):
    command = ["evaluate", "-d", "7", "-c", "2d", "-o", str(root / "out"), "-np", "1", "--family", "paper"]
    assert main([*command, *arguments]) == expected
    if expected:
        assert not (root / "out").exists()
        return None
    rows = read_rows(root / "out" / "cases.csv")
    return [(row["model"], row["case"], row["class"], row["missed_instances"]) for row in rows]


def test_two_trainers_over_two_folds(root):
    rows = evaluate(root, "-tr", A, B, "-f", "0", "1")
    assert rows == [
        *((A, case, "cell", 1) for case in ("c0", "c1", "c2", "c3")),
        *((B, case, "cell", 0) for case in ("c0", "c1", "c2", "c3")),
    ]
    assert evaluate(root, "-tr", A, B) == rows  # all existing folds
    summary = json.loads((root / "out" / "summary.json").read_text())
    assert summary["models"][A]["cell"]["missed_instances"]["total"] == 4
    assert summary["files"]["c2"]["predictions"][B] == str(validation(root, B, 1) / "c2.png")


def test_folds_that_are_still_being_trained_are_not_expected(root, capsys):
    shutil.rmtree(validation(root, A, 1))
    assert [row[:2] for row in evaluate(root, "-tr", A)] == [(A, "c0"), (A, "c1")]
    shutil.rmtree(root / "out")
    evaluate(root, "-tr", A, B, expected=1)  # the other trainer has that fold
    report = capsys.readouterr().err
    assert f"{validation(root, A, 1)} holds no predictions." in report and "give -f with folds that all" in report


def test_one_fold(root):
    assert [row[:2] for row in evaluate(root, "-tr", A, "-f", "1")] == [(A, "c2"), (A, "c3")]


def test_the_fold_with_all_cases(root, capsys):
    trainer = validation(root).parent.parent
    for fold in (0, 1):
        for path in validation(root, fold=fold).iterdir():
            write(trainer / "fold_all" / "validation" / path.name, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert len(evaluate(root, "-tr", A)) == 4  # the folds 0 and 1: they share no case
    shutil.rmtree(root / "out")
    (root / "nnUNet_preprocessed" / DATASET / "splits_final.json").unlink()  # nnU-Net writes none for this fold
    expected = [(A, case, "cell", 1) for case in ("c0", "c1", "c2", "c3")]
    assert evaluate(root, "-tr", A, "-f", "all") == expected
    shutil.rmtree(root / "out")
    (trainer / "fold_all" / "validation" / "c3.png").unlink()
    evaluate(root, "-tr", A, "-f", "all", expected=1)
    assert f"{A}: no prediction for case c3. Expected: " in capsys.readouterr().err
    evaluate(root, "-tr", A, "-f", "all", "0", expected=1)
    report = capsys.readouterr().err
    assert "-f all is a fold with all cases. Expected: no other fold with it. Got: all 0" in report
    with pytest.raises(SystemExit):
        evaluate(root, "-tr", A, "-f", "none")
    assert "-f: Expected: the number of a fold, or all. Got: none" in capsys.readouterr().err


def test_names_of_the_models(root):
    rows = evaluate(root, "-tr", f"plain={A}", f"ICI={B}", f"again={A}", "-f", "0")
    assert [row[0] for row in rows] == ["plain", "plain", "ICI", "ICI", "again", "again"]


def test_the_data_set_by_its_name(root):
    rows = evaluate(root, "-tr", A)
    assert main(["evaluate", "-d", DATASET, "-c", "2d", "-tr", A, "-o", str(root / "named"), "-np", "1"]) == 0
    again = read_rows(root / "named" / "cases.csv")
    assert [(row["model"], row["case"], row["class"], row["missed_instances"]) for row in again] == rows


def test_a_folder_beside_the_trainers(root):
    for case in FOLDS[0]:
        write(root / "other" / f"{case}.png", np.zeros((8, 9), np.uint8))
    rows = evaluate(root, "-tr", A, "-pred", f"other={root / 'other'}", "-f", "0")
    assert rows == [(A, "c0", "cell", 1), (A, "c1", "cell", 1), ("other", "c0", "cell", 2), ("other", "c1", "cell", 2)]


def test_another_ground_truth(root):
    shutil.move(root / "nnUNet_raw" / DATASET / "labelsTr", root / "labels")
    evaluate(root, "-tr", A, expected=1)
    assert len(evaluate(root, "-tr", A, "-gt", str(root / "labels"))) == 4


def test_without_splits_the_predictions_name_the_cases(root, monkeypatch, capsys):
    (root / "nnUNet_preprocessed" / DATASET / "splits_final.json").unlink()
    rows = evaluate(root, "-tr", A, B)
    monkeypatch.delenv("nnUNet_preprocessed")
    assert evaluate(root, "-tr", A, B) == rows and len(rows) == 8
    shutil.rmtree(root / "out")
    (validation(root, B, 1) / "c3.png").unlink()
    evaluate(root, "-tr", A, B, expected=1)  # the other model has it
    assert f"{B}: no prediction for case c3. Expected: " in capsys.readouterr().err


def test_a_missing_case_is_named(root, capsys):
    (validation(root, B, 1) / "c3.png").unlink()
    evaluate(root, "-tr", A, B, expected=1)
    report = capsys.readouterr().err
    assert "1 problem, nothing was written:" in report and f"{B}: no prediction for case c3." in report
    assert ("c3", "cell", 2) in [row[1:] for row in evaluate(root, "-tr", A, B, "--allow-missing")]


def test_a_case_without_ground_truth_is_named(root, capsys):
    (root / "nnUNet_raw" / DATASET / "labelsTr" / "c1.png").unlink()
    evaluate(root, "-tr", A, expected=1)
    assert "no ground truth for case c1. Expected: " in capsys.readouterr().err


def test_a_case_of_another_fold(root, capsys, monkeypatch):
    """An old file, of which nnU-Net's own evaluation takes no notice."""
    shutil.copyfile(validation(root) / "c1.png", validation(root, fold=1) / "c1.png")
    evaluate(root, "-tr", A, expected=1)
    splits = root / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    assert (
        f"1 problem, nothing was written:\n- {validation(root, fold=1)} holds cases of other folds, perhaps files of "
        f"an earlier training. Expected: the validation cases of fold_1 in {splits}. Got also: c1; delete them"
    ) in capsys.readouterr().err
    monkeypatch.delenv("nnUNet_preprocessed")
    evaluate(root, "-tr", A, expected=1)
    assert f"{A}__nnUNetPlans__2d: cases in two folds. Expected: each in one. Got: c1" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["nnUNet_results", "nnUNet_raw"])
def test_missing_environment_variables(root, monkeypatch, capsys, variable):
    monkeypatch.delenv(variable)
    evaluate(root, "-tr", A, expected=1)
    message = {
        "nnUNet_results": "nnUNet_results: not set. Expected: a folder. Try: export nnUNet_results=",
        "nnUNet_raw": f"no ground truth. Expected: -gt DIR, or $nnUNet_raw with {DATASET}. Got: None",
    }
    assert message[variable] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-tr", "nnUNetTrainerNone"], f"Got: {B}__nnUNetPlans__2d, {A}__nnUNetPlans__2d"),
        (["-tr", A, "-p", "OtherPlans"], f"Got: {B}__nnUNetPlans__2d, {A}__nnUNetPlans__2d"),
        (["-tr", A, "-f", "0", "4"], "validation holds no predictions. Expected: *.png, which nnUNetv2_train writes"),
        (["-tr", A, B, A], f"-tr has two models with the same name. Expected: each name once. Got: {A}={A} and {A}"),
        (["-tr", A, "-pred", f"{A}={{root}}/x"], f"models with the same name. Expected: each name once. Got: {A}"),
        (["-tr", A, "-pred", "x={root}/x"], "x cannot be read. Expected: a folder. Got: no such folder"),
        (["-tr", A, "-pred", "x={root}"], "holds no label map. Expected: *.png. Got: 3 other files"),
        (["-tr", A, "-d", "8"], f"Expected: one with the number or name 8. Got: {DATASET}"),
    ],
)
def test_missing_folders(root, capsys, arguments, message):
    evaluate(root, *(argument.format(root=root) for argument in arguments), expected=1)
    assert message in capsys.readouterr().err


def test_trainers_need_a_data_set(root, capsys):
    assert main(["evaluate", "-tr", A, "-o", str(root / "out"), "-np", "1"]) == 1
    assert "-tr needs a dataset. Expected: -d ID. Got: none" in capsys.readouterr().err


def test_unused_splits(tmp_path):
    path = tmp_path / "splits_final.json"
    assert validation_cases(path, ["0"]) is None
    path.write_text(json.dumps([{"train": [], "val": ["a", "b"]}, {"train": [], "val": ["c"]}]))
    assert validation_cases(path, ["0", "1"]) == {"a", "b", "c"} and validation_cases(path, ["1"]) == {"c"}
    with pytest.raises(ValueError, match=r"cannot be used\. Expected: a list of folds with val, including 2\. Got: "):
        validation_cases(path, ["2"])
    for content in ("[]", "{", '[{"train": ["a"]}]', '[{"val": []}]', "3"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"splits_final\.json cannot be used\."):
            validation_cases(path, ["0"])


def test_folders_of_data_sets(tmp_path):
    for name in ("Dataset001_One", "Dataset011_Other"):
        (tmp_path / name).mkdir()
    assert dataset_folder(tmp_path, "1").name == dataset_folder(tmp_path, "001").name == "Dataset001_One"
    assert dataset_folder(tmp_path, "Dataset011_Other").name == "Dataset011_Other"
    (tmp_path / "Dataset001_Two").mkdir()
    with pytest.raises(ValueError, match=r"one with the number or name 1\. Got: Dataset001_One, Dataset001_Two"):
        dataset_folder(tmp_path, "1")
    with pytest.raises(ValueError, match=r"Expected: one with the number or name 5\. Got: none"):
        dataset_folder(tmp_path / "nothing", "5")


def test_folds_without_a_validation(tmp_path):
    folder = tmp_path / "T__P__C"
    (folder / "fold_0" / "validation").mkdir(parents=True)
    (folder / "fold_1").mkdir()  # still being trained
    (folder / "fold_all" / "validation").mkdir(parents=True)
    assert folds_with_predictions(tmp_path, "T", "P", "C") == {"0"}
    assert folds_with_predictions(tmp_path, "U", "P", "C") == set()
    with pytest.raises(ValueError, match=r"fold_0/validation holds no predictions\. Expected: \*\.png"):
        fold_predictions(tmp_path, "T", "P", "C", ".png", ["0"])
    (folder / "fold_0" / "validation" / "a.png").touch()
    assert list(fold_predictions(tmp_path, "T", "P", "C", ".png", ["0"]).files) == ["a"]
    with pytest.raises(ValueError, match=r"fold_1/validation holds no predictions"):
        fold_predictions(tmp_path, "T", "P", "C", ".png", ["0", "1"])
    with pytest.raises(ValueError, match=r"T__P__C holds no predictions\. Expected: fold_X/validation/\*\.png"):
        fold_predictions(tmp_path, "T", "P", "C", ".png", [])
