"""Where the instances are: instances.csv and the maps of ``nnunet_ici evaluate --save-maps``."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.evaluation.summary import read_rows
from tests.evaluate_command import evaluate, folders, write

__all__ = ["folders"]


def save(path, array, origin=(0.0, 0.0, 0.0), spacing=(1.0, 1.0, 1.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    path.parent.mkdir(exist_ok=True, parents=True)
    sitk.WriteImage(image, str(path))


def instances(root):
    return read_rows(root / "out" / "instances.csv", text=("model", "case", "class", "kind", "overlaps"))


def test_centroid_volume_and_overlaps_by_hand(tmp_path):
    label, prediction = np.zeros((2, 4, 5, 8), np.uint8)
    label[0, 0, 0:2] = label[2, 3, 5:8] = 1  # of 2 and 3 voxels
    prediction[0, 0, 1:8] = 1  # of 7 + 4 voxels, touches both
    prediction[0:3, 1, 7] = prediction[2, 2:4, 7] = 1
    prediction[0, 4, 0] = 1  # false
    # x runs to the left and y to the back, so i and j point against RAS; z is upward
    geometry = {"origin": (10.0, 20.0, 30.0), "spacing": (0.5, 2.0, 3.0)}
    save(tmp_path / "gt" / "a.nii.gz", label, **geometry)
    save(tmp_path / "A" / "a.nii.gz", prediction, **geometry)
    evaluate(tmp_path, models=("A",))
    first, second, predicted, false = instances(tmp_path)
    assert (first["kind"], first["id"], first["overlaps"]) == ("label", 1, "1:1")
    assert (second["id"], second["overlaps"]) == (2, "1:1")
    assert [first["size"], second["size"]] == pytest.approx([2 * 3, 3 * 3])
    assert (predicted["kind"], predicted["overlaps"]) == ("predicted", "1:1 2:1")
    assert (false["id"], false["overlaps"], false["found"]) == (2, "", 0)
    assert [second[axis] for axis in "ijk"] == [6, 3, 2]
    assert [second[f"{axis}_mm"] for axis in "xyz"] == [-(10 + 6 * 0.5), -(20 + 3 * 2), 30 + 2 * 3]
    assert [first[axis] for axis in "ijk"] == [0.5, 0, 0] and first["x_mm"] == -10.25


def test_centroids_of_a_flipped_prediction_are_those_of_the_label(tmp_path):
    """Both are in the label's grid, whatever the axes of the file of the prediction."""
    label = np.zeros((3, 4, 6), np.uint8)
    label[1, 2, 4:6] = 1
    save(tmp_path / "gt" / "a.nii.gz", label)
    save(tmp_path / "A" / "a.nii.gz", label[..., ::-1], origin=(5.0, 0, 0), direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1))
    evaluate(tmp_path, models=("A",))
    one, other = instances(tmp_path)
    assert [one[name] for name in ("i", "x_mm")] == [other[name] for name in ("i", "x_mm")] == [4.5, -4.5]


def test_flat_images_have_no_third_axis_and_pixels_no_mm(tmp_path):
    label = np.zeros((6, 9), np.uint8)
    label[2, 3:5] = 1
    write(tmp_path / "gt" / "a.png", label)
    write(tmp_path / "A" / "a.png", label)
    evaluate(tmp_path, "--save-maps", models=("A",))
    (row, _) = instances(tmp_path)
    assert (row["i"], row["j"]) == (3.5, 2) and all(math.isnan(row[name]) for name in ("k", "x_mm", "y_mm", "z_mm"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out/maps/A/a.png"))), label)


def test_a_map_has_the_four_outcomes_in_the_geometry_of_the_label(tmp_path):
    label, prediction = np.zeros((2, 3, 2, 10), np.uint8)
    label[0, 0] = [1, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    prediction[0, 0] = [0, 1, 1, 0, 0, 0, 1, 1, 0, 0]
    geometry = {"origin": (10.0, -20.0, 30.0), "spacing": (0.5, 2.0, 3.0), "direction": (0, 1, 0, -1, 0, 0, 0, 0, 1)}
    save(tmp_path / "gt" / "a.nii.gz", label, **geometry)
    save(tmp_path / "A" / "a.nii.gz", prediction, **geometry)
    evaluate(tmp_path, "--save-maps", models=("A",))
    saved = sitk.ReadImage(str(tmp_path / "out" / "maps" / "A" / "a.nii.gz"))
    array = sitk.GetArrayFromImage(saved)
    assert array[0, 0].tolist() == [1, 1, 4, 0, 2, 0, 3, 3, 0, 0] and array.sum() == array[0, 0].sum()
    own = sitk.ReadImage(str(tmp_path / "gt" / "a.nii.gz"))
    for get in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(saved, get)() == pytest.approx(getattr(own, get)()), get


def test_a_map_for_every_model_case_and_class(folders):
    evaluate(folders)
    assert not (folders / "out" / "maps").exists()
    (folders / "A" / "two.nii.gz").unlink()
    declared = {"labels": {"background": 0, "whole/all": [1, 2], "core": [2]}, "file_ending": ".nii.gz"}
    (folders / "dataset.json").write_text(json.dumps(declared))
    evaluate(folders, "--save-maps", "--allow-missing")
    maps = folders / "out" / "maps"
    found = sorted(str(path.relative_to(maps)) for path in maps.rglob("*.nii.gz"))
    assert found == sorted(f"{m}/{c}/{n}.nii.gz" for m in "AB" for c in ("whole_all", "core") for n in ("one", "two"))
    missed = sitk.GetArrayFromImage(sitk.ReadImage(str(maps / "A" / "whole_all" / "two.nii.gz")))
    assert set(np.unique(missed)) == {0, 2}


def test_names_that_are_no_folders(folders, capsys):
    evaluate(folders, "--save-maps", models=("../A",), expected=1)
    message = "--save-maps makes a folder for each model. Expected: names without a slash. Got: ../A"
    assert message in capsys.readouterr().err
