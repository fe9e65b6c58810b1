"""The converter on faulty trees of ATLAS R3.0."""

from __future__ import annotations

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


def test_the_mask_of_another_grid(native, raw):
    image, mask = native.paths("r001s001")
    other_image, other = native.paths("r002s001")
    mask.write_bytes(other.read_bytes())
    shapes = [sitk.ReadImage(str(path)).GetSize()[::-1] for path in (image, mask)]
    moved = sitk.ReadImage(str(other))
    moved.SetSpacing([1.05 * edge for edge in moved.GetSpacing()])
    sitk.WriteImage(moved, str(other))
    found = problems_of(native, raw)
    assert found[mask] == f"differs in shape from its image. Expected: {shapes[0]}, as in {image}. Got: {shapes[1]}"
    assert found[other].startswith("differs in spacing from its image. Expected: [") and len(found) == 2
    assert f"], as in {other_image}. Got: [" in found[other]


def test_a_session_at_two_sites(native, raw):
    image, _ = native.paths("r001s001")
    folder = native.root / "R002" / "sub-r001s001" / "ses-1" / "anat"
    folder.mkdir(parents=True)
    for path in image.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    found = problems_of(native, raw)
    assert found[image] == f"several images for sub-r001s001_ses-1. Expected: one. Got: also {folder / image.name}"


def test_sheets_and_files_in_one_report(native, raw, capsys):
    sheet = native.sheet("r001s001")
    sheet.write_text("ATLAS2_DATASET\nTraining\n")
    _, mask = native.paths("r002s001")
    mask.unlink()
    assert main(["convert-atlas", str(native.root), "-np", "1", "--exclude-atlas2", "hidden"]) == 1
    report = capsys.readouterr().err
    assert "3 problems, nothing was written:" in report and f"- {sheet}: no session column." in report
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
