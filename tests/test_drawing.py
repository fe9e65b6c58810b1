"""What report and explain share: how images are turned, views, and outlines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.drawing import FLAT, PLANES, View, around, make_scene, mask_loops, mask_path, to_gray, whole
from nnunet_ici.geometry import Grid


def scene_of(array, spacing, axes="LPS", name="a.nii.gz"):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin([10.0, 20.0, 30.0][: len(spacing)])
    if array.ndim == 3:
        image = sitk.DICOMOrient(image, axes)
    stored = sitk.GetArrayFromImage(image)
    return make_scene(Grid.of(image, Path(name)), stored, {"A": stored + 1}, np.stack([stored] * 3, axis=-1))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SLA", "RSP"])
def test_volumes_are_turned_to_axial_slices(axes):
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    scene = scene_of(array, (1.0, 2.0, 5.0), axes)
    assert scene.label.tolist() == array.tolist() and scene.maps["A"].tolist() == (array + 1).tolist()
    assert scene.image.shape == (2, 3, 4, 3) and (np.diff(scene.image.reshape(24, 3), axis=0) >= 0).all()
    assert scene.grid.spacing_mm == (1.0, 2.0, 5.0) and scene.unit == "mm" and scene.plane is PLANES[0]
    # The first voxel lies at 10 mm to the left, 20 mm to the back, 30 mm up.
    assert [scene.position_mm(plane, 0) for plane in PLANES] == [30, -20, -10]
    assert [scene.position_mm(plane, 1) for plane in PLANES] == [35, -22, -11]
    assert [scene.pixel_mm(plane) for plane in PLANES] == [(2.0, 1.0), (5.0, 1.0), (5.0, 2.0)]


def test_images_stay_as_they_are():
    array = np.arange(6).reshape(2, 3)
    scene = scene_of(array, (1.0, 3.0), name="a.png")
    assert scene.label.tolist() == array.tolist()
    assert scene.unit == "px" and scene.plane is FLAT and scene.pixel_mm(FLAT) == (1.0, 1.0)
    assert scene_of(array, (1.0, 3.0)).pixel_mm(FLAT) == (3.0, 1.0)


def test_planes_show_what_lies_left_right_above_and_below():
    volume = np.zeros((3, 4, 5), np.uint8)  # first voxel: feet, front, right
    volume[0, 0, 0] = 1
    for plane, shape in zip(PLANES, ((3, 4, 5), (4, 3, 5), (5, 3, 4)), strict=True):
        slices = plane.slices(volume)
        assert slices.shape == shape
        row, column = np.argwhere(slices[0])[0]
        left, _, above, below = plane.sides
        assert column == 0 and left == ("A" if plane.name == "sagittal" else "R")
        assert (row, below) == (shape[1] - 1, "I") if plane.name != "axial" else (row, above) == (0, "A")


def test_gray_levels_exclude_the_extremes():
    assert to_gray(np.full((3, 3), 0)).max() == 0
    gray = to_gray(np.arange(1001))
    low, high = 5.995, 995.005
    assert gray[[0, 5, 996, 1000]].tolist() == [0, 0, 1, 1]
    assert gray[500] == pytest.approx((500 - low) / (high - low), abs=1e-6)


def test_a_window_beyond_the_border_is_cut():
    view = View(1, (-3.0, 1.0), (0.5, 9.0))
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert view.cut(array).tolist() == array[1, :2, 1:].tolist() and view.corner == (0, 1)
    assert whole((5, 3, 4)).index == 2 and whole((3, 4)).cut(array[0]).shape == (3, 4)


def test_a_view_around_a_mask_stays_in_the_image():
    mask = np.zeros((30, 40), bool)
    mask[2:4, 20:30] = True
    assert around(mask, 5, 0, 7, "L1") == View(7, (-0.5, 8.5), (14.5, 34.5), "L1")
    assert around(mask, 0, 10).rows == (-0.5, 7.5)
    assert around(np.zeros((4, 5), bool), 1, 1) == whole((4, 5))


def test_outlines():
    assert mask_loops(np.zeros((2, 2), bool)) == []
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    outer, inner = mask_loops(ring)
    assert outer == [(0, 0), (3, 0), (3, 3), (0, 3)]
    assert sorted(inner) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert mask_path(np.eye(2, dtype=bool)).count("Z") in (1, 2)  # the two pixels share a corner
    assert mask_path(np.array([[True], [True]]), (5, 7)) == "M5 7H6V9H5Z"


def filled(path, shape):
    """A mask from a path: a pixel is inside where an odd number of borders lies to the left of it."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for loop in path.split("Z")[:-1]:
        x, y = start = tuple(map(int, loop[1:].replace("H", " H").replace("V", " V").split()[:2]))
        for step in [*loop.replace("H", " H").replace("V", " V").split()[2:], f"H{start[0]}", f"V{start[1]}"]:
            if step[0] == "H":
                x = int(step[1:])
            else:
                low, high = sorted((y, int(step[1:])))
                crossings[low:high, x] += 1
                y = int(step[1:])
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def test_outlines_give_the_mask_back():
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = random.random((7, 9)) < 0.5
        np.testing.assert_array_equal(filled(mask_path(mask), mask.shape), mask)
