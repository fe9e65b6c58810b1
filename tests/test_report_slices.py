"""What the slices of a report show: which ones, their marks, and how label and prediction overlap, voxel by voxel."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.drawing import make_scene
from nnunet_ici.evaluation.labels import FOREGROUND
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.geometry import Grid
from nnunet_ici.report.overlap import KINDS, choose_slices, overlap_codes
from nnunet_ici.report.page import LEGEND
from nnunet_ici.report.rendering import load_templates
from nnunet_ici.report.slices import MANY_LESIONS, draw_scene


def scene_of(label, prediction, image=None, spacing=None, name="a.nii.gz"):
    reference = sitk.GetImageFromArray(label)
    reference.SetSpacing(spacing or (1.0,) * label.ndim)
    return make_scene(Grid.of(reference, Path(name)), label, {"A": prediction}, image)


def svgs_of(drawn):
    """The pictures of a slice as XML: what all panels share, then the panels."""
    templates = load_templates()
    templates.globals["LEGEND"] = LEGEND
    markup = templates.get_template("parts.html").module.slice(drawn, "s")
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", markup, flags=re.DOTALL)]


def classes_of(svg):
    return [found.get("class") for found in svg.iter() if found.get("class")]


@pytest.fixture
def volume():
    """A lesion that is partly found, one that is missed, and a false prediction, in three slices, far apart."""
    label, prediction = np.zeros((2, 12, 80, 90), np.uint8)
    label[5, 20:24, 60:64] = label[8, 70, 10] = 1
    prediction[5, 22:26, 60:64] = prediction[2, 40, 40] = 1
    return scene_of(label, prediction, np.arange(80, dtype=np.uint8)[None, :, None] + label, (1.0, 1.0, 3.0))


def test_overlap_of_each_voxel(volume):
    label, prediction = volume.label > 0, volume.maps["A"] > 0
    codes = overlap_codes(label, prediction, match_instances(label, prediction))
    counts = dict(zip(KINDS, np.bincount(codes.ravel(), minlength=len(KINDS)).tolist(), strict=True))
    assert {kind: counts[kind] for kind in KINDS[1:]} == {
        "false": 8, "missed": 8, "hit": 8, "false whole": 1, "missed whole": 1,
    }  # fmt: skip
    assert {*LEGEND} == {"label", *KINDS[1:], "ring"}


def test_which_slices(volume):
    drawn = draw_scene(volume, FOREGROUND)
    assert [one.title for one in drawn] == [
        "foreground: axial slice with the most lesion voxels, z = 15.0 mm (slice 5)",
        "foreground: coronal slice with the most lesion voxels, y = -20.0 mm (slice 20)",
        "foreground: sagittal slice with the most lesion voxels, x = -60.0 mm (slice 60)",
        "foreground: axial slice with the most voxels of missed lesions, z = 24.0 mm (slice 8)",
        "foreground: axial slice with the most voxels of false predictions, z = 6.0 mm (slice 2)",
    ]
    assert [panel.summary for one in drawn for panel in one.panels if panel.title == "label"] == [
        *["1 lesion"] * 4,
        "0 lesions",
    ]
    empty = np.zeros((4, 6, 8), bool)
    codes = np.zeros((4, 6, 8), np.uint8)
    assert [index for _, index, _ in choose_slices(empty, [codes])] == [2, 3, 4]
    codes[1, 2, 3] = KINDS.index("false whole")
    assert [(index, why) for _, index, why in choose_slices(empty, [codes])][:2] == [
        (1, "with the most predicted voxels"),
        (2, "with the most predicted voxels"),
    ]


def test_what_is_in_the_pictures_of_a_slice(volume):
    axial, coronal, _, missed, false = draw_scene(volume, FOREGROUND)
    shared, overview, image, label, model = svgs_of(axial)
    texts = [text.text for text in shared.iter("text")]
    assert texts == ["R", "L", "A", "P", "10 mm"] and axial.bar == (10.0, "10 mm")
    assert "bar" in classes_of(shared) and shared.find(".//image").get("href").startswith("data:image/webp;base64,")
    # the frame of what the panels show, on the whole slice
    assert overview.get("viewBox").split() == ["0", "0.0", "90", "80.0"]
    frame = axial.frame
    parts = [rect for rect in overview.iter("rect") if rect.get("class").startswith("part")]
    assert len(parts) == 2 and {rect.get("width") for rect in parts} == {str(frame.width)} == {"32"}
    assert [text.text for text in overview.iter("text")] == ["R", "L", "A", "P"]
    assert classes_of(image) == [] and classes_of(label) == ["inside", "casing", "label"]
    # fills by voxel below, the outline of the label, white on black, above all of them
    assert classes_of(model) == ["false", "missed", "hit", "casing", "label"]
    for svg in (image, label, model):
        used = [use.get("href") for use in svg.iter("use")]
        assert [used[0], used[-1]] == ["#s-ground", "#s-marks"]
    assert [use.get("href") for use in model.iter("use") if use.get("class") == "label"] == ["#s-edge"]
    assert shared.find(".//path[@id='s-edge']").get("d") == axial.outline == dict(axial.panels[-1].paths)["label"]
    assert classes_of(svgs_of(missed)[-1]) == ["missed whole", "casing", "label"]
    assert classes_of(svgs_of(false)[-1]) == ["casing", "false whole"]
    assert coronal.aspect == 3.0 and [text.text for text in svgs_of(coronal)[0].iter("text")][:4] == list("RLSI")


def test_a_flat_image_has_no_sides_and_its_scale_is_in_pixels():
    label = np.zeros((40, 60), np.uint8)
    label[3:36, 3:56] = 1
    (drawn,) = draw_scene(scene_of(label, label, name="a.png"), FOREGROUND)
    assert drawn.title == "foreground" and drawn.sides == () and drawn.bar == (20.0, "20 px")
    assert drawn.overview is None and drawn.frame.image == ""
    shared, label_panel, _ = svgs_of(drawn)
    assert [text.text for text in shared.iter("text")] == ["20 px"] and label_panel.get(
        "aria-label"
    ) == "label: 1 lesion"


def test_many_lesions_are_projected(volume):
    few = draw_scene(volume, FOREGROUND)
    for at in range(MANY_LESIONS):
        volume.label[at, 2 * at, 1] = 1
    many = draw_scene(volume, FOREGROUND)
    assert len(many) == len(few) + 1 and many[-1].title == "foreground: axial projection of all slices"
    assert {kind for kind, _ in many[-1].panels[-1].paths} == {*KINDS[1:], "label", "ring missed", "ring false"}
    assert many[-1].panels[1].summary == f"{MANY_LESIONS + 2} lesions"


def test_tiny_lesions_get_a_ring_instead_of_an_outline():
    label, prediction = np.zeros((2, 100, 120), np.uint8)
    label[10, 10] = label[50, 60:62] = label[20:40, 80:100] = prediction[50, 61] = prediction[90, 110] = 1
    (drawn,) = draw_scene(scene_of(label, prediction, name="a.png"), FOREGROUND)
    paths = dict(drawn.panels[-1].paths)
    middles = {
        kind: [(float(x) + float(r), float(y)) for x, y, r in re.findall(r"M([\d.]+) ([\d.]+)a([\d.]+)", path)]
        for kind, path in paths.items()
        if kind.startswith("ring")
    }
    assert middles == {
        "ring missed": [pytest.approx((10.5, 10.5))],
        "ring found": [pytest.approx((61, 50.5))],
        "ring false": [pytest.approx((110.5, 90.5))],
    }
    assert paths["label"] == "M80 20H100V40H80Z" != drawn.outline


def test_a_case_drawn_briefly(volume):
    axial, projection = draw_scene(volume, FOREGROUND, brief=True)
    assert axial.title.startswith("foreground: axial slice with the most lesion voxels")
    assert projection.title == "foreground: axial projection of all slices"  # two lesions are in other slices
    volume.label[:5] = volume.label[6:] = 0
    volume.maps["A"][:5] = volume.maps["A"][6:] = 0
    assert len(draw_scene(volume, FOREGROUND, brief=True)) == 1


def test_found_means_found_by_the_overlap_of_the_evaluation(volume):
    def summary_of(minimum):
        return draw_scene(volume, FOREGROUND, overlap=minimum)[0].panels[-1].summary

    # 8 of 24 voxels of both
    assert summary_of(0.3) == "found: 1, missed: 0, false: 0" and summary_of(0.4) == "found: 0, missed: 1, false: 1"
