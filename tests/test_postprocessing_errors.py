"""``nnunet_ici tune`` and ``postprocess`` on unusable input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from nnunet_ici.cli import main
from tests.tune_command import DECLARED, make, postprocess, read, tune, write


def test_everything_wrong_with_tunes_files_in_one_report(tmp_path, capsys):
    make(tmp_path, "lesion")
    np.savez(tmp_path / "fold_0" / "case0.npz", softmax=np.zeros(3))
    np.savez(tmp_path / "fold_0" / "case2.npz", probabilities=np.full((2, 6, 12, 14), np.nan, np.float32))
    write(tmp_path / "gt" / "case1.nii.gz", np.full((6, 12, 14), 7, np.uint8))
    flipped = read(tmp_path / "fold_1" / "case3.nii.gz")
    prob = np.load(tmp_path / "fold_1" / "case3.npz")["probabilities"]
    np.savez(tmp_path / "fold_1" / "case3.npz", probabilities=np.where(flipped == 1, prob[::-1], prob))
    tune(tmp_path, expected=1)
    err = capsys.readouterr().err
    assert "4 problems, nothing was written:" in err and not (tmp_path / "rule.json").exists()
    assert (
        "case0.npz cannot be read. Expected: an npz file of nnU-Net with the key probabilities. Got: the keys softmax"
        in err
    )
    assert "case2.npz holds no probabilities. Expected: values in [0, 1]. Got: 2016 NaN" in err
    assert "case1.nii.gz holds values that belong to no class. Expected: lesion (1). Got: 7" in err
    assert "case3.npz does not fit its label map. Expected: the same foreground" in err


def test_bad_folders_of_tune(tmp_path, capsys):
    make(tmp_path, "lesion")
    (tmp_path / "gt" / "case0.nii.gz").unlink()
    shutil.copy(tmp_path / "fold_0" / "case2.npz", tmp_path / "fold_1")
    (tmp_path / "empty").mkdir()
    folders = [str(tmp_path / name) for name in ("fold_0", "fold_1", "empty")]
    arguments = ["tune", "-gt", str(tmp_path / "gt"), "-prob", *folders, "-np", "1"]
    assert main([*arguments, "-o", str(tmp_path / "x.json")]) == 1
    err = capsys.readouterr().err
    assert (
        f"{tmp_path / 'fold_0' / 'case0.npz'} has no ground truth. Expected: {tmp_path / 'gt' / 'case0.nii.gz'}" in err
    )
    assert "case case2 has two files of probabilities. Expected: one." in err
    assert f"{tmp_path / 'empty'} holds no probabilities. Expected: *.npz" in err
    assert "3 problems" in err
    arguments[2] = str(tmp_path / "nothing")
    assert main([*arguments, "-o", str(tmp_path / "x.json")]) == 1
    assert "nothing cannot be read. Expected: a folder. Got: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--thresholds", "1"], "Expected: a number of at least 0 and below 1. Got: 1"),
        (["--volumes-mm3", "-2"], "Expected: a number of at least 0 and below inf. Got: -2"),
        (["--peaks", "sure"], "Expected: a number of at least 0 and below 1. Got: sure"),
        (["--folds", "a.json", "--k", "3"], "not allowed with argument"),
        (["-np", "0"], "-np: Expected: an integer above 0. Got: 0"),
    ],
)
def test_bad_arguments(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        main(["tune", "-gt", "a", "-prob", "b", "-o", "c", *arguments])
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_regions_need_an_order(tmp_path, capsys):
    make(tmp_path, "regions")
    declared = DECLARED["regions"] | {"file_ending": ".nii.gz", "regions_class_order": [1]}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    tune(tmp_path, expected=1)
    assert "no usable regions_class_order. Expected: 2 integers, one each for whole, core. Got: [1]" in (
        capsys.readouterr().err
    )


def test_bad_folders_of_postprocess(tmp_path, capsys):
    make(tmp_path, "lesion")
    tune(tmp_path)
    postprocess(tmp_path, folder="none", expected=1)
    assert f"{tmp_path / 'none'} cannot be read. Expected: a folder." in capsys.readouterr().err
    postprocess(tmp_path, out="fold_1", expected=1)
    assert "Expected: a new or empty folder. Got: files in" in capsys.readouterr().err
    postprocess(tmp_path, out="dataset.json", expected=1)
    assert "Expected: a folder, or a new name. Got: the file" in capsys.readouterr().err
    postprocess(tmp_path, rule="dataset.json", expected=1)
    assert "dataset.json is not a rule. Expected: an object of format 1. Got: format null" in capsys.readouterr().err
    (tmp_path / "fold_0" / "case0.nii.gz").unlink()
    postprocess(tmp_path, expected=1)
    assert "case0.npz has no label map beside it. Expected: case0.nii.gz. Got: no such file" in capsys.readouterr().err
    for path in (tmp_path / "fold_0").glob("*.nii.gz"):
        path.unlink()
    postprocess(tmp_path, expected=1)
    assert "fold_0 holds no label map. Expected: *.nii.gz. Got: 4 other files" in capsys.readouterr().err
    (tmp_path / "fold_1" / "dataset.json").write_text(json.dumps(DECLARED["labels"]))
    postprocess(tmp_path, folder="fold_1", expected=1)
    assert "other classes than the rule. Expected: lesion (1). Got: edema (1), core (2)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_files_leave_no_output(tmp_path, capsys):
    make(tmp_path, "lesion")
    tune(tmp_path)
    path = tmp_path / "fold_0" / "case2.npz"
    path.write_bytes(path.read_bytes()[:-50])
    np.savez(tmp_path / "fold_0" / "case4.npz", probabilities=np.zeros((2, 5, 12, 14), np.float32))
    postprocess(tmp_path, expected=1)
    err = capsys.readouterr().err
    assert "2 problems, nothing was written:" in err and "case2.npz cannot be read." in err
    assert "case4.npz differs in shape from its label map. Expected: (C, *(6, 12, 14)). Got: (2, 5, 12, 14)" in err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
