"""What report and explain share: how images are turned, views, and outlines."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunet_ici.drawing import Geometry, View, around, grey_levels, mask_loops, mask_path, whole_image


def test_volumes_are_turned_to_axial_slices():
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    image = sitk.GetImageFromArray(array)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetSpacing((1.0, 2.0, 5.0))
    geometry = Geometry(image)
    assert geometry.turned(array).tolist() == array[:, ::-1, ::-1].tolist() and geometry.pixel_aspect == 2.0
    assert Geometry(sitk.GetImageFromArray(array[0])).turned(array[0]).tolist() == array[0].tolist()

    colours = np.stack([array] * 3, axis=-1)
    assert geometry.turned(colours).tolist() == colours[:, ::-1, ::-1].tolist()


def test_grey_levels_leave_the_ends_out():
    assert grey_levels(np.zeros((3, 3))) == (0.0, 1.0)
    low, high = grey_levels(np.arange(1001))
    assert low == 5.995 and high == 995.005


def test_a_window_beyond_the_border_is_cut():
    view = View(1, (-3.0, 1.0), (0.5, 9.0))
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert view.cut(array).tolist() == array[1, :2, 1:].tolist() and view.corner == (0, 1)
    assert whole_image((5, 3, 4)).index == 2 and whole_image((3, 4)).cut(array[0]).shape == (3, 4)


def test_a_view_around_a_mask_stays_in_the_image():
    mask = np.zeros((30, 40), bool)
    mask[2:4, 20:30] = True
    assert around(mask, 7, margin=5, smallest=0) == View(7, (-0.5, 8.5), (14.5, 34.5))
    assert around(mask, 7, margin=0, smallest=10).rows == (-0.5, 7.5)
    assert around(np.zeros((4, 5), bool), None, 1, 1) == whole_image((4, 5))


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
