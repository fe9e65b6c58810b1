"""The converter on faulty ATLAS trees; see also test_atlas_broken_inputs.py."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.datasets import atlas_to_raw
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from tests.atlas_tree import SHAPE, SHEET, Tree, convert, problems_of, raw, rows_of, tree

__all__ = ["raw", "tree"]  # fixtures


def test_binarize_lists_the_masks_it_changed_and_how(tree, raw, capsys):
    arrays = {}
    for subject, values in (("r001s001", (2, 255)), ("r002s001", (-1, 1)), ("r001s002", (0.99999994, 1))):
        arrays[subject] = np.zeros(SHAPE, np.float32)
        arrays[subject][3, 3, 3:5] = values
        tree.write(tree.paths(subject)[1], arrays[subject])
    several = np.arange(720).reshape(SHAPE).astype(np.float32) / 2
    tree.write(tree.paths("r009s003")[1], several)
    found = problems_of(tree, raw)
    assert len(found) == 3 and found[tree.paths("r009s003")[1]].endswith(
        "Got: 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5 and 712 more"
    )
    assert main(["convert-atlas", str(tree.root), "-np", "1", "--binarize"]) == 0
    folder = raw / "Dataset100_ATLAS"
    changed = {row["path"]: row["warning"] for row in rows_of(folder / "warnings.csv")}
    assert changed == {
        str(tree.paths("r001s001")[1]): "made binary: 2, 255 became 1",
        str(tree.paths("r002s001")[1]): "made binary: -1 became 0",
        str(tree.paths("r009s003")[1]): "made binary: 0.5, 1.5, 2, 2.5, 3, 3.5, 4, 4.5 and 710 more became 1",
    }
    out = capsys.readouterr().out
    assert (
        f"3 warnings: {folder / 'warnings.csv'}\n- {tree.paths('r001s001')[1]}: made binary: 2, 255 became 1\n" in out
    )
    for subject, array in arrays.items():
        label = sitk.ReadImage(str(folder / "labelsTr" / f"sub-{subject}_ses-1.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label), array > 0)


def test_hidden_files_are_left_out(tree, raw):
    """On disks of other systems, macOS leaves ._NAME next to every NAME, and hidden folders at the top."""
    for path in [path for path in tree.root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    (tree.root / ".DS_Store").write_bytes(b"\0")
    for hidden in (tree.root.parent / ".Trashes" / "Training", tree.root / "Training" / ".R001"):
        shutil.copytree(tree.root / "Training" / "R001", hidden / "R001")
    tree.root = tree.root.parent
    done = convert(tree, raw)
    assert len(done.sessions) == 6 and done.skipped == done.warnings == [] and done.metadata.path.name == SHEET
    assert not list(done.folder.rglob("._*"))


def test_a_warning_about_two_subjects_with_the_same_image(tree, raw, capsys):
    paths = {subject: tree.paths(subject) for subject in ("r001s001", "r002s001", "r009s003")}
    for subject, count in (("r002s001", 2), ("r009s003", 1)):
        for source, target in list(zip(paths["r001s001"], paths[subject], strict=True))[:count]:
            shutil.copy(source, target)
    tree.write(paths["r009s003"][1], np.ones(SHAPE, np.uint8))
    again = tree.paths("r001s002", session=2)  # the same subject: no leakage
    for source, target in zip(tree.paths("r001s002"), again, strict=True):
        shutil.copy(source, target)
    test_image = shutil.copy(tree.paths("r001s002")[0], tree.paths("r031s001", part="Testing")[0])
    assert main(["convert-atlas", str(tree.root), "-np", "1"]) == 0
    first, other = paths["r001s001"][0], tree.paths("r001s002")[0]
    expected = {
        str(paths["r002s001"][0]): f"sub-r002s001_ses-1 has the same image and mask as sub-r001s001_ses-1: {first}",
        str(paths["r009s003"][0]): f"sub-r009s003_ses-1 has the same image as sub-r001s001_ses-1: {first}",
        str(test_image): f"sub-r031s001_ses-1 has the same image as sub-r001s002_ses-1: {other}",
    }
    assert {row["path"]: row["warning"] for row in rows_of(raw / "Dataset100_ATLAS" / "warnings.csv")} == expected
    out = capsys.readouterr().out
    assert all(f"- {path}: {what}\n" in out for path, what in expected.items())


def test_a_warning_about_an_unused_second_mask(tree, raw, capsys):
    _, mask = tree.paths("r001s001")
    right = shutil.copy(mask, mask.with_name(mask.name.replace("label-L", "label-R")))
    done = convert(tree, raw)
    (warning,) = done.warnings
    assert (
        warning.path == right
        and warning.what == f"an additional mask of the case, which is ignored. Mask used: {mask.name}"
    )
    np.testing.assert_array_equal(
        *(
            sitk.GetArrayFromImage(sitk.ReadImage(str(p)))
            for p in (mask, done.folder / "labelsTr" / "sub-r001s001_ses-1.nii.gz")
        )
    )


def test_no_case_at_all(tmp_path, raw):
    (tmp_path / "ATLAS_2" / "Training").mkdir(parents=True)
    found = problems_of(Tree(tmp_path), raw)
    assert found[tmp_path / "ATLAS_2"].startswith(
        "no case in this folder or up to 2 levels below it. Expected: Training/R001/sub-r001s001/ses-1"
    )


def test_a_target_folder_that_exists(tree, raw):
    (raw / "Dataset100_Other").mkdir()
    with pytest.raises(BadInputError, match=f"{raw / 'Dataset100_Other'}: the target folder exists"):
        convert(tree, raw)
    assert os.listdir(raw) == ["Dataset100_Other"]
    with pytest.raises(BadInputError, match=r"the dataset number is out of range\. Expected: 1 to 999\. Got: 1000"):
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
    assert found[tree.root] == "no case left to convert. Expected: at least one with a mask. Got: none"


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
    assert "2 problems; the affected files were skipped: " in capsys.readouterr().out
