"""ATLAS R3.0 to nnU-Net raw data: different grids, metadata, splits, and excluded sessions."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.datasets.atlas_layouts import NATIVE, PREPROCESSED
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from nnunet_ici.datasets.splits import volume_split
from tests.atlas_tree import NativeTree, convert, native, raw, rows_of

__all__ = ["native", "raw"]  # fixtures


def geometry(path):
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def test_the_data_set_as_nnunet_reads_it(native, raw):
    done = convert(native, raw)
    folder = raw / "Dataset100_ATLAS"
    assert done.release == "R3.0, native space" and len(done.sessions) == 8 and not done.excluded
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["release"] == "R3.0" and dataset["description"].endswith("T1w in native space")
    assert dataset["overwrite_image_reader_writer"] == "NibabelIOWithReorient"
    assert "isles-26" in dataset["reference"] and dataset["numTraining"] == 8
    assert sorted(os.listdir(folder)) == ["cases.csv", "dataset.json", "imagesTr", "labelsTr"]
    grids = set()
    for session in done.sessions:
        image, label = folder / f"imagesTr/{session.case}_0000.nii.gz", folder / f"labelsTr/{session.case}.nii.gz"
        assert geometry(image) == geometry(label) == geometry(session.image)
        grids.add(geometry(image))
    assert len(grids) == 8


def test_cases_csv(native, raw):
    convert(native, raw)
    rows = {row["case"]: row for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    row = rows["sub-soop0003_ses-1"]
    spacing = sitk.ReadImage(str(native.paths("soop0003")[1])).GetSpacing()
    volume_mm3 = float(row.pop("lesion_volume_mm3"))
    assert volume_mm3 == pytest.approx(9 * np.prod(spacing), rel=1e-5)
    assert row == {
        "case": "sub-soop0003_ses-1", "split": "train", "site": "SOOP", "subject": "sub-soop0003", "session": "ses-1",
        "lesion_count": "2", "ATLAS2_DATASET": "", "DAYS_POST_STROKE": "3.0", "CHRONICITY": "1", "SITE": "SOOP",
    }  # fmt: skip


def test_the_volume_is_that_of_the_affine(tmp_path, raw):
    tree = NativeTree(tmp_path)
    image, mask = tree.add("r001s001")
    array = np.zeros((6, 6, 6), np.uint8)
    array[2, 2, 2:5] = 1
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.3, -0.2, 0.1)
    for path, content in ((image, array.astype(np.float32)), (mask, array)):
        made = sitk.GetImageFromArray(content)
        made.SetSpacing((0.5, 2.0, 3.0))
        made.SetDirection((np.array(turn.GetMatrix()).reshape(3, 3) * [-1, 1, 1]).ravel().tolist())
        sitk.WriteImage(made, str(path))
    convert(tree, raw)
    assert rows_of(raw / "Dataset100_ATLAS" / "cases.csv")[0]["lesion_volume_mm3"] == "9"  # 3 voxels of 3 mm3


def test_masks_that_a_scale_leaves_just_below_1(native, raw):
    _, mask = native.paths("r001s001")
    made = sitk.ReadImage(str(mask))
    array = sitk.GetArrayFromImage(made)
    stored = sitk.GetImageFromArray(array * 0.9999999776482582)
    stored.CopyInformation(made)
    sitk.WriteImage(stored, str(mask))
    convert(native, raw)
    label = sitk.ReadImage(str(raw / "Dataset100_ATLAS/labelsTr/sub-r001s001_ses-1.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), array)
    assert label.GetPixelIDTypeAsString() == "8-bit unsigned integer" and label.GetSpacing() == made.GetSpacing()


def test_the_former_test_set_is_left_out_and_listed(native, raw):
    native.paths("r010s001")[1].write_text("broken")  # not needed then
    done = convert(native, raw, exclude=["test"])
    folder = raw / "Dataset100_ATLAS"
    assert done.excluded == {"sub-r001s002_ses-1": "Testing", "sub-r010s001_ses-1": "Testing"}
    assert rows_of(folder / "excluded.csv") == [
        {"case": case, "ATLAS2_DATASET": "Testing"} for case in ("sub-r001s002_ses-1", "sub-r010s001_ses-1")
    ]
    cases = {row["case"] for row in rows_of(folder / "cases.csv")}
    assert len(cases) == 6 and not cases & set(done.excluded)
    assert len(os.listdir(folder / "imagesTr")) == 6 and not (folder / "skipped.csv").exists()


def test_all_left_out(native, raw):
    native.sheet("r071s001").write_text("SESSION_ID,ATLAS2_DATASET\nses-1,new\n")
    native.sheet("soop0003").write_text("SESSION_ID,ATLAS2_DATASET\nses-1,new\n")
    with pytest.raises(
        BadInputError, match=r"no case left to convert\. Expected: at least one with a mask\. Got: none"
    ):
        convert(native, raw, exclude=["training", "testing", "new"])
    assert os.listdir(raw) == []


@pytest.mark.parametrize("kind", ["site", "volume"])
def test_five_folds(native, raw, kind):
    done = convert(native, raw, split=kind, preprocessed=raw.parent / "nnUNet_preprocessed")
    splits = json.loads(done.splits[1].read_text())
    assert len(done.splits) == 2 and len(splits) == 5
    validated = sorted(case for fold in splits for case in fold["val"])
    assert validated == [session.case for session in done.sessions]
    folds = [index for index, fold in enumerate(splits) for case in fold["val"] if "r009s003" in case]
    assert len(folds) == 2 and len(set(folds)) == 1  # both sessions of that subject


def test_the_split_by_volume_is_that_of_the_converted_volumes(native, raw):
    done = convert(native, raw, split="volume", seed=3)
    rows = rows_of(done.folder / "cases.csv")
    volumes = [float(row["lesion_volume_mm3"]) for row in rows]
    assert [row["case"] for row in rows] == [session.case for session in done.sessions]
    assert json.loads(done.splits[0].read_text()) == volume_split(done.sessions, volumes, seed=3)
    assert volume_split(done.sessions, volumes, seed=3) != volume_split(done.sessions, volumes[::-1], seed=3)


def test_the_command_says_what_it_found_and_left_out(native, raw, capsys):
    joint = native.root / "metadata.csv"
    joint.write_text("SESSION_ID,AGE\n" + "".join(f"sub-x{i}_ses-1,1\n" for i in range(7)))
    assert main(["convert-atlas", str(native.root.parent), "-np", "1", "--exclude-atlas2", "TESTING"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ATLAS R3.0, native space\n")
    assert "Dataset100_ATLAS: 6 training cases of 5 subjects, 0 test cases\n" in out
    assert f"metadata: {joint} and individual sheets of 8 sessions\n" in out
    assert "7 entries of the sheet have no folder: sub-x0_ses-1, sub-x1_ses-1, sub-x2_ses-1, sub-x3_ses-1, " in out
    assert "sub-x4_ses-1 and 2 more\n" in out
    excluded = raw / "Dataset100_ATLAS" / "excluded.csv"
    assert f"excluded 2 sessions with ATLAS2_DATASET Testing: {excluded}\n" in out


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--split", "site", "--exclude-atlas2", "testing", "training"], "Expected: at least 5. Got: 2 (R071, SOOP)"),
        (["--split", "volume", "--exclude-atlas2", "training"], "Expected: at least 5. Got: 4"),
        (["--exclude-atlas2", "hidden"], "Expected: Testing, Training. Got: hidden"),
    ],
)
def test_the_command_refuses(native, raw, capsys, options, what):
    assert main(["convert-atlas", str(native.root), "-np", "1", *options]) == 1
    report = capsys.readouterr().err
    assert "1 problem, nothing was written:" in report and report.endswith(f"{what}\n") and os.listdir(raw) == []


def test_the_folds_of_sites(tmp_path, raw, capsys):
    tree = NativeTree(tmp_path)
    for number in range(1, 6):
        tree.add(f"r{number:03d}s001", dataset="Testing" if number == 5 else "Training")
    tree.add("r005s002")
    assert main(["convert-atlas", str(tree.root), "-np", "1", "--split", "site"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ATLAS R3.0, native space\n") and "metadata: individual sheets of 6 sessions\n" in out
    assert out.count("5 + 1") == 8 and out.count("4 + 2") == 2 and "for folds 0 to 4" in out


def test_the_preprocessed_files_of_r21(native, raw):
    for path in sorted(native.root.rglob("*.nii.gz")):
        layouts = ((NATIVE.image, PREPROCESSED.image), (NATIVE.mask, PREPROCESSED.mask))
        for before, after in layouts:
            if before in path.name:
                path.rename(path.with_name(path.name.replace(before, after)))
    native.root.parent.joinpath("ATLAS_R2.1").mkdir()
    native.root = native.root.rename(native.root.parent / "ATLAS_R2.1" / "Training_Preprocessed")
    done = convert(native, raw)
    assert done.release == "R2.1, MNI152NLin2009aSym, preprocessed" and len(done.sessions) == 8
    dataset = json.loads((raw / "Dataset100_ATLAS" / "dataset.json").read_text())
    assert dataset["release"] == "R2.1" and dataset["description"].endswith("T1w in MNI152NLin2009aSym, preprocessed")
