"""Everything that may be wrong with a tree of ATLAS R3.0: named with its path, in one report, nothing half written."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from tests.atlas_tree import NativeTree, convert, native, problems_of, raw, rows_of, tree

__all__ = ["native", "raw", "tree"]  # fixtures


def rewrite(path, array):
    """Other voxels on the file's own grid."""
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(sitk.ReadImage(str(path)))
    sitk.WriteImage(made, str(path))


def array_of(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_missing_files(native, raw):
    image, _ = native.paths("r001s001")
    image.unlink()
    _, mask = native.paths("soop0003")
    mask.unlink()
    found = problems_of(native, raw)
    assert found[image].startswith("missing image. Expected: this file. Got: sub-r001s001_ses-1_metadata.csv, sub-r001")
    assert found[mask].startswith("missing mask. Expected: this file. Got: sub-soop0003_ses-1_metadata.csv, sub-soop")
    assert len(found) == 2


def test_the_mask_of_another_grid(native, raw):
    image, mask = native.paths("r001s001")
    _, other = native.paths("r002s001")
    mask.write_bytes(other.read_bytes())
    sizes = [str(sitk.ReadImage(str(path)).GetSize()) for path in (image, mask)]
    moved = sitk.ReadImage(str(other))
    moved.SetSpacing([1.05 * edge for edge in moved.GetSpacing()])
    sitk.WriteImage(moved, str(other))
    found = problems_of(native, raw)
    assert found[mask] == f"another size than its image. Expected: {sizes[0]}. Got: {sizes[1]}"
    assert found[other].startswith("another affine than its image. Expected: [[") and len(found) == 2


def test_two_files_for_one_session(native, raw):
    image, mask = native.paths("r001s001")
    image.with_suffix("").write_bytes(gzip.decompress(image.read_bytes()))
    wrong = mask.with_name(mask.name.replace("s001", "s009"))
    wrong.write_bytes(mask.read_bytes())
    found = problems_of(native, raw)
    assert found[image.parent].startswith("two files for one case. Expected: one image. Got: sub-r001s001_ses-1_space-")
    assert found[wrong].startswith("named after another case. Expected: sub-r001s001_ses-1_space-orig_label-lesion_")


def test_a_session_at_two_sites(native, raw):
    image, _ = native.paths("r001s001")
    folder = native.root / "R002" / "sub-r001s001" / "ses-1" / "anat"
    folder.mkdir(parents=True)
    for path in image.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    found = problems_of(native, raw)
    assert found[image] == f"two files for one case. Expected: one sub-r001s001_ses-1. Got: {folder / image.name} too"


def test_what_the_voxels_may_be(native, raw):
    image, _ = native.paths("r001s001")
    values = array_of(image)
    values[0, 0, :2] = np.nan, np.inf
    rewrite(image, values)
    masks = [native.paths(subject)[1] for subject in ("r001s002", "r002s001", "r010s001", "soop0003")]
    arrays = [array_of(mask).astype(np.float64) for mask in masks]
    rewrite(masks[0], 0 * arrays[0])
    rewrite(masks[1], 3 * arrays[1])
    arrays[2][0, 0, 0] = np.nan
    rewrite(masks[2], arrays[2])
    masks[3].write_bytes(masks[3].read_bytes()[:-40])
    found = problems_of(native, raw)
    assert found == {
        image: "NaN or infinity in the image. Expected: finite values. Got: 2 voxels",
        masks[0]: "an empty mask. Expected: at least one voxel of 1. Got: 0 only",
        masks[1]: "a mask that is not 0/1. Expected: 0 and 1 (--binarize takes what is above 0 for 1). Got: 0, 3",
        masks[2]: "NaN in the mask. Expected: 0 and 1. Got: 1 voxels",
        masks[3]: "unreadable. Expected: a whole image. Got: Compressed file ended before the end-of-stream marker "
        "was reached",
    }


def test_sheets_and_files_in_one_report(native, raw, capsys):
    sheet = native.sheet("r001s001")
    sheet.write_text("ATLAS2_DATASET\nTraining\n")
    _, mask = native.paths("r002s001")
    mask.unlink()
    assert main(["convert-atlas", str(native.root), "-np", "1", "--exclude-atlas2", "hidden"]) == 1
    report = capsys.readouterr().err
    assert "3 problems, nothing was written:" in report and f"- {sheet}: no column with the session." in report
    assert f"- {mask}: missing mask" in report and "- no such value" not in report
    assert f"- {native.root}: no such value of ATLAS2_DATASET. Expected: Testing, Training. Got: hidden" in report


def test_skip_bad_converts_the_rest(native, raw):
    _, mask = native.paths("r001s001")
    rewrite(mask, 0 * array_of(mask))
    sheet = native.sheet("r002s001")
    sheet.write_text("SITE\nR002\n")
    done = convert(native, raw, skip_bad=True, split="volume")
    rows = {row["case"]: row for row in rows_of(raw / "Dataset100_ATLAS" / "cases.csv")}
    assert len(done.sessions) == len(rows) == 7 and "sub-r001s001_ses-1" not in rows
    assert rows["sub-r002s001_ses-1"]["ATLAS2_DATASET"] == ""
    skipped = rows_of(raw / "Dataset100_ATLAS" / "skipped.csv")
    assert [row["path"] for row in skipped] == [str(sheet), str(mask)]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_two_releases_are_no_source(tmp_path, native, tree, raw, skip_bad):
    tree.root = tmp_path
    found = problems_of(tree, raw, skip_bad=skip_bad)
    assert found[tmp_path].startswith("more than one release. Expected: the folder of one of them. Got: ")


def test_no_release_and_a_taken_number_in_one_report(tmp_path, raw, capsys):
    (raw / "Dataset100_Other").mkdir()
    assert main(["convert-atlas", str(NativeTree(tmp_path).root)]) == 1
    report = capsys.readouterr().err
    assert "2 problems" in report and "the target folder exists" in report and "Got: no such folder" in report
