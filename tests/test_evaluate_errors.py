"""``nnunet_ici evaluate`` on unusable input: one report of all problems."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from nnunet_ici.cli import main
from tests.evaluate_command import evaluate, folders, write

__all__ = ["folders"]


@pytest.mark.parametrize("sizes", [["10", "5"], ["0", "5"], ["5", "5"], ["nan"], ["5", "inf"]])
def test_sizes_that_are_no_edges(folders, capsys, sizes):
    evaluate(folders, "--sizes", *sizes, expected=1)
    assert "--sizes cannot be used. Expected: ascending numbers above 0. Got: [" in capsys.readouterr().err


def test_everything_wrong_in_one_report(folders, capsys):
    write(folders / "A" / "three.nii.gz", np.zeros((2, 2, 2), np.uint8))
    write(folders / "B" / "one.nii.gz", np.zeros((5, 16, 16), np.uint8))
    path = folders / "B" / "two.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    write(folders / "A" / "two.nii.gz", np.full((6, 16, 16), 0.5, np.float32))
    evaluate(folders, expected=1)  # what can be known without reading an image
    report = capsys.readouterr().err
    assert "1 problem, nothing was written:" in report
    assert f"A: prediction without a ground truth: {folders / 'A' / 'three.nii.gz'}" in report
    (folders / "A" / "three.nii.gz").unlink()
    evaluate(folders, expected=1)
    report = capsys.readouterr().err
    assert "3 problems, nothing was written:" in report
    assert "differs in shape from its ground truth. Expected: (6, 16, 16)" in report and "Got: (5, 16, 16)" in report
    assert f"{path} cannot be read. Expected: a complete image. Got: Compressed file ended" in report
    assert "is not a label map. Expected: whole numbers. Got: 0.5 and 1535 more of 1536 values" in report


def test_values_without_a_class(folders, capsys):
    declared = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (folders / "dataset.json").write_text(json.dumps(declared))  # next to gt, as in nnUNet_raw
    write(folders / "A" / "one.nii.gz", np.full((6, 16, 16), 7, np.uint8))
    evaluate(folders, expected=1)
    assert "holds values that belong to no class. Expected: lesion (1). Got: 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["A"], "A cannot be read. Expected: a folder. Got: no such folder"),  # the folder A, of that name
        (["=x"], "-pred is malformed. Expected: NAME=DIR or DIR. Got: =x"),
        (["x="], "-pred is malformed. Expected: NAME=DIR or DIR. Got: x="),
        (["{root}/A", "A={root}/B"], "-pred has two models with the same name. Expected: each name once."),
        (["A={root}/A", "A={root}/B"], "-pred has two models with the same name. Expected: each name once."),
        (["A={root}/none"], "none cannot be read. Expected: a folder. Got: no such folder"),
        (["A={root}/empty"], "empty holds no label map. Expected: *.nii.gz. Got: 0 other files"),
    ],
)
def test_arguments(folders, capsys, models, message):
    (folders / "empty").mkdir()
    models = [model.format(root=folders) for model in models]
    assert main(["evaluate", "-gt", str(folders / "gt"), "-pred", *models, "-o", str(folders / "out"), "-np", "1"]) == 1
    assert message in capsys.readouterr().err and not (folders / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "-gt is missing. Expected: the folder of the ground truth, or -d ID with -tr. Got: neither"),
        (["-gt", "{root}/gt"], "no predictions. Expected: -pred NAME=DIR, or -tr TRAINER. Got: neither"),
        (["-gt", "{root}/none", "-pred", "A={root}/A"], "none cannot be read. Expected: a folder."),
        (["-gt", "{root}/gt", "-pred", "A={root}/A", "-o", "{root}/A/one.nii.gz"], "-o is not usable."),
    ],
)
def test_missing_folders_and_files(folders, capsys, arguments, message):
    arguments = [argument.format(root=folders) for argument in arguments]
    assert main(["evaluate", "-np", "1", "-o", str(folders / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err and not (folders / "out").exists()


def test_names_that_do_not_match_are_one_line(folders, capsys):
    for path in (folders / "A").iterdir():
        path.rename(path.with_name(f"pred_{path.name}"))
    evaluate(folders, expected=1)
    assert capsys.readouterr().err == (
        f"1 problem, nothing was written:\n- A: no case of {folders / 'A'} matches {folders / 'gt'}. "
        "Expected: one.nii.gz, two.nii.gz, as nnU-Net names prediction and ground truth alike, CASE.nii.gz. "
        "Got: pred_one.nii.gz, pred_two.nii.gz\n"
    )


def test_a_one_bit_mask_is_read_as_nnunet_reads_it(tmp_path):
    mask = np.zeros((9, 9), bool)
    mask[2:4, 2:4] = True
    for folder in ("gt", "A"):
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "a.png")
    declared = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    rows = evaluate(tmp_path, models=("A",))
    assert float(rows["A", "a", "lesion"]["dice"]) == 1
