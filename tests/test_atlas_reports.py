"""What the converter tells: all problems at once, what it leaves out, and its warnings."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.command import InputError
from nnunet_ici.datasets import atlas_to_raw
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from tests.atlas_tree import SHAPE, SHEET, Tree, array_of, convert, native, problems_of, raw, rows_of, tree

__all__ = ["native", "raw", "tree"]  # fixtures


def geometry_of(path):
    image = sitk.ReadImage(str(path))
    return image.GetOrigin(), image.GetSpacing()


@pytest.mark.parametrize("kind", ["tree", "native"])
def test_all_problems_are_in_one_report_and_the_rest_is_converted_on_request(kind, request, raw, capsys):
    made = request.getfixturevalue(kind)
    _, empty = made.paths("r001s001")
    made.write(empty, np.zeros_like(array_of(empty)), *geometry_of(empty))
    image, _ = made.paths("r002s001")
    image.unlink()
    bad = {str(empty): "an empty mask.", str(image): "missing image."}
    if kind == "native":
        path = made.sheet("r009s003")
        path.write_text("ATLAS2_DATASET\nTraining\n")
        bad[str(path)] = "no session column."
    command = ["convert-atlas", str(made.root), "-np", "1"]
    assert main(command) == 1
    head, *lines, advice = capsys.readouterr().err.splitlines()[-len(bad) - 2 :]
    assert head == f"{len(bad)} problems, nothing was written:" and list(raw.iterdir()) == []
    assert advice == "--skip-bad converts the rest, and lists all problems"
    assert all(any(line.startswith(f"- {path}: {what}") for line in lines) for path, what in bad.items())
    assert main([*command, "--skip-bad"]) == 0
    folder = raw / "Dataset100_ATLAS"
    assert f"{len(bad)} problems; the affected files were skipped: {folder / 'skipped.csv'}" in capsys.readouterr().out
    skipped = {row["path"]: row["problem"] for row in rows_of(folder / "skipped.csv")}
    assert skipped.keys() == bad.keys() and all(skipped[path].startswith(what) for path, what in bad.items())
    cases = {row["case"] for row in rows_of(folder / "cases.csv")}
    assert not cases & {"sub-r001s001_ses-1", "sub-r002s001_ses-1"} and "sub-r009s003_ses-1" in cases
    labels = {path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir()}
    assert labels == {case for case in cases if "r031" not in case}
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == len(labels)


def test_a_wrong_option_is_in_the_same_report(native, raw, capsys):
    native.paths("r002s001")[1].unlink()
    assert main(["convert-atlas", str(native.root), "-np", "1", "--exclude-atlas2", "hidden"]) == 1
    report = capsys.readouterr().err
    assert "2 problems, nothing was written:" in report and f"- {native.paths('r002s001')[1]}: missing mask" in report
    assert f"- {native.root}: no such value of ATLAS2_DATASET. Expected: Testing, Training. Got: hidden" in report


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_half_written(tree, raw, monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(atlas_to_raw, "_write_tables", broken)  # after all images
    with pytest.raises(type(error)):
        convert(tree, raw)
    assert list(raw.iterdir()) == []


def test_nothing_is_left_to_convert(tmp_path, raw):
    tree = Tree(tmp_path)
    tree.write(tree.add("r001s001")[1], np.zeros(SHAPE, np.uint8))
    found = problems_of(tree, raw, skip_bad=True)
    assert found[tree.root] == "no case left to convert. Expected: at least one with a mask. Got: none"


def test_a_target_that_cannot_be_used(tree, raw, monkeypatch):
    (raw / "Dataset100_Other").mkdir()
    with pytest.raises(BadInputError, match=f"{raw / 'Dataset100_Other'}: the target folder exists"):
        convert(tree, raw)
    with pytest.raises(BadInputError, match=r"the dataset number is out of range\. Expected: 1 to 999\. Got: 1000"):
        convert(tree, raw, dataset_id=1000)
    with pytest.raises(InputError, match=r"nnUNet_raw is not usable\. Expected: .* GB of free space\. Got: .* GB in "):
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=9))
        convert(tree, raw, dataset_id=101)
    assert [path.name for path in raw.iterdir()] == ["Dataset100_Other"]


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
        np.testing.assert_array_equal(array_of(folder / "labelsTr" / f"sub-{subject}_ses-1.nii.gz"), array > 0)


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


def test_a_warning_about_an_unused_second_mask(tree, raw):
    _, mask = tree.paths("r001s001")
    right = shutil.copy(mask, mask.with_name(mask.name.replace("label-L", "label-R")))
    done = convert(tree, raw)
    (warning,) = done.warnings
    what = f"an additional mask of the case, which is ignored. Mask used: {mask.name}"
    assert (warning.path, warning.what) == (right, what)
    np.testing.assert_array_equal(array_of(mask), array_of(done.folder / "labelsTr" / "sub-r001s001_ses-1.nii.gz"))
