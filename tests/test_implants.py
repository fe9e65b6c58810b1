"""The dataset of implanted lesions: separate patients, reproducible from the seed, and its errors."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.datasets import synthetic
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from scripts.study.implants import dataset
from scripts.study.implants.__main__ import main
from scripts.study.implants.dataset import implant_lesions, part_patients
from tests.lesion_masks import count, lesion_mask

pytest.importorskip("nilearn")


@pytest.fixture
def masks(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for i in range(6):
        sitk.WriteImage(lesion_mask(i, 6), str(folder / f"patient{i:02d}_lesions.nii.gz"))
    return folder


def test_patients_are_separated():
    names = [f"p{i}" for i in range(27)]
    parts = part_patients(names, 1)
    assert sorted(parts.train + parts.val + parts.test) == sorted(names)
    assert part_patients(names[::-1], 1) == parts != part_patients(names, 2)
    smallest = part_patients(["a", "b", "c"])
    assert len(smallest.train) == len(smallest.val) == len(smallest.test) == 1
    for wrong in (["a", "b"], ["a", "b", "b"]):
        with pytest.raises(ValueError, match=r"at least three different patients are required. Got:"):
            part_patients(wrong)


def read_cases(folder):
    with (folder / "cases.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_data_set(masks, tmp_path):
    folder = implant_lesions(masks, tmp_path / "raw", training=4, testing=3, seed=5, spacing_mm=4, processes=2)
    assert folder == tmp_path / "raw" / "Dataset300_Implants"
    rows = read_cases(folder)
    parts = {part: {r["patient"] for r in rows if r["part"] == part} for part in ("train", "val", "test")}
    assert [len(parts[part]) for part in parts] == [3, 1, 2]
    assert len(set.union(*parts.values())) == 6  # no patient is on both sides
    assert [r["case"][-2:] for r in rows if r["part"] == "test"] == ["_1", "_1", "_2"]
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    for part, cases in fold.items():
        assert cases == sorted(r["case"] for r in rows if r["part"] == part)
    description = json.loads((folder / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "FLAIR"} and description["numTraining"] == 4
    assert description["labels"] == {"background": 0, "lesion": 1}
    for side, number in (("Tr", 4), ("Ts", 3)):
        assert (
            len(list((folder / f"images{side}").iterdir())) == len(list((folder / f"labels{side}").iterdir())) == number
        )
    for row in rows:
        side = "Ts" if row["part"] == "test" else "Tr"
        label = sitk.ReadImage(str(folder / f"labels{side}" / f"{row['case']}.nii.gz"))
        image = sitk.ReadImage(str(folder / f"images{side}" / f"{row['case']}_0000.nii.gz"))
        values = sitk.GetArrayFromImage(label)
        assert label.GetSpacing() == image.GetSpacing() == (4.0, 4.0, 4.0) and label.GetOrigin() == image.GetOrigin()
        assert int(row["components"]) == count(values) > 0
        assert float(row["lesion_volume_mm3"]) == 64 * values.sum()
        assert int(row["implanted"]) <= int(row["lesions_of_patient"]) <= int(row["implanted"]) + 1
        assert (folder / "distractors" / f"{row['case']}.nii.gz").is_file()

    # With other numbers of cases and processes, the common cases are the same.
    again = implant_lesions(masks, tmp_path / "again", training=3, testing=1, seed=5, spacing_mm=4, processes=1)
    same = {r["case"] for r in rows} & {r["case"] for r in read_cases(again)}
    assert len(same) == 4
    for path in sorted(again.rglob("*.nii.gz")):
        first = sitk.ReadImage(str(folder / path.relative_to(again)))
        np.testing.assert_array_equal(*(sitk.GetArrayFromImage(i) for i in (first, sitk.ReadImage(str(path)))))


def test_the_command(masks, tmp_path, capsys):
    raw = tmp_path / "raw"
    options = [str(masks), str(raw), "-n", "2", "--test", "1", "--spacing", "4", "-np", "1"]
    assert main([*options, "-d", "7"]) == 0
    assert "Dataset007_Implants: 2 training and 1 test cases. SYNTHETIC" in capsys.readouterr().out
    (fold,) = json.loads((raw / "Dataset007_Implants" / "splits_final.json").read_text())
    assert len(fold["train"]) == len(fold["val"]) == 1
    assert main([*options, "-d", "7"]) == 1
    assert (
        "Dataset007_Implants: the target folder exists. Expected: no dataset with this number"
        in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        main([*options, "-np", "0"])
    assert "-np must be at least 1. Got: 0" in capsys.readouterr().err


def test_all_problems_are_reported_and_nothing_is_written(masks, tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    empty = sitk.Image([5, 5, 5], sitk.sitkUInt8)
    sitk.WriteImage(empty, str(masks / "patient07.nii.gz"))
    sitk.WriteImage(empty + 3, str(masks / "patient08.nii.gz"))
    (masks / "patient09.nii.gz").write_bytes(b"no image")
    sitk.WriteImage(lesion_mask(), str(masks / "patient05.nii.gz"))
    assert main([str(masks), str(raw), "-d", "1000", "-n", "0", "--spacing", "0.5"]) == 1
    said = capsys.readouterr().err
    assert "7 problems, nothing was written" in said
    assert "the dataset number is out of range. Expected: 1 to 999. Got: 1000" in said
    assert "too few cases. Expected: at least 2 for training, including 1 for validation" in said
    assert "Got: 0 and 9" in said
    assert "the spacing is out of range. Expected: 1 to 4 mm. Got: 0.5" in said
    assert "patient07.nii.gz: an empty mask. Expected: at least one voxel of 1. Got: 0 only" in said
    assert "patient08.nii.gz: a mask that is not binary" in said
    assert "patient09.nii.gz: cannot be read. Expected: a complete image" in said
    assert "a second mask of patient05. Expected: one mask. Got:" in said
    assert not list(raw.iterdir())
    with pytest.raises(BadInputError, match=r"too few masks. Expected: .* of at least three patients.* Got: 0"):
        implant_lesions(tmp_path / "nowhere", raw)


def test_lesions_elsewhere_leave_nothing_behind(masks, tmp_path, capsys):
    for path in masks.iterdir():
        mask = sitk.ReadImage(str(path))
        mask.SetOrigin((400.0, 0.0, 0.0))
        sitk.WriteImage(mask, str(path))
    raw = tmp_path / "raw"
    assert main([str(masks), str(raw), "-n", "2", "--test", "1", "--spacing", "4", "-np", "1"]) == 1
    assert "lesions.nii.gz: no lesion lies in the brain. Expected: a mask in MNI space" in capsys.readouterr().err
    assert not raw.exists()


def test_without_nilearn(masks, tmp_path, monkeypatch, capsys):
    dataset._load_template.cache_clear()
    monkeypatch.setattr(synthetic.importlib.util, "find_spec", lambda name: None)
    assert main([str(masks), str(tmp_path / "raw")]) == 1
    assert "nnunet-ici[demo]" in capsys.readouterr().err and not (tmp_path / "raw").exists()
