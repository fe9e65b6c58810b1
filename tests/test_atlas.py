"""ATLAS R2.0 to nnU-Net raw data: small trees in the released layout, and everything that may be wrong with them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.datasets import atlas_to_raw
from nnunet_ici.datasets.atlas import IMAGE_SUFFIX, MASK_SUFFIX, find_sessions, read_metadata
from nnunet_ici.datasets.atlas_to_raw import BadInputError, convert_atlas
from tests.conftest import ROOT, SHARED_DATA

SHAPE = (10, 9, 8)
SHEET = "20220425_ATLAS_2.0_MetaData.csv"


def image_of(array, origin=(98.0, 134.0, -72.0), spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


class Tree:
    """An ATLAS_2 folder in the making."""

    def __init__(self, root: Path):
        self.root = root / "ATLAS_2"
        self.rng = np.random.default_rng(0)

    def paths(self, subject, session=1, part="Training"):
        site = subject[:4].upper()
        anat = self.root / part / site / f"sub-{subject}" / f"ses-{session}" / "anat"
        name = f"sub-{subject}_ses-{session}_"
        return anat / f"{name}{IMAGE_SUFFIX}.nii.gz", anat / f"{name}{MASK_SUFFIX}.nii.gz"

    def add(self, subject, session=1, part="Training", mask_dtype=np.uint8):
        image, mask = self.paths(subject, session, part)
        image.parent.mkdir(parents=True)
        sitk.WriteImage(image_of(self.rng.normal(100, 9, SHAPE).astype(np.float32)), str(image))
        if part == "Training":
            array = np.zeros(SHAPE, mask_dtype)
            array[2:4, 2:4, 2:4] = array[7, 7, 7] = 1
            sitk.WriteImage(image_of(array), str(mask))
        return image, mask

    def write(self, path, array, **geometry):
        sitk.WriteImage(image_of(array, **geometry), str(path))


@pytest.fixture
def tree(tmp_path):
    """Four training subjects, one of them with two sessions, and a test subject."""
    tree = Tree(tmp_path)
    for subject in ("r001s001", "r001s002", "r002s001", "r009s003"):
        tree.add(subject)
    tree.add("r001s002", session=2)
    tree.add("r031s001", part="Testing")
    (tree.root / SHEET).write_text(
        "Subject ID,Session,Chronicity\nsub-r001s001,ses-1,chronic\nr001s002,1,acute\nR001S002,2.0,chronic\n"
    )
    return tree


@pytest.fixture
def raw(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "nnUNet_raw"


def convert(tree, raw, **options):
    return convert_atlas(tree.root, raw, processes=1, **options)


def problems_of(tree, raw, **options):
    """The messages of a refused conversion, which must have left nothing behind."""
    with pytest.raises(BadInputError) as caught:
        convert(tree, raw, **options)
    assert os.listdir(raw) == []
    return {problem.path: problem.what for problem in caught.value.problems}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


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
    sessions, problems = find_sessions(tree.root.parent / source)
    assert len(sessions) == 6 and not problems
    assert (
        read_metadata(tree.root.parent / source)[0].path == tree.root.parent / source / "ATLAS_2" / SHEET
        or source != "."
    )


def test_missing_files(tree, raw):
    image, _ = tree.paths("r001s001")
    image.unlink()
    _, mask = tree.paths("r002s001")
    mask.rename(mask.with_name("other.nii.gz"))
    found = problems_of(tree, raw)
    assert found[image].startswith("missing image. Expected: this file. Got: sub-r001s001_ses-1_space-")
    assert found[mask].startswith("missing mask. Expected: this file. Got: other.nii.gz, sub-r002s001")
    assert len(found) == 2


def test_truncated_and_unreadable_files(tree, raw):
    image, mask = tree.paths("r001s001")
    image.write_bytes(image.read_bytes()[:-200])
    mask.write_text("no gzip")
    test_image, _ = tree.paths("r031s001", part="Testing")
    test_image.write_bytes(test_image.read_bytes()[:100])
    found = problems_of(tree, raw)
    assert found[image] == (
        "unreadable. Expected: a whole image. Got: Compressed file ended before the end-of-stream marker was reached"
    )
    assert found[mask].startswith("unreadable. Expected: a whole image. Got: Not a gzipped file")
    assert test_image in found and len(found) == 3


def test_another_size_or_affine(tree, raw):
    masks = [tree.paths(subject)[1] for subject in ("r001s001", "r001s002", "r002s001", "r009s003")]
    lesion = np.ones(SHAPE, np.uint8)
    tree.write(masks[0], lesion[:-1])
    tree.write(masks[1], lesion, origin=(98.0, 134.0, -71.0))
    tree.write(masks[2], lesion, spacing=(1.0, 1.0, 1.1))
    flipped = image_of(lesion)
    flipped.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(flipped, str(masks[3]))
    found = problems_of(tree, raw)
    assert found[masks[0]] == "another size than its image. Expected: (8, 9, 10). Got: (8, 9, 9)"
    affine = "[[{1}, 0.0, 0.0, {2}], [0.0, {1}, 0.0, {3}], [0.0, 0.0, {4}, {5}]]"
    expected = affine.format(0, 1.0, -98.0, -134.0, 1.0, -72.0)
    for mask, got in (
        (masks[1], affine.format(0, 1.0, -98.0, -134.0, 1.0, -71.0)),
        (masks[2], affine.format(0, 1.0, -98.0, -134.0, 1.1, -72.0)),
        (masks[3], affine.format(0, -1.0, -98.0, -134.0, 1.0, -72.0)),
    ):
        # nibabel writes some zeros as -0.0
        assert found[mask].replace("-0.0", "0.0") == f"another affine than its image. Expected: {expected}. Got: {got}"


def test_rounding_of_the_affine_is_no_difference(tree, raw):
    _, mask = tree.paths("r001s001")
    tree.write(mask, np.ones(SHAPE, np.uint8), origin=(98.0002, 134.0, -72.0))
    assert len(convert(tree, raw).sessions) == 6


def test_nan_in_image_and_mask(tree, raw):
    image, mask = tree.paths("r001s001")
    array = np.ones(SHAPE, np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    tree.write(image, array)
    tree.write(mask, array)
    found = problems_of(tree, raw, binarize=True)
    assert found[image] == "NaN or infinity in the image. Expected: finite values. Got: 3 voxels"
    assert found[mask] == "NaN in the mask. Expected: 0 and 1. Got: 3 voxels"


def test_a_mask_that_is_not_0_and_1(tree, raw):
    _, mask = tree.paths("r001s001")
    array = np.zeros(SHAPE, np.uint8)
    array[3, 3, 3:5] = 2, 255
    tree.write(mask, array)
    _, other = tree.paths("r002s001")
    tree.write(other, np.arange(720).reshape(SHAPE).astype(np.float32) / 2)
    found = problems_of(tree, raw)
    assert found[mask] == (
        "a mask that is not 0/1. Expected: 0 and 1 (--binarize takes what is above 0 for 1). Got: 0, 2, 255"
    )
    assert found[other].endswith("Got: 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5 and 712 more")
    convert(tree, raw, binarize=True)
    label = sitk.ReadImage(str(raw / "Dataset100_ATLAS" / "labelsTr" / "sub-r001s001_ses-1.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), array > 0)


def test_four_axes_are_no_volume(tree, raw):
    image, _ = tree.paths("r001s001")
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, *SHAPE), np.float32), isVector=False), str(image))
    assert problems_of(tree, raw)[image] == "not a volume. Expected: 3 axes. Got: shape (8, 9, 10, 2)"


def test_an_empty_mask(tree, raw):
    _, mask = tree.paths("r001s001")
    tree.write(mask, np.zeros(SHAPE, np.uint8))
    assert problems_of(tree, raw) == {mask: "an empty mask. Expected: at least one voxel of 1. Got: 0 only"}


def test_two_files_for_one_case(tree, raw):
    image, mask = tree.paths("r001s001")
    image.with_suffix("").write_bytes(gzip.decompress(image.read_bytes()))
    again, _ = tree.add("r002s001", part="Testing")
    wrong = mask.with_name(mask.name.replace("s001", "s007"))
    wrong.write_bytes(mask.read_bytes())
    found = problems_of(tree, raw)
    assert found[image.parent].startswith("two files for one case. Expected: one image. Got: sub-r001s001_ses-1_space-")
    assert found[tree.paths("r002s001")[0]].endswith(f"Expected: one sub-r002s001_ses-1. Got: {again} too")
    assert found[wrong].startswith("named after another case. Expected: sub-r001s001_ses-1_")


def test_no_case_at_all(tmp_path, raw):
    (tmp_path / "ATLAS_2" / "Training").mkdir(parents=True)
    found = problems_of(Tree(tmp_path), raw)
    assert found[tmp_path / "ATLAS_2"].startswith(
        "no case at all. Expected: {Training,Testing}/R001/sub-r001s001/ses-1"
    )


def test_a_target_folder_that_exists(tree, raw):
    (raw / "Dataset100_Other").mkdir()
    with pytest.raises(BadInputError, match=f"{raw / 'Dataset100_Other'}: the target folder exists"):
        convert(tree, raw)
    assert os.listdir(raw) == ["Dataset100_Other"]
    with pytest.raises(BadInputError, match=r"no such data set number\. Expected: 1 to 999\. Got: 1000"):
        convert(tree, raw, dataset_id=1000)


def test_skip_bad_converts_the_rest_and_lists_it(tree, raw):
    _, empty = tree.paths("r001s001")
    tree.write(empty, np.zeros(SHAPE, np.uint8))
    image, _ = tree.paths("r002s001")
    image.unlink()
    done = convert(tree, raw, skip_bad=True)
    folder = raw / "Dataset100_ATLAS"
    assert sorted(os.listdir(folder / "labelsTr")) == [
        "sub-r001s002_ses-1.nii.gz", "sub-r001s002_ses-2.nii.gz", "sub-r009s003_ses-1.nii.gz",
    ]  # fmt: skip
    skipped = {row["path"]: row["problem"] for row in rows_of(folder / "skipped.csv")}
    assert set(skipped) == {str(empty), str(image)} and skipped[str(empty)].startswith("an empty mask")
    assert len(done.skipped) == 2 and json.loads((folder / "dataset.json").read_text())["numTraining"] == 3


def test_skip_bad_with_nothing_left(tmp_path, raw):
    tree = Tree(tmp_path)
    _, mask = tree.add("r001s001")
    tree.write(mask, np.zeros(SHAPE, np.uint8))
    found = problems_of(tree, raw, skip_bad=True)
    assert found[tree.root] == "no case left to convert. Expected: one with a mask. Got: none"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_half_written(tree, raw, monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(atlas_to_raw, "_write_tables", broken)  # after all images
    with pytest.raises(type(error)):
        convert(tree, raw)
    assert os.listdir(raw) == []


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
    with pytest.raises(BadInputError, match=rf"{different}: another split is there"):
        convert(tree, raw, dataset_id=102, preprocessed=preprocessed, split="paper")
    assert different.read_text() == "[]" and not (raw / "Dataset102_ATLAS").exists()


def test_metadata_sheets(tree, raw):
    sheet = tree.root / SHEET
    sheet.write_text("Name,Age\nx,1\n")
    found = problems_of(tree, raw)
    assert found[sheet] == "no column with the subjects. Expected: one named Subject ID. Got: Name, Age"
    sheet.write_text("Subject ID,Age\nr001s001,1\nsub-r001s001,2\n")
    assert problems_of(tree, raw)[sheet] == "two rows for one case. Expected: one. Got: r001s001"
    sheet.write_text("")
    assert problems_of(tree, raw)[sheet] == "cannot be read. Expected: a table with a header. Got: an empty file"
    sheet.write_text("SubjectID,Age\nr001s002,77\n")
    convert(tree, raw)
    ages = {row["case"]: row["Age"] for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert ages["sub-r001s002_ses-1"] == ages["sub-r001s002_ses-2"] == "77" and ages["sub-r001s001_ses-1"] == ""


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
    assert "Dataset100_ATLAS: 5 training cases of 4 subjects, 1 test cases" in out
    assert str(tree.root / SHEET) in out and "for fold 0" in out
    assert main(["convert-atlas", str(tree.root)]) == 1
    assert "the target folder exists" in capsys.readouterr().err


def test_the_command_lists_all_problems_in_one_report(tree, raw, capsys):
    _, mask = tree.paths("r001s001")
    tree.write(mask, np.zeros(SHAPE, np.uint8))
    image, _ = tree.paths("r002s001")
    image.unlink()
    assert main(["convert-atlas", str(tree.root), "-np", "1"]) == 1
    report = capsys.readouterr().err
    assert "2 problems, nothing was written:" in report and "--skip-bad converts the rest" in report
    assert f"- {mask}: an empty mask" in report and f"- {image}: missing image" in report
    assert main(["convert-atlas", str(tree.root), "-np", "1", "--skip-bad"]) == 0
    assert "2 problems, what has them was left out" in capsys.readouterr().out


def test_the_command_without_its_folders(tree, raw, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_preprocessed")
    assert main(["convert-atlas", str(tree.root), "--split", "paper", "-np", "1"]) == 0
    assert "nnUNet_preprocessed is not set: copy the split to" in capsys.readouterr().out
    monkeypatch.delenv("nnUNet_raw")
    assert main(["convert-atlas", str(tree.root)]) == 1
    assert "nnUNet_raw is not set: export nnUNet_raw=" in capsys.readouterr().err


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
