"""``nnunet_ici evaluate --ensemble``: nnU-Net's own ensemble of all models, from files in its format."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.evaluation.ensemble import probability_path
from nnunet_ici.evaluation.summary import read_rows
from tests import reference_metrics as reference

READERS = {".png": "NaturalImage2DIO", ".nii.gz": "SimpleITKIO"}
SHAPES = {".png": (1, 12, 14), ".nii.gz": (5, 8, 9)}
SPACING = (0.5, 1.0, 2.0)
MODELS = ("a", "b")


def write(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    flat = path.suffix == ".png"
    image = sitk.GetImageFromArray((array[0] if flat else array).astype(np.uint8))
    if not flat:
        image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))


def predict(folder, case, ending, probabilities):
    """Write what nnUNetv2_predict --save_probabilities writes: (C, D, H, W), the background first."""
    write(folder / f"{case}{ending}", probabilities.argmax(0))
    np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities)
    geometry = {"spacing": SPACING, "origin": (0.0, 0.0, 0.0), "direction": tuple(np.eye(3).ravel())}
    properties = {"spacing": [2, 1, 0.5]} | ({} if ending == ".png" else {"sitk_stuff": geometry})
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))


def describe(folder, ending):
    """Write the two descriptions that nnU-Net copies next to its predictions."""
    declared = {"channel_names": {"0": "x"}, "labels": {"background": 0, "one": 1, "two": 2}, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(declared))
    plans = {"plans_name": "nnUNetPlans", "image_reader_writer": READERS[ending], "label_manager": "LabelManager"}
    (folder / "plans.json").write_text(json.dumps(plans))


def make_members(root, ending, cases=("x", "y")):
    """Ground truth and two models; the softmax of both, by model and case."""
    rng = np.random.default_rng(5)
    softmax = {}
    for case in cases:
        label = rng.integers(0, 3, SHAPES[ending])
        write(root / "gt" / f"{case}{ending}", label)
        for model in MODELS:
            (root / model).mkdir(exist_ok=True)
            logits = 2 * np.stack([label == value for value in range(3)]) + rng.normal(0, 2, (3, *label.shape))
            softmax[model, case] = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
            predict(root / model, case, ending, softmax[model, case])
    for model in MODELS:
        describe(root / model, ending)
    return softmax


def evaluate(root, *extra, models=MODELS, expected=0):
    predictions = [f"{model}={root / model}" for model in models]
    command = ["evaluate", "-gt", str(root / "gt"), "-pred", *predictions, "-o", str(root / "out"), "-np", "1"]
    assert main([*command, "--ensemble", "--family", "isles", "paper", *extra]) == expected
    if expected:
        assert not (root / "out").exists()
        return []
    return read_rows(root / "out" / "cases.csv")


@pytest.mark.parametrize("ending", READERS)
def test_the_ensemble_is_the_argmax_of_the_mean(tmp_path, ending):
    softmax = make_members(tmp_path, ending)
    rows = evaluate(tmp_path)
    assert [(row["model"], row["case"], row["class"]) for row in rows] == [
        (model, case, name) for model in (*MODELS, "ensemble") for case in ("x", "y") for name in ("one", "two")
    ]
    for case in ("x", "y"):
        mean = (softmax["a", case] + softmax["b", case]) / 2
        made = tmp_path / "out" / "ensemble" / f"{case}{ending}"
        image = sitk.ReadImage(str(made))
        array = sitk.GetArrayFromImage(image).reshape(SHAPES[ending])
        np.testing.assert_array_equal(array, mean.argmax(0))
        if ending != ".png":
            assert image.GetSpacing() == SPACING
        saved = np.load(probability_path(made, ending))["probabilities"]
        np.testing.assert_allclose(saved, mean, rtol=0, atol=1e-6)
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "gt" / f"{case}{ending}")))
        for value, name in enumerate(("one", "two"), start=1):
            (row,) = [r for r in rows if (r["model"], r["case"], r["class"]) == ("ensemble", case, name)]
            truth, pred = label == value, array.reshape(label.shape) == value
            assert row["dice"] == pytest.approx(reference.dice(truth, pred))
            area = reference.average_precision(truth, saved[value].reshape(label.shape))
            assert row["pr_auc"] == pytest.approx(area, abs=1e-6)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["models"]) == [*MODELS, "ensemble"]
    assert summary["files"]["x"]["predictions"]["ensemble"] == str(tmp_path / "out" / "ensemble" / f"x{ending}")
    assert "| ensemble |" in (tmp_path / "out" / "tables.md").read_text()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]  # nothing left behind


def test_an_ensemble_of_trainers(tmp_path, monkeypatch):
    """The members' files are spread over the folds, their descriptions lie above them."""
    make_members(tmp_path, ".png")
    raw, results = tmp_path / "raw" / "Dataset001_X", tmp_path / "results" / "Dataset001_X"
    monkeypatch.setenv("nnUNet_raw", str(raw.parent))
    monkeypatch.setenv("nnUNet_results", str(results.parent))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    raw.mkdir(parents=True)
    (tmp_path / "gt").rename(raw / "labelsTr")
    (tmp_path / "a" / "dataset.json").rename(raw / "dataset.json")
    for model in MODELS:
        trainer = results / f"{model}__nnUNetPlans__2d"
        for fold, case in enumerate(("x", "y")):
            validation = trainer / f"fold_{fold}" / "validation"
            validation.mkdir(parents=True)
            for path in (tmp_path / model).glob(f"{case}.*"):
                path.rename(validation / path.name)
        describe(trainer, ".png")
    out = tmp_path / "out"
    command = ["evaluate", "-d", "1", "-c", "2d", "-tr", *MODELS, "--ensemble", "-o", str(out), "-np", "1"]
    assert main([*command, "--family", "paper"]) == 0
    assert [row["case"] for row in read_rows(out / "cases.csv") if row["model"] == "ensemble"] == ["x", "x", "y", "y"]


@pytest.mark.parametrize("ending", [".npz", ".pkl"])
def test_missing_files_are_named(tmp_path, capsys, ending):
    make_members(tmp_path, ".nii.gz")
    for case in ("x", "y"):
        (tmp_path / "b" / f"{case}{ending}").unlink()
    evaluate(tmp_path, expected=1)
    report = capsys.readouterr().err
    assert "2 problems, nothing was written:" in report
    for case in ("x", "y"):
        assert (
            f"b: the ensemble needs the probabilities of case {case} (--save_probabilities, --npz). "
            f"Expected: {tmp_path / 'b' / f'{case}{ending}'}. Got: no such file"
        ) in report


@pytest.mark.parametrize("name", ["dataset.json", "plans.json"])
def test_missing_descriptions_are_named(tmp_path, capsys, name):
    make_members(tmp_path, ".png")
    (tmp_path / "a" / name).unlink()
    evaluate(tmp_path, expected=1)
    expected = f"the ensemble needs nnU-Net's {name}. Expected: {tmp_path / 'a' / name}, or above."
    assert expected in capsys.readouterr().err


def test_a_missing_prediction_makes_no_ensemble(tmp_path, capsys):
    make_members(tmp_path, ".png")
    (tmp_path / "b" / "y.png").unlink()
    evaluate(tmp_path, "--allow-missing", expected=1)
    assert "b: the ensemble needs a prediction for case y. Got: no such file" in capsys.readouterr().err


def test_one_model_is_no_ensemble(tmp_path, capsys):
    make_members(tmp_path, ".png")
    evaluate(tmp_path, models=("a",), expected=1)
    assert "--ensemble needs several models. Expected: two or more. Got: a" in capsys.readouterr().err


def test_a_model_of_that_name(tmp_path, capsys):
    make_members(tmp_path, ".png")
    (tmp_path / "b").rename(tmp_path / "ensemble")
    evaluate(tmp_path, models=("a", "ensemble"), expected=1)
    assert "--ensemble adds a model with this name. Expected: no other model with it." in capsys.readouterr().err


def test_damaged_members_are_found_before_an_ensemble_is_made(tmp_path, capsys):
    make_members(tmp_path, ".png")
    path = tmp_path / "b" / "y.npz"
    path.write_bytes(path.read_bytes()[:-100])
    write(tmp_path / "a" / "x.png", np.full(SHAPES[".png"], 7))
    evaluate(tmp_path, expected=1)
    report = capsys.readouterr().err
    assert "2 problems, nothing was written:" in report and f"{path} cannot be read." in report
    assert "x.png holds values that belong to no class. Expected: one (1), two (2). Got: 7" in report
