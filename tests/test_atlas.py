"""ATLAS R2.0 to nnU-Net raw data, on small trees in the released layout."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from tests.atlas_tree import SHAPE, SHEET, Tree, convert, raw, rows_of, sessions_of, tree
from tests.conftest import ROOT, SHARED_DATA

__all__ = ["raw", "tree"]  # fixtures


def test_the_data_set_as_nnunet_reads_it(tree, raw):
    done = convert(tree, raw)
    folder = raw / "Dataset100_ATLAS"
    assert done.folder == folder
    cases = [
        "sub-r001s001_ses-1",
        "sub-r001s002_ses-1",
        "sub-r001s002_ses-2",
        "sub-r002s001_ses-1",
        "sub-r009s003_ses-1",
    ]
    assert sorted(os.listdir(folder / "imagesTr")) == [f"{case}_0000.nii.gz" for case in cases]
    assert sorted(os.listdir(folder / "labelsTr")) == [f"{case}.nii.gz" for case in cases]
    assert os.listdir(folder / "imagesTs") == ["sub-r031s001_ses-1_0000.nii.gz"]
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["release"] == "R2.0" and "MNI152NLin2009aSym" in dataset["description"]
    assert "overwrite_image_reader_writer" not in dataset
    assert dataset["labels"] == {"background": 0, "lesion": 1} and dataset["channel_names"] == {"0": "T1w"}
    assert [dataset["numTraining"], dataset["file_ending"]] == [5, ".nii.gz"]
    assert sorted(os.listdir(folder)) == ["cases.csv", "dataset.json", "imagesTr", "imagesTs", "labelsTr"]

    for source, target in zip(tree.paths("r002s001"), ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"), strict=True):
        before, after = (sitk.ReadImage(str(p)) for p in (source, folder / target.format("sub-r002s001_ses-1")))
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(before, geometry)() == getattr(after, geometry)()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after))


def test_cases_csv(tree, raw):
    convert(tree, raw)
    rows = {row["case"]: row for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert rows["sub-r001s002_ses-2"] == {
        "case": "sub-r001s002_ses-2", "split": "train", "site": "R001", "subject": "sub-r001s002", "session": "ses-2",
        "lesion_count": "2", "lesion_volume_mm3": "9", "Chronicity": "chronic",
    }  # fmt: skip
    assert [rows[f"sub-r001s002_ses-{n}"]["Chronicity"] for n in (1, 2)] == ["acute", "chronic"]
    test = rows["sub-r031s001_ses-1"]
    assert [test["split"], test["lesion_count"], test["lesion_volume_mm3"], test["Chronicity"]] == ["test", "", "", ""]


def test_volumes_are_in_mm3(tmp_path, raw):
    tree = Tree(tmp_path)
    image, mask = tree.add("r001s001")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))
    for path, content in ((image, array.astype(np.float32)), (mask, array)):
        tree.write(path, content, spacing=(2.0, 2.0, 1.5))
    convert(tree, raw)
    assert rows_of(raw / "Dataset100_ATLAS" / "cases.csv")[0]["lesion_volume_mm3"] == "54"  # 9 voxels of 6 mm3


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
def test_labels_are_integers_whatever_the_masks_were(tmp_path, raw, dtype):
    tree = Tree(tmp_path)
    _, mask = tree.add("r001s001", mask_dtype=dtype)
    convert(tree, raw)
    label = sitk.ReadImage(str(raw / "Dataset100_ATLAS" / "labelsTr" / "sub-r001s001_ses-1.nii.gz"))
    assert label.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    source = sitk.ReadImage(str(mask))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(source))
    assert label.GetDirection() == source.GetDirection() and label.GetOrigin() == source.GetOrigin()


def test_copies_by_default_and_links_on_request(tree, raw):
    convert(tree, raw)
    assert not any(path.is_symlink() for path in (raw / "Dataset100_ATLAS").rglob("*"))
    convert(tree, raw, dataset_id=101, symlink=True)
    folder = raw / "Dataset101_ATLAS"
    for path, source in zip(
        (folder / "imagesTr" / "sub-r002s001_ses-1_0000.nii.gz", folder / "labelsTr" / "sub-r002s001_ses-1.nii.gz"),
        tree.paths("r002s001"),
        strict=True,
    ):
        assert path.is_symlink() and os.readlink(path) == str(source.resolve())


def test_uncompressed_files_are_compressed(tmp_path, raw):
    tree = Tree(tmp_path)
    for path in tree.add("r001s001"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    convert(tree, raw, symlink=True)
    for name in ("imagesTr/sub-r001s001_ses-1_0000.nii.gz", "labelsTr/sub-r001s001_ses-1.nii.gz"):
        path = raw / "Dataset100_ATLAS" / name
        assert not path.is_symlink() and gzip.decompress(path.read_bytes())[:4] == b"\x5c\x01\x00\x00"


@pytest.mark.parametrize("source", ["ATLAS_2", "."])
def test_the_release_or_its_parent(tree, raw, source):
    sessions, metadata, problems = sessions_of(tree.root.parent / source)
    assert len(sessions) == 6 and not problems
    assert metadata.path == tree.root / SHEET


def test_rounding_of_the_affine_is_no_difference(tree, raw):
    _, mask = tree.paths("r001s001")
    tree.write(mask, np.ones(SHAPE, np.uint8), origin=(98.0002, 134.0, -72.0))
    assert len(convert(tree, raw).sessions) == 6


def test_splits_go_to_the_preprocessed_folder(tree, raw):
    preprocessed = raw.parent / "nnUNet_preprocessed"
    done = convert(tree, raw, preprocessed=preprocessed, split="paper")
    target = preprocessed / "Dataset100_ATLAS" / "splits_final.json"
    assert done.splits == [raw / "Dataset100_ATLAS" / "splits_final.json", target]
    (fold,) = json.loads(target.read_text())
    assert len(fold["train"]) + len(fold["val"]) == 5 and "sub-r031s001_ses-1" not in fold["train"] + fold["val"]
    convert(tree, raw, dataset_id=101, preprocessed=preprocessed, split="paper")
    different = preprocessed / "Dataset102_ATLAS" / "splits_final.json"
    different.parent.mkdir()
    different.write_text("[]")
    with pytest.raises(BadInputError, match=rf"{different}: a different split exists"):
        convert(tree, raw, dataset_id=102, preprocessed=preprocessed, split="paper")
    assert different.read_text() == "[]" and not (raw / "Dataset102_ATLAS").exists()


def test_an_xlsx_sheet(tree, raw, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    (tree.root / SHEET).unlink()
    book = openpyxl.Workbook()
    for row in (["Subject ID", "Session", "Age"], ["sub-r001s002", 2, 66], ["sub-r001s001", None, 1]):
        book.active.append(row)
    sheet = tree.root / SHEET.replace(".csv", ".xlsx")
    book.save(sheet)
    convert(tree, raw)
    ages = {row["case"]: row["Age"] for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert [ages["sub-r001s002_ses-1"], ages["sub-r001s002_ses-2"], ages["sub-r001s001_ses-1"]] == ["", "66", "1"]
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(BadInputError, match=re.escape('pip install "nnunet-ici[xlsx]"')):
        convert(tree, raw, dataset_id=101)


def test_the_command(tree, raw, capsys):
    assert main(["convert-atlas", str(tree.root), "--split", "paper", "-np", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ATLAS R2.0, MNI152NLin2009aSym\n")
    assert "Dataset100_ATLAS: 5 training cases of 4 subjects, 1 test case\n" in out
    assert str(tree.root / SHEET) in out and "cases 4 + 1, for fold 0" in out
    assert main(["convert-atlas", str(tree.root)]) == 1
    assert "the target folder exists" in capsys.readouterr().err


def test_the_command_without_its_folders(tree, raw, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_preprocessed")
    assert main(["convert-atlas", str(tree.root), "--split", "paper", "-np", "1"]) == 0
    assert "nnUNet_preprocessed is not set: copy the split to" in capsys.readouterr().out
    monkeypatch.delenv("nnUNet_raw")
    assert main(["convert-atlas", str(tree.root)]) == 1
    assert "nnUNet_raw: not set. Expected: a folder. Try: export nnUNet_raw=" in capsys.readouterr().err


def test_the_script_is_the_same_converter(tree, raw):
    script = ROOT / "dataset_conversion" / "Dataset100_ATLAS.py"
    subprocess.run(
        [sys.executable, str(script), str(tree.root), "-d", "7", "-np", "1"], check=True, capture_output=True
    )
    assert len(os.listdir(raw / "Dataset007_ATLAS" / "labelsTr")) == 5


@pytest.mark.skipif(not (SHARED_DATA / "ms-lesions").is_dir(), reason="../shared/data/ms-lesions is absent")
def test_real_patients_laid_out_as_atlas(tmp_path, raw):
    tree = Tree(tmp_path)
    for number, patient in enumerate(("07", "19"), start=1):
        image, mask = tree.paths(f"r001s00{number}")
        image.parent.mkdir(parents=True)
        image.symlink_to(SHARED_DATA / "ms-lesions" / "images" / f"patient{patient}_T1.nii.gz")
        mask.symlink_to(SHARED_DATA / "ms-lesions" / "masks" / f"patient{patient}_lesions.nii.gz")
    convert(tree, raw, split="paper")
    rows = rows_of(raw / "Dataset100_ATLAS" / "cases.csv")
    assert all(17 <= int(row["lesion_count"]) <= 370 and float(row["lesion_volume_mm3"]) > 0 for row in rows)
    assert len(rows) == 2
