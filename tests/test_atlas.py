"""ATLAS R2.0 and R3.0 to nnU-Net raw data, on small trees in the released layouts."""

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
from nnunet_ici.datasets.atlas import NATIVE, PREPROCESSED
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from nnunet_ici.datasets.splits import volume_split
from tests.atlas_tree import SHAPE, SHEET, Tree, array_of, convert, native, raw, rows_of, sessions_of, tree
from tests.conftest import ROOT, SHARED_DATA

__all__ = ["native", "raw", "tree"]  # fixtures


def geometry(path):
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def dataset_of(folder):
    return json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize("kind", ["tree", "native"])
def test_the_data_set_as_nnunet_reads_it(kind, request, raw):
    made = request.getfixturevalue(kind)
    done = convert(made, raw)
    folder = raw / "Dataset100_ATLAS"
    assert done.folder == folder and not done.excluded
    training = [session for session in done.sessions if session.mask is not None]
    assert sorted(os.listdir(folder / "imagesTr")) == [f"{session.case}_0000.nii.gz" for session in training]
    assert sorted(os.listdir(folder / "labelsTr")) == [f"{session.case}.nii.gz" for session in training]
    for session in training:
        image, label = folder / f"imagesTr/{session.case}_0000.nii.gz", folder / f"labelsTr/{session.case}.nii.gz"
        assert geometry(image) == geometry(label) == geometry(session.image)
        np.testing.assert_array_equal(array_of(image), array_of(session.image))
        np.testing.assert_array_equal(array_of(label), array_of(session.mask))
    dataset = dataset_of(folder)
    assert dataset["labels"] == {"background": 0, "lesion": 1} and dataset["channel_names"] == {"0": "T1w"}
    assert [dataset["numTraining"], dataset["file_ending"]] == [len(training), ".nii.gz"]
    if kind == "tree":
        assert len(training) == 5 and os.listdir(folder / "imagesTs") == ["sub-r031s001_ses-1_0000.nii.gz"]
        assert done.release == "R2.0, MNI152NLin2009aSym" and "overwrite_image_reader_writer" not in dataset
        assert dataset["release"] == "R2.0" and dataset["description"].endswith("T1w in MNI152NLin2009aSym")
        assert sorted(os.listdir(folder)) == ["cases.csv", "dataset.json", "imagesTr", "imagesTs", "labelsTr"]
    else:
        assert len({geometry(session.image) for session in training}) == len(training) == 8
        assert done.release == "R3.0, native space" and dataset["description"].endswith("T1w in native space")
        assert dataset["release"] == "R3.0" and dataset["overwrite_image_reader_writer"] == "NibabelIOWithReorient"
        assert "isles-26" in dataset["reference"]
        assert sorted(os.listdir(folder)) == ["cases.csv", "dataset.json", "imagesTr", "labelsTr"]


def test_cases_csv(tree, native, raw):
    rows = {row["case"]: row for row in rows_of(convert(tree, raw).folder / "cases.csv")}
    assert rows["sub-r001s002_ses-2"] == {
        "case": "sub-r001s002_ses-2", "split": "train", "site": "R001", "subject": "sub-r001s002", "session": "ses-2",
        "lesion_count": "2", "lesion_volume_mm3": "9", "Chronicity": "chronic",
    }  # fmt: skip
    assert rows["sub-r001s002_ses-1"]["Chronicity"] == "acute"
    test = rows["sub-r031s001_ses-1"]
    assert [test["split"], test["lesion_count"], test["lesion_volume_mm3"], test["Chronicity"]] == ["test", "", "", ""]
    rows = {row["case"]: row for row in rows_of(convert(native, raw, dataset_id=101).folder / "cases.csv")}
    volume_mm3 = 9 * np.prod(geometry(native.paths("soop0003")[1])[1])
    row = rows["sub-soop0003_ses-1"]
    assert float(row.pop("lesion_volume_mm3")) == pytest.approx(volume_mm3, rel=1e-5)
    assert row == {
        "case": "sub-soop0003_ses-1", "split": "train", "site": "SOOP", "subject": "sub-soop0003", "session": "ses-1",
        "lesion_count": "2", "ATLAS2_DATASET": "", "DAYS_POST_STROKE": "3.0", "CHRONICITY": "1", "SITE": "SOOP",
    }  # fmt: skip


def test_the_volume_is_that_of_the_affine(tmp_path, raw):
    tree = Tree(tmp_path)
    array = np.zeros((6, 6, 6), np.uint8)
    array[2, 2, 2:5] = 1
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.3, -0.2, 0.1)
    for path, content in zip(tree.add("r001s001"), (array.astype(np.float32), array), strict=True):
        made = sitk.GetImageFromArray(content)
        made.SetSpacing((0.5, 2.0, 3.0))
        made.SetDirection((np.array(turn.GetMatrix()).reshape(3, 3) * [-1, 1, 1]).ravel().tolist())
        sitk.WriteImage(made, str(path))
    convert(tree, raw)
    assert rows_of(raw / "Dataset100_ATLAS" / "cases.csv")[0]["lesion_volume_mm3"] == "9"  # 3 voxels of 3 mm3


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("scale", [1, 0.9999999776482582])  # some masks are stored with a scale factor
def test_labels_are_integers_whatever_the_masks_were(tmp_path, raw, dtype, scale):
    tree = Tree(tmp_path)
    _, mask = tree.add("r001s001", mask_dtype=dtype)
    array = array_of(mask)
    if scale != 1:
        tree.write(mask, array * scale)
    convert(tree, raw)
    path = raw / "Dataset100_ATLAS" / "labelsTr" / "sub-r001s001_ses-1.nii.gz"
    assert sitk.ReadImage(str(path)).GetPixelIDTypeAsString() == "8-bit unsigned integer"
    np.testing.assert_array_equal(array_of(path), array)
    assert geometry(path) == geometry(mask)


def test_copies_by_default_and_links_on_request(tree, raw):
    convert(tree, raw)
    assert not any(path.is_symlink() for path in (raw / "Dataset100_ATLAS").rglob("*"))
    folder = convert(tree, raw, dataset_id=101, symlink=True).folder
    for name, source in zip(("imagesTr/{}_0000", "labelsTr/{}"), tree.paths("r002s001"), strict=True):
        path = folder / f"{name.format('sub-r002s001_ses-1')}.nii.gz"
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


@pytest.mark.parametrize("kind", ["site", "volume"])
def test_five_folds(native, raw, kind):
    done = convert(native, raw, split=kind, seed=3)
    splits = json.loads(done.splits[0].read_text())
    validated = sorted(case for fold in splits for case in fold["val"])
    assert len(splits) == 5 and validated == [session.case for session in done.sessions]
    folds = [index for index, fold in enumerate(splits) for case in fold["val"] if "r009s003" in case]
    assert len(folds) == 2 and len(set(folds)) == 1  # both sessions of that subject
    rows = rows_of(done.folder / "cases.csv")
    volumes = [float(row["lesion_volume_mm3"]) for row in rows]
    assert [row["case"] for row in rows] == [session.case for session in done.sessions]
    if kind == "volume":
        assert splits == volume_split(done.sessions, volumes, seed=3)
        assert splits != volume_split(done.sessions, volumes[::-1], seed=3)


def test_an_xlsx_sheet(tree, raw, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    (tree.root / SHEET).unlink()
    book = openpyxl.Workbook()
    for row in (["Subject ID", "Session", "Age"], ["sub-r001s002", 2, 66], ["sub-r001s001", None, 1]):
        book.active.append(row)
    book.save(tree.root / SHEET.replace(".csv", ".xlsx"))
    convert(tree, raw)
    ages = {row["case"]: row["Age"] for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert [ages["sub-r001s002_ses-1"], ages["sub-r001s002_ses-2"], ages["sub-r001s001_ses-1"]] == ["", "66", "1"]
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(BadInputError, match=re.escape('pip install "nnunet-ici[xlsx]"')):
        convert(tree, raw, dataset_id=101)


def test_a_sheet_without_sessions(tree, raw):
    (tree.root / SHEET).write_text("SubjectID,Age\nr001s002,77\n")
    convert(tree, raw)
    ages = {row["case"]: row["Age"] for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert ages["sub-r001s002_ses-1"] == ages["sub-r001s002_ses-2"] == "77" and ages["sub-r001s001_ses-1"] == ""


def test_the_former_test_set_is_left_out_and_listed(native, raw, capsys):
    native.paths("r010s001")[1].write_text("broken")  # not needed then
    joint = native.root / "metadata.csv"
    joint.write_text("SESSION_ID,AGE\n" + "".join(f"sub-x{i}_ses-1,1\n" for i in range(7)))
    assert main(["convert-atlas", str(native.root.parent), "-np", "1", "--exclude-atlas2", "TEST"]) == 0
    folder = raw / "Dataset100_ATLAS"
    out = capsys.readouterr().out
    assert out.startswith("ATLAS R3.0, native space\n")
    assert "Dataset100_ATLAS: 6 training cases of 5 subjects, 0 test cases\n" in out
    assert f"metadata: {joint} and individual sheets of 8 sessions\n" in out
    assert "7 entries of the sheet have no folder: sub-x0_ses-1, sub-x1_ses-1, sub-x2_ses-1, sub-x3_ses-1, " in out
    assert "sub-x4_ses-1, and 2 more\n" in out
    assert f"excluded 2 sessions with ATLAS2_DATASET Testing: {folder / 'excluded.csv'}\n" in out
    excluded = ("sub-r001s002_ses-1", "sub-r010s001_ses-1")
    assert rows_of(folder / "excluded.csv") == [{"case": case, "ATLAS2_DATASET": "Testing"} for case in excluded]
    cases = {row["case"] for row in rows_of(folder / "cases.csv")}
    assert len(cases) == 6 and not cases & set(excluded)
    assert len(os.listdir(folder / "imagesTr")) == 6 and not (folder / "skipped.csv").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--split", "site", "--exclude-atlas2", "testing", "training"], "Expected: at least 5. Got: 2 (R071, SOOP)"),
        (["--split", "volume", "--exclude-atlas2", "training"], "Expected: at least 5. Got: 4"),
        (["--exclude-atlas2", "hidden"], "Expected: Testing, Training. Got: hidden"),
        (["--exclude-atlas2", "training", "testing", "new"], "Expected: at least one with a mask. Got: none"),
    ],
)
def test_the_command_refuses(native, raw, capsys, options, what):
    if "new" in options:
        for subject in ("r071s001", "soop0003"):
            native.sheet(subject).write_text("SESSION_ID,ATLAS2_DATASET\nses-1,new\n")
    assert main(["convert-atlas", str(native.root), "-np", "1", *options]) == 1
    report = capsys.readouterr().err
    assert "1 problem, nothing was written:" in report and report.endswith(f"{what}\n") and os.listdir(raw) == []


def test_the_preprocessed_files_of_r21(native, raw):
    for before, after in ((NATIVE.image, PREPROCESSED.image), (NATIVE.mask, PREPROCESSED.mask)):
        for path in sorted(native.root.rglob(f"*{before}.nii.gz")):
            path.rename(path.with_name(path.name.replace(before, after)))
    native.root.parent.joinpath("ATLAS_R2.1").mkdir()
    native.root = native.root.rename(native.root.parent / "ATLAS_R2.1" / "Training_Preprocessed")
    done = convert(native, raw)
    assert done.release == "R2.1, MNI152NLin2009aSym, preprocessed" and len(done.sessions) == 8
    dataset = dataset_of(done.folder)
    assert dataset["release"] == "R2.1" and dataset["description"].endswith("T1w in MNI152NLin2009aSym, preprocessed")


def test_the_command(tree, raw, monkeypatch, capsys):
    assert main(["convert-atlas", str(tree.root), "--split", "paper", "-np", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ATLAS R2.0, MNI152NLin2009aSym\n")
    assert "Dataset100_ATLAS: 5 training cases of 4 subjects, 1 test case\n" in out
    assert str(tree.root / SHEET) in out and out.count("cases 4 + 1, for fold 0") == 2
    assert main(["convert-atlas", str(tree.root)]) == 1
    assert "the target folder exists" in capsys.readouterr().err
    monkeypatch.delenv("nnUNet_preprocessed")
    assert main(["convert-atlas", str(tree.root), "-d", "101", "--split", "paper", "-np", "1"]) == 0
    assert "nnUNet_preprocessed is not set: copy the split to" in capsys.readouterr().out
    monkeypatch.delenv("nnUNet_raw")
    assert main(["convert-atlas", str(tree.root)]) == 1
    assert "nnUNet_raw: not set. Expected: a folder. Try: export nnUNet_raw=" in capsys.readouterr().err


def test_the_script_is_the_same_converter(native, raw):
    script = ROOT / "dataset_conversion" / "Dataset100_ATLAS.py"
    command = [sys.executable, str(script), str(native.root), "-d", "7", "-np", "1", "--split", "site"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(os.listdir(raw / "Dataset007_ATLAS" / "labelsTr")) == 8
    assert "metadata: individual sheets of 8 sessions\n" in out and "for folds 0 to 4" in out


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
