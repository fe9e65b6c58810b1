"""What ``nnunet_ici explain`` draws: views that show missed and false instances, and texts that can be read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.text import Text

from nnunet_ici.drawing import make_scene
from nnunet_ici.explain.numbers import as_table
from nnunet_ici.explain.picture import NEGATIVE, draw, has_negative
from nnunet_ici.explain.shares import explain
from nnunet_ici.explain.views import choose_instances, choose_views, not_in_view
from nnunet_ici.geometry import Grid
from tests.terms import in_2d_and_3d


def make_volume():
    """Label with a found, a large found and a missed instance, and a prediction with a false one, far apart."""
    label = np.zeros((12, 60, 60), np.uint8)
    label[1:3, 5:8, 5:8] = label[8:11, 40:50, 40:50] = label[5, 10, 50] = 1
    prediction = label.copy()
    prediction[5, 10, 50], prediction[3:5, 50:53, 5:8] = 0, 1
    return label, prediction


@pytest.fixture
def volume():
    return make_volume()


def explained_scene(label, prediction, image=None, spacing=None):
    explained = explain(label > 0, prediction.astype(np.float32))
    reference = sitk.GetImageFromArray(label)
    reference.SetSpacing(spacing or (1.0,) * label.ndim)
    maps = {"predicted": explained.predicted_ids, "cubes": explained.cubes, "error": explained.center_error}
    grid = Grid.of(reference, Path("label.nii.gz" if label.ndim == 3 else "label.png"))
    return explained, make_scene(grid, explained.label_ids, maps, image)


def drawn(label, prediction, count=6, **options):
    figure = draw(*explained_scene(label, prediction, **options), "a title " * 20, count)
    figure.canvas.draw()
    return figure


def crowded(rng):
    label = np.zeros((96, 120), np.uint8)
    for row in range(3, 90, 8):
        for column in range(3, 112, 9):
            label[row : row + rng.integers(2, 6), column : column + rng.integers(2, 7)] = 1
    return label, np.roll(label, 2, axis=1) * (rng.random(label.shape) < 0.9)


def test_missed_and_false_instances_come_first(volume):
    explained, _ = explained_scene(*volume)
    order = [side.name(number) for side, number in choose_instances(explained.label, explained.predicted)]
    assert order[0] == "L3" and explained.label.size[2] == 300  # the largest
    assert order[1] == "L2" and explained.label.unmatched[1]
    assert order[2] == "P2" and explained.predicted.unmatched[1]
    assert sorted(order) == ["L1", "L2", "L3", "P1", "P2", "P3"]


def test_views_hold_each_instance_once(volume):
    explained, scene = explained_scene(*volume)
    views = choose_views(explained, scene, 9)
    assert [view.name for view in views] == ["L3", "L2", "P2", "L1"]  # P1 and P3 lie in the windows of L1 and L3
    assert [view.index for view in views] == [8, 5, 3, 1]
    assert views[0].rows == (30.5, 58.5) and views[1].rows == (-0.5, 24.5)  # cut at the border
    assert not_in_view(scene, views) == (0, 0)
    two = choose_views(explained, scene, 2)
    assert two == views[:2] and not_in_view(scene, two) == (1, 2)


@in_2d_and_3d
def test_no_text_lies_on_another(rng, axes, volume):
    figure = drawn(*(crowded(rng) if axes == 2 else volume), 3)
    frame = figure.bbox
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in axis.texts]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    outer = [*figure.texts, *figure.legends]
    outer += [text for axis in figure.axes for text in (axis.title, axis.yaxis.label)]
    outer = [item for item in outer if not isinstance(item, Text) or item.get_text()]
    boxes = [item.get_window_extent() for item in outer]
    assert len(boxes) >= 2 + 1 + 6
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
    assert sum(len(axis.texts) for axis in figure.axes) >= 12


def parts_of(figure):
    locators = [axis for axis in figure.axes if axis.patches]
    return [axis for axis in figure.axes if axis.images and axis not in locators], locators


def test_a_view_of_a_volume_says_where_it_is(volume):
    image = np.arange(60, dtype=np.float32)[None, None] + np.zeros((12, 60, 1), np.float32)
    figure = drawn(*volume, 2, image=image)
    panels, locators = parts_of(figure)
    assert len(panels) == 2 * 8 and len(locators) == 2
    rows = [text.get_text() for text in figure.texts]
    assert rows[:2] == ["L3\nfound\n300 voxels\nslice 8\nz = 8.0 mm", "L2\nmissed\n1 voxel\nslice 5\nz = 5.0 mm"]
    for number, axis in enumerate(panels):
        texts = [text.get_text() for text in axis.texts]
        bars = [line for line in axis.lines if line.get_gid() == "scale bar"]
        if number % 8:
            assert not bars and not {"R", "L"} & {*texts}
        else:
            assert texts[:5] == ["R", "L", "A", "P", "5 mm"] and np.ptp(bars[0].get_xdata()) == pytest.approx(5)
    assert locators[0].patches[0].get_bbox().extents.tolist() == [30.5, 30.5, 58.5, 58.5]
    assert locators[0].images[0].get_array().shape == (60, 60)


def test_what_lies_beyond_the_image_has_its_ground(volume):
    for image, color in ((None, (0.93, 0.93, 0.93, 1)), (np.ones((12, 60, 60), np.float32), (0, 0, 0, 1))):
        panels, _ = parts_of(drawn(*volume, 2, image=image))
        assert {axis.get_facecolor() for axis in panels} == {color}


@pytest.mark.parametrize("shape", [(20, 200), (200, 20), (50, 60)])
def test_panels_of_a_long_image_are_full(shape):
    label = np.zeros(shape, np.uint8)
    label[5:9, 5:9] = 1
    panel = drawn(label, label).axes[0]
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    assert panel.get_position(original=True).extents == pytest.approx(panel.get_position().extents, abs=1e-3)
    assert left <= -0.5 and right >= shape[1] - 0.5 and top <= -0.5 and bottom >= shape[0] - 0.5
    assert 0.5 - 1e-6 <= (bottom - top) / (right - left) <= 1.5 + 1e-6


def extent(axis, artist):
    box = artist.get_window_extent().transformed(axis.transData.inverted())
    return sorted((box.x0, box.x1)), sorted((box.y0, box.y1))


@in_2d_and_3d
def test_numbers_lie_in_large_instances_or_beside_small_ones_with_a_leader(rng, axes, volume):
    label, prediction = crowded(rng) if axes == 2 else volume
    label = label.copy()
    label[..., 50:80, 50:59] = 1  # one large instance
    explained, scene = explained_scene(label, prediction)
    figure = draw(explained, scene, "a title", 1)
    figure.canvas.draw()
    ids = np.maximum(scene.label, scene.maps["predicted"])
    ids = ids if axes == 2 else ids[choose_views(explained, scene, 1)[0].index]
    written = 0
    for axis in figure.axes:
        names = [text for text in axis.texts if text.get_text()[0] in "LP" and text.get_text() not in "LP"]
        leaders = [line for line in axis.lines if line.get_gid() == "leader"]
        beside = 0
        for text in names:
            (left, right), (top, bottom) = extent(axis, text)
            rows, columns = (slice(max(int(a + 1), 0), max(int(b), 0)) for a, b in ((top, bottom), (left, right)))
            name = text.get_text().split()[0]
            side = explained.label if name[0] == "L" else explained.predicted
            beside += (free := not ids[rows, columns].any())
            assert side.size[int(name[1:]) - 1] >= 60 or free, name
        written += len(names)
        assert len(leaders) >= beside
        for line in leaders:  # from the edge of a pixel of an instance to a text
            (x, _), (y, _) = line.get_data()
            around = ids[max(int(y), 0) : int(y) + 2, max(int(x), 0) : int(x) + 2]
            assert around.any()
    assert written >= 6


def test_negative_shares_have_a_diverging_scale_and_a_sentence():
    label = np.zeros((30, 40), np.uint8)
    label[5:15, 5:15] = 1
    for prob, negative in ((0.45, True), (1.0, False)):  # below the threshold, not a hit, with a Dice of 0.62
        explained, scene = explained_scene(label, label * np.float32(prob))
        figure = draw(explained, scene, "a title")
        assert has_negative(explained) == negative
        assert (NEGATIVE in [text.get_text() for text in figure.texts]) == negative
        low, high = figure.axes[-1].get_ylim()
        assert (low == -high) if negative else (low == 0)


def test_many_instances_take_seconds(rng):
    label = rng.random((60, 80, 80)) < 0.02
    prob = np.where(rng.random(label.shape) < 0.3, label, rng.random(label.shape) < 0.01).astype(np.float32)
    start = time.perf_counter()
    explained = explain(label, prob)
    assert len(explained.label) > 2000 and time.perf_counter() - start < 20


def test_a_long_list_of_touched_instances_is_cut():
    label = np.zeros((1, 20), bool)
    label[0, ::2] = True
    table = as_table(explain(label, np.ones((1, 20))))
    assert "\nP1   20      L1 L2 L3 L4 L5 L6 and 4 more  " in table
