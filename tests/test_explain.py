"""``nnunet_ici explain``: the command, its files, and one report of all problems."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from tests.test_explain_picture import make_volume


@pytest.fixture
def volume():
    return make_volume()


def write(path, array, direction=None, spacing=None):
    image = sitk.GetImageFromArray(array)
    if direction is not None:
        image.SetDirection(direction)
    if spacing is not None:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return str(path)


@pytest.fixture
def flat(tmp_path):
    """A label map with two classes, and a prediction that finds one instance of two."""
    label = np.zeros((20, 30), np.uint8)
    label[3:6, 3:6], label[12:15, 20:24] = 1, 2
    prediction = np.zeros_like(label)
    prediction[4:7, 3:6] = 1
    return write(tmp_path / "case.png", label), write(tmp_path / "pred.png", prediction)


def run(*arguments, expected=0):
    assert main(["explain", *map(str, arguments)]) == expected


def size_of(path):
    return sitk.ReadImage(str(path)).GetSize()


def test_the_command_on_an_image(flat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(*flat, "--terms-json", "new/terms.json")
    assert min(size_of(tmp_path / "case_explained.png")) > 700
    out = capsys.readouterr().out
    assert "\nL2  12      none     0.50000" in out and "\nP1  9       L1 " in out
    report = json.loads((tmp_path / "new" / "terms.json").read_text())
    assert [one["id"] for one in report["label_instances"]] == ["L1", "L2"]
    assert report["label_instances"][0]["touches"] == ["P1"] and report["predicted_instances"][0]["voxels"] == 9
    assert report["terms"]["predicted"] == pytest.approx(report["predicted_instances"][0]["shares"]["predicted"])
    assert report["class"] is None and report["threshold"] == 0.5 and report["center_size"] == [7]


def test_files_of_one_name_come_with_their_folders(flat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "A" / "sub").mkdir(parents=True)
    (tmp_path / "B" / "sub").mkdir(parents=True)
    paths = [path.rename(tmp_path / name / "sub" / "x.png") for path, name in zip(map(Path, flat), "AB", strict=True)]
    run(*paths)
    assert capsys.readouterr().out.startswith("label A/x.png, prediction B/x.png: all values above 0, threshold 0.5")


def test_a_gray_value_image_is_not_a_label_map(flat, tmp_path, capsys):
    gray = np.random.default_rng(0).integers(0, 200, (20, 30), np.uint8)
    image = write(tmp_path / "gray.png", gray)
    for files in ((image, flat[1]), (flat[0], image)):
        (message,) = problems(capsys, *files, "-o", tmp_path / "a.png")
        assert message.startswith(f"{image} is an image, not a label map. Expected: regions of constant value. Got: ")
        assert message.endswith(" of the neighboring voxels differ")
    cells = np.kron(np.arange(1, 41, dtype=np.uint8).reshape(5, 8), np.ones((8, 8), np.uint8))  # each its own value
    run(write(tmp_path / "cells.png", cells), write(tmp_path / "more.png", cells), "-o", tmp_path / "a.png")


def test_one_class(flat, tmp_path):
    run(*flat, "--class", 2, "-o", tmp_path / "a.svg", "--terms-json", tmp_path / "terms.json")
    report = json.loads((tmp_path / "terms.json").read_text())
    assert len(report["label_instances"]) == 1 and report["predicted_instances"] == []
    assert "<svg" in (tmp_path / "a.svg").read_text()[:1000]


def test_a_class_that_is_nowhere(flat, tmp_path, capsys):
    run(*flat, "--class", 7, "-o", tmp_path / "a.png")
    error = capsys.readouterr().err
    assert error == f"class 7: found neither in {flat[0]} nor in {flat[1]}; the picture is empty\n"
    assert (tmp_path / "a.png").stat().st_size > 10_000


def save_npz(path, foreground, **arrays):
    np.savez_compressed(
        path, probabilities=np.concatenate([1 - foreground.sum(0, keepdims=True), foreground]), **arrays
    )
    return path


def test_probabilities_of_an_image(flat, tmp_path):
    """nnU-Net stores (C, 1, H, W). At a threshold of 0.3 a part of class 2 is found, at 0.5 it is missed."""
    foreground = np.zeros((2, 1, 20, 30), np.float32)
    foreground[0, 0, 3:6, 3:6], foreground[1, 0, 12:15, 20:22] = 0.9, 0.4
    npz = save_npz(tmp_path / "p.npz", foreground)
    found = {}
    for value, threshold in ((None, 0.5), (None, 0.3), (2, 0.3)):
        extra = () if value is None else ("--class", value)
        json_path = tmp_path / "t.json"
        run(flat[0], npz, "--threshold", threshold, *extra, "-o", tmp_path / "a.png", "--terms-json", json_path)
        report = json.loads(json_path.read_text())
        found[value, threshold] = [one["touches"] for one in report["label_instances"]]
    assert found == {(None, 0.5): [["P1"], []], (None, 0.3): [["P1"], ["P2"]], (2, 0.3): [["P1"]]}


def test_probabilities_that_nnunet_left_turned(volume, tmp_path):
    """Beside the label map that they belong to, probabilities in RAS count as that label map does."""
    label, prediction = volume
    reports = []
    for name in ("label", "case"):
        image = sitk.GetImageFromArray(label if name == "label" else prediction)
        image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))  # LPS
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    turned = prediction[None, :, ::-1, ::-1].astype(np.float32)  # RAS
    save_npz(tmp_path / "case.npz", turned)
    for file in ("case.nii.gz", "case.npz"):
        json_path = tmp_path / "t.json"
        run(tmp_path / "label.nii.gz", tmp_path / file, "-o", tmp_path / "a.png", "--terms-json", json_path)
        reports.append(json.loads(json_path.read_text())["label_instances"])
    assert reports[0] == reports[1]


def test_the_command_on_a_volume_whatever_way_it_lies(volume, tmp_path):
    label, prediction = volume
    image = label * 100 + np.arange(60, dtype=np.uint8)
    reports = []
    for name, direction in (("a", (1, 0, 0, 0, 1, 0, 0, 0, 1)), ("b", (-1, 0, 0, 0, 0, 1, 0, -1, 0))):
        paths = [
            write(tmp_path / f"{what}_{name}.nii.gz", array, direction, (1.0, 1.0, 3.0))
            for what, array in (("label", label), ("pred", prediction), ("image", image))
        ]
        extra = ("--image", paths[2], "--instances", 2, "--center-size", 3, 7, 7)
        run(*paths[:2], *extra, "-o", tmp_path / f"{name}.png", "--terms-json", tmp_path / "t.json")
        reports.append(json.loads((tmp_path / "t.json").read_text())["terms"])
        assert min(size_of(tmp_path / f"{name}.png")) > 700
    assert reports[0] == reports[1] and reports[0]["instance"] == pytest.approx(1 / 3, abs=1e-4)


def problems(capsys, *arguments):
    run(*arguments, expected=1)
    title, *lines = capsys.readouterr().err.splitlines()
    assert title == f"{len(lines)} problem{'s' if len(lines) > 1 else ''}, nothing was written:"
    return [line.removeprefix("- ") for line in lines]


def test_all_problems_in_one_report(flat, tmp_path, capsys):
    small = write(tmp_path / "small.png", np.zeros((5, 5), np.uint8))
    missing = tmp_path / "missing.png"
    report = problems(
        capsys, flat[0], small, "--image", missing, "-o", tmp_path / "a.jpg", "--terms-json", tmp_path,
        "--center-size", 3, 3, 3, 3,
    )  # fmt: skip
    assert report == [  # known before a file is read
        f"-o has an unknown ending. Expected: .png or .svg. Got: {tmp_path / 'a.jpg'}",
        f"--terms-json is not usable. Expected: a file. Got: the folder {tmp_path}",
        "--center-size has the wrong length. Expected: 1 to 3 numbers. Got: 4 numbers",
        f"{missing} cannot be read. Expected: a file. Got: no such file",
    ]
    report = problems(capsys, flat[0], small, "--image", small, "-o", tmp_path / "a.png", "--center-size", 3, 3, 3)
    assert report == [
        f"{small} differs in shape from its ground truth. Expected: (20, 30), as in {flat[0]}. Got: (5, 5)",
        f"{small} differs in shape from the label. Expected: (20, 30), as in {flat[0]}. Got: (5, 5)",
        "--center-size has the wrong length. Expected: one number, or one for each of the 2 axes. Got: 3 numbers",
    ]
    assert not (tmp_path / "a.jpg").exists() and not (tmp_path / "a.png").exists()


def test_files_that_are_none(flat, tmp_path, capsys):
    colors, prediction, image = tmp_path / "colors.png", tmp_path / "prediction.png", tmp_path / "image.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 3), np.uint8), isVector=True), str(colors))
    for path in (prediction, image):
        path.write_bytes(b"no image")
    report = problems(capsys, colors, prediction, "--image", image, "-o", tmp_path / "a.png")
    starts = (
        f"{colors} is not a label map. Expected: one channel in 2 or 3 dimensions. Got: 3 channels in 2 dimensions",
        f"{prediction} cannot be read. Expected: a complete image. Got: ",
        f"{image} cannot be read. Expected: a complete image. Got: ",
    )
    assert len(report) == 3 and all(line.startswith(start) for line, start in zip(report, starts, strict=True))


def test_npz_files_that_are_none(flat, tmp_path, capsys):
    path = tmp_path / "p.npz"
    foreground = np.full((1, 1, 20, 30), 0.25, np.float32)

    def report_of(*extra):
        (line,) = problems(capsys, flat[0], path, *extra, "-o", tmp_path / "a.png")
        return line

    assert report_of() == f"{path} cannot be read. Expected: a file. Got: no such file"
    path.write_bytes(b"no zip")
    assert report_of().startswith(f"{path} cannot be read. Expected: an npz file of nnU-Net with the key probab")
    save_npz(path, foreground)
    assert report_of("--class", 2) == f"{path} has no channel for the class. Expected: --class 1 to 1. Got: 2"
    save_npz(path, foreground[..., 1:])
    message = f"{path} differs in shape from its label map. Expected: (C, *(20, 30)). Got: (2, 1, 20, 29)"
    assert report_of() == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--instances", "0"), "--instances: Expected: an integer above 0. Got: 0"),
        (("--class", "0"), "--class: Expected: an integer above 0. Got: 0"),
        (("--center-size", "4"), "--center-size: Expected: an odd integer above 0. Got: 4"),
        (("--threshold", "0"), "--threshold: Expected: a number above 0, at most 1. Got: 0"),
        (("--threshold", "nan"), "--threshold: Expected: a number above 0, at most 1. Got: nan"),
    ],
)
def test_options_out_of_range(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        run("label.png", "prediction.png", *arguments)
    assert exit_.value.code == 2 and message in capsys.readouterr().err
