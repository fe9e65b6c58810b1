"""Errors in the arguments are reported before the first file is read."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main


@pytest.fixture
def unread(tmp_path, monkeypatch):
    """Folders and files that must not be opened."""
    for name in ("gt", "A", "B"):
        (tmp_path / name).mkdir()
        for ending in (".nii.gz", ".npz"):
            (tmp_path / name / f"case{ending}").write_bytes(b"not to be read")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lesion": 1}}))

    def refusing(read):
        def refuse(path, *arguments, **options):
            if tmp_path in Path(path).parents or not Path(path).is_absolute():  # not the metadata of a package
                raise AssertionError(f"{path} was read")
            return read(path, *arguments, **options)

        return refuse

    for owner, name in ((sitk, "ReadImage"), (nib, "load"), (np, "load"), (Path, "read_text"), (Path, "read_bytes")):
        monkeypatch.setattr(owner, name, refusing(getattr(owner, name)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVALUATE = ["evaluate", "-gt", "gt", "-pred", "A"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*EVALUATE, "X=none", "-o", "out"], ["none cannot be read. Expected: a folder. Got: no such folder"]),
        ([*EVALUATE, "A=B", "-o", "out"],
         ["-pred has two models with the same name. Expected: each name once. Got: A=A and A=B"]),
        ([*EVALUATE, "--ensemble", "-o", "out"], ["--ensemble needs several models. Expected: two or more. Got: A"]),
        ([*EVALUATE, "ensemble=B", "--ensemble", "-o", "out"],
         ["--ensemble adds a model with this name. Expected: no other model with it. Got: ensemble"]),
        ([*EVALUATE, "-o", "A/case.npz"],
         ["-o is not usable. Expected: a folder, or a new name. Got: the file A/case.npz"]),
        ([*EVALUATE, "-o", "out", "--sizes", "10", "5"],
         ["--sizes cannot be used. Expected: ascending numbers above 0. Got: [10.0, 5.0]"]),
        ([*EVALUATE, "-o", "out", "--dataset-json", "none.json"],
         ["none.json cannot be read. Expected: a file. Got: no such file"]),
        (["evaluate", "--gt", "none", "--pred", "x=", "-o", "A/case.npz", "--sizes", "0"],
         ["-pred is malformed. Expected: NAME=DIR or DIR. Got: x=",
          "-o is not usable. Expected: a folder, or a new name. Got: the file A/case.npz",
          "--sizes cannot be used. Expected: ascending numbers above 0. Got: [0.0]",
          "none cannot be read. Expected: a folder. Got: no such folder"]),
        (["evaluate", "-tr", "T", "T", "-o", "out"],
         ["-tr has two models with the same name. Expected: each name once. Got: T=T and T",
          "-tr needs a dataset. Expected: -d ID. Got: none"]),
        (["tune", "--gt", "none", "--prob", "A", "no", "-o", "A", "--folds", "f.json"],
         ["-o is not usable. Expected: a file. Got: the folder A",
          "f.json cannot be read. Expected: a file. Got: no such file",
          "none cannot be read. Expected: a folder. Got: no such folder",
          "no cannot be read. Expected: a folder. Got: no such folder"]),
        (["tune", "-gt", "gt", "-prob", "A", "-o", "r.json", "--k", "1"],
         ["--k is out of range. Expected: 2 or more. Got: 1"]),
        (["postprocess", "none.json", "-i", "none", "-o", "A"],
         ["none.json cannot be read. Expected: a file. Got: no such file",
          "none cannot be read. Expected: a folder. Got: no such folder",
          "-o is not usable. Expected: a new or empty folder. Got: files in A"]),
        (["explain", "gt/case.nii.gz", "none.npz", "-o", "a.jpg", "--center-size", "3", "3", "3", "3"],
         ["-o has an unknown ending. Expected: .png or .svg. Got: a.jpg",
          "--center-size has the wrong length. Expected: 1 to 3 numbers. Got: 4 numbers",
          "none.npz cannot be read. Expected: a file. Got: no such file"]),
        (["report", "none", "-o", "A", "--images", "no", "--training", "T"],
         ["-o is not usable. Expected: a file. Got: the folder A",
          "none cannot be read. Expected: a folder. Got: no such folder",
          "no cannot be read. Expected: a folder. Got: no such folder",
          "--training is malformed. Expected: NAME=FOLDER. Got: T"]),
    ],
)  # fmt: skip
def test_errors_in_the_arguments_come_first(unread, capsys, arguments, told):
    assert main(arguments) == 1
    title, *lines = capsys.readouterr().err.splitlines()
    assert title == f"{len(told)} problem{'s' * (len(told) > 1)}, nothing was written:"
    assert [line.removeprefix("- ") for line in lines] == told
    assert not (unread / "out").exists()


def test_both_spellings_and_the_folder_as_a_name(tmp_path, capsys):
    for name in ("gt", "model_a"):
        (tmp_path / name).mkdir()
        image = np.zeros((4, 5), np.uint8)
        image[1, 1] = 1
        sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / name / "case.png"))
    for gt, pred in (("-gt", "-pred"), ("--gt", "--pred")):
        command = ["evaluate", gt, str(tmp_path / "gt"), pred, f"{tmp_path}/model_a/", "-o", str(tmp_path / "out")]
        assert main([*command, "-np", "1", "--family", "paper"]) == 0
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert list(summary["models"]) == ["model_a"]
    equals = tmp_path / "a=b"
    (tmp_path / "model_a").rename(equals)
    assert main([*command[:4], str(equals), *command[5:], "-np", "1", "--family", "paper"]) == 0
    assert list(json.loads((tmp_path / "out" / "summary.json").read_text())["models"]) == ["a=b"]
