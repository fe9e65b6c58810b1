"""Formats without a voxel size: the spacing of a 3D TIFF from nnU-Net's file, and voxels as the unit without one."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import tifffile
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_ici.cli import main
from nnunet_ici.evaluation.summary import read_rows

CASES = ("a", "b")
SPACING = {"spacing": (3, 0.5, 0.5)}  # z, y, x


@pytest.fixture(params=["with a spacing", "without a spacing"])
def folder(request, tmp_path):
    """Two cases with two lesions, of which the prediction finds one, moved by one slice and larger by 25 voxels."""
    for case in CASES:
        label = np.zeros((12, 20, 24), np.uint8)
        label[2:4, 2:7, 2:7] = label[9, 15, 15:18] = 1
        prediction = np.zeros_like(label)
        prediction[3:6, 2:7, 2:7] = 1
        for name, array in (("gt", label), ("A", prediction)):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / f"{case}.tif", array, compression="zlib", photometric="minisblack")
            if request.param == "with a spacing":
                (tmp_path / name / f"{case}.json").write_text(json.dumps(SPACING))
        lesion = prediction.astype(np.float32)
        np.savez(tmp_path / "A" / f"{case}.npz", probabilities=np.stack([1 - lesion, lesion]))
    return tmp_path


def run(*command, expected=0):
    assert main([str(part) for part in command]) == expected


def evaluate(folder, *extra, expected=0):
    families = ("--family", "isles", "detection", "brats", "--brats-smallest", 0)
    predictions = ("-pred", f"A={folder / 'A'}", f"B={folder / 'A'}")
    out = ("-o", folder / "out", "-np", 1)
    run("evaluate", "-gt", folder / "gt", *predictions, *out, *families, *extra, expected=expected)


def test_every_number_and_axis_of_evaluate_and_report_has_the_unit_of_the_format(folder):
    in_mm = (folder / "gt" / "a.json").exists()
    evaluate(folder)
    rows = read_rows(folder / "out" / "cases.csv")
    difference, distance = (
        ("volume_difference_ml", "brats_lesion_hd95_mm")
        if in_mm
        else ("volume_difference_voxels", "brats_lesion_hd95_voxels")
    )
    # 25 more and 3 fewer voxels of 0.75 mm3; one lesion is missed, the other ends two slices of 3 mm lower
    assert [row[difference] for row in rows] == [pytest.approx(22 * 0.75 / 1000 if in_mm else 22)] * 4
    assert [row[distance] for row in rows] == [((6 if in_mm else 2) + 374) / 2] * 4
    with (folder / "out" / "instances.csv").open(newline="") as file:
        sizes = sorted({float(row["size"]) for row in csv.DictReader(file)})
    assert sizes == pytest.approx([3 * 0.75, 50 * 0.75, 75 * 0.75] if in_mm else [3, 50, 75])
    tables = (folder / "out" / "tables.md").read_text()
    run("report", folder / "out", "-np", 1)
    page = re.sub(r"<[^>]*>", " ", (folder / "out" / "report.html").read_text())
    for text in (tables, page):
        used = set(re.findall(r"(?<![\w.])(mm3|mm³|mm|ml|voxels)(?!\w)", text.split("A lesion is a connected")[0]))
        assert bool(used & {"mm3", "mm³", "mm", "ml"}) == in_mm and (in_mm or "voxels" in used), used


def test_tune_and_explain_use_the_same_unit(folder, capsys):
    in_mm = (folder / "gt" / "a.json").exists()
    options = ("--k", 2, "--thresholds", 0.5, "--volumes-mm3", 60, "--peaks", "none", "-np", 1)
    run("tune", "-gt", folder / "gt", "-prob", folder / "A", "-o", folder / "rule.json", *options)
    told = capsys.readouterr().out
    assert ("no voxel size: minimum volumes are in voxels" in told) != in_mm and ("mm³" in told) <= in_mm
    run("explain", folder / "gt" / "a.tif", folder / "A" / "a.tif", "-o", folder / "a.svg")
    texts = re.findall(r"<!-- (.*?) -->", (folder / "a.svg").read_text())
    assert any(re.fullmatch(r"z = -?[\d.]+ " + ("mm" if in_mm else "voxels"), text) for text in texts), texts


def test_postprocess_writes_the_spacing_as_nnunet_does(folder):
    in_mm = (folder / "gt" / "a.json").exists()
    setting = {"threshold": 0.5, "minimum_volume_mm3": 60, "peak_probability": None}
    rule = {"format": 1, "classes": {"foreground": []}, "regions_class_order": None, "file_ending": ".tif"}
    (folder / "rule.json").write_text(json.dumps(rule | {"rule": {"foreground": setting}}))
    run("postprocess", folder / "rule.json", "-i", folder / "A", "-o", folder / "B", "-np", 1)
    array, properties = Tiff3DIO().read_seg(str(folder / "B" / "a.tif"))
    assert properties["spacing"] == ([3, 0.5, 0.5] if in_mm else [1, 1, 1])
    assert array.any() != in_mm  # 75 voxels are 56.25 mm3


def test_a_spacing_for_some_cases_only_is_refused(folder, capsys):
    (folder / "gt" / "a.json").unlink(missing_ok=True)
    (folder / "gt" / "b.json").write_text(json.dumps(SPACING))
    evaluate(folder, expected=1)
    file = folder / "gt" / "a"
    expected = f"{file}.tif has no spacing, unlike others. Expected: {file}.json. Got: no such file"
    assert expected in capsys.readouterr().err
