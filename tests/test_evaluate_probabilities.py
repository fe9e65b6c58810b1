"""``nnunet_ici evaluate`` with probabilities beside the predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from sklearn.metrics import average_precision_score

from tests.evaluate_command import evaluate, folders, read_summary, save_probabilities, write

__all__ = ["folders"]


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
        found = float(rows["A", name, "foreground"]["pr_auc"])
        assert found == pytest.approx(average_precision_score(lesion, probability), abs=1e-6)
    assert rows["B", "one", "foreground"]["pr_auc"] == ""  # no probabilities, and none made up
    summary = read_summary(folders)
    assert list(summary["curves"]) == ["A"]
    assert summary["curves"]["A"]["foreground"]["sensitivity"][-1] == 1
    assert "| PR-AUC ↑ |" in (folders / "out" / "tables.md").read_text()
    assert "| AP (IoU 0.1) ↑ | FROC ↑ |" in (folders / "out" / "tables.md").read_text()


def test_ignored_voxels_have_no_probability(tmp_path):
    label = np.array([[1, 0, 2, 2]], np.uint8)
    write(tmp_path / "gt" / "a.png", label)
    write(tmp_path / "A" / "a.png", np.array([[1, 0, 1, 0]], np.uint8))
    save_probabilities(tmp_path / "A" / "a.npz", np.array([[0.75, 0.25, 1.0, 0.0]]))
    declared = {"labels": {"background": 0, "lesion": 1, "ignore": 2}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    (row,) = evaluate(tmp_path, models=("A",)).values()
    assert float(row["pr_auc"]) == 1  # it would be 0.5 if the third voxel counted
    assert (row["dice"], row["false_instances"]) == ("1.0", "0")


def test_probabilities_of_some_cases_only(folders, capsys):
    save_probabilities(folders / "A" / "one.npz", np.zeros((6, 16, 16)))
    evaluate(folders, expected=1)
    report = capsys.readouterr().err
    assert f"A: no probabilities beside {folders / 'A' / 'two.nii.gz'}, unlike other predictions." in report
    assert f"Expected: {folders / 'A' / 'two.npz'}. Got: no such file" in report


def test_probabilities_of_another_shape(folders, capsys):
    for name in ("one", "two"):
        save_probabilities(folders / "A" / f"{name}.npz", np.zeros((5, 16, 16)))
    evaluate(folders, expected=1)
    report = capsys.readouterr().err
    assert "2 problems, nothing was written:" in report
    assert f"{folders / 'A' / 'one.npz'} differs in shape from its label map." in report


def test_a_missing_prediction_has_no_probability_anywhere(folders, rng):
    for name in ("one", "two"):
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "gt" / f"{name}.nii.gz")))
        save_probabilities(folders / "A" / f"{name}.npz", 0.75 * label)
    for ending in (".nii.gz", ".npz"):
        (folders / "A" / f"one{ending}").unlink()
    rows = evaluate(folders, "--allow-missing", "--family", "isles")
    prevalence = label_share(folders / "gt" / "one.nii.gz")
    assert float(rows["A", "one", "foreground"]["pr_auc"]) == pytest.approx(prevalence)
    assert rows["A", "two", "foreground"]["pr_auc"] == "1.0"
    assert rows["B", "one", "foreground"]["pr_auc"] == ""


def label_share(path):
    return float((sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0).mean())
