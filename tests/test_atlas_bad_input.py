"""Everything that may be wrong with an ATLAS tree: named with its path, in one report, and nothing half written."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.datasets import atlas_to_raw
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from tests.atlas_tree import SHAPE, SHEET, Tree, convert, image_of, problems_of, raw, rows_of, tree

__all__ = ["raw", "tree"]  # fixtures


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
        "no case at all, in it or up to 2 folders down. Expected: Training/R001/sub-r001s001/ses-1"
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

    monkeypatch.setattr(atlas_to_raw, "write_tables", broken)  # after all images
    with pytest.raises(type(error)):
        convert(tree, raw)
    assert os.listdir(raw) == []


def test_metadata_sheets(tree, raw):
    sheet = tree.root / SHEET
    sheet.write_text("Name,Age\nx,1\n")
    found = problems_of(tree, raw)
    assert found[sheet] == "no column with the subjects. Expected: one named Subject ID or SESSION_ID. Got: Name, Age"
    sheet.write_text("Subject ID,Age\nr001s001,1\nsub-r001s001,2\n")
    assert problems_of(tree, raw)[sheet] == "two rows for one case. Expected: one. Got: r001s001"
    sheet.write_text("")
    assert problems_of(tree, raw)[sheet] == "cannot be read. Expected: a table with a header. Got: an empty file"
    sheet.write_text("SubjectID,Age\nr001s002,77\n")
    convert(tree, raw)
    ages = {row["case"]: row["Age"] for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert ages["sub-r001s002_ses-1"] == ages["sub-r001s002_ses-2"] == "77" and ages["sub-r001s001_ses-1"] == ""


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
