"""Two cases and two models in folders, and ``nnunet_ici evaluate`` on them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main


def write(path, array, spacing=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = sitk.GetImageFromArray(array)
    if spacing is not None:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def save_probabilities(path, lesion):
    """Save probabilities as nnU-Net does for two labels; (D, H, W), or a slice."""
    lesion = lesion.astype(np.float32)
    both = np.stack([1 - lesion, lesion])
    np.savez_compressed(path, probabilities=both if lesion.ndim == 3 else both[:, None])


@pytest.fixture
def folders(tmp_path):
    """Two cases with three lesions; model A misses one and predicts a false one, model B is perfect."""
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
