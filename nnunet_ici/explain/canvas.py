"""The arrays to draw, and the parts of them that lie in a view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_ici.drawing import AXIAL, FLAT, Geometry, Plane, View, gray_levels
from nnunet_ici.explain.shares import Explained, Side

__all__ = ["Box", "Canvas", "FloatArray", "IdArray", "Spot", "Window", "make_canvas"]

IdArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]  # x from, to; y from, to

PAPER = 0.93  # gray where there is no image
GAP = 0.2  # between an instance and the text above or below it, in half heights of the text


@dataclass(frozen=True, eq=False)
class Canvas:
    """The arrays to draw, each turned as it is drawn, (H, W) or (D, H, W).

    Attributes:
        explained: terms and shares; its arrays are not turned.
        background: gray values from 0 to 1, or None.
        label_ids, predicted_ids, cubes, center_error: maps of ``explained``, turned.
        geometry: position of the image in space.
    """

    explained: Explained
    background: FloatArray | None
    label_ids: IdArray
    predicted_ids: IdArray
    cubes: npt.NDArray[np.uint8]
    center_error: FloatArray
    geometry: Geometry

    @property
    def plane(self) -> Plane:
        """Axial slices of a volume; a 2D image is not cut."""
        return FLAT if self.label_ids.ndim == 2 else AXIAL

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Height and width of a pixel."""
        return self.plane.pixel_mm(self.geometry.spacing_mm)

    @property
    def pixel_aspect(self) -> float:
        """Height of a pixel over its width."""
        height_mm, width_mm = self.pixel_mm
        return height_mm / width_mm


def make_canvas(explained: Explained, image: FloatArray | None, geometry: Geometry) -> Canvas:
    """Turn all arrays as they are drawn.

    Args:
        explained: terms, shares and maps.
        image: gray values of any range, the shape of the maps, or None.
        geometry: geometry of the label.
    """
    background = None
    if image is not None:
        low, high = gray_levels(image)
        background = geometry.turned(np.clip((image - np.float32(low)) / np.float32(high - low), 0, 1))
    return Canvas(
        explained,
        background,
        geometry.turned(explained.label_ids),
        geometry.turned(explained.predicted_ids),
        geometry.turned(explained.cubes),
        geometry.turned(explained.center_error),
        geometry,
    )


class Spot(NamedTuple):
    """The place of an instance: the pixel nearest to its centroid, and its bounding box as middle and half sides."""

    x: float
    y: float
    middle_x: float
    middle_y: float
    half_width: float
    half_height: float

    def inside(self, half_width: float, half_height: float) -> list[tuple[float, float]]:
        """Positions (middles) of a text inside the instance; none where the instance is too small."""
        if half_width > 0.8 * self.half_width or 3 * half_height > self.half_height:
            return []
        return [(self.x, self.y + shift * half_height) for shift in (0, -2, 2)]

    def beside(self, half_width: float, half_height: float) -> list[tuple[float, float]]:
        """Positions of a text beside the bounding box: above, below, right, left, then at the corners."""
        up, aside = self.half_height + (1 + GAP) * half_height, self.half_width + half_width
        shifts = [(0, -up), (0, up), (aside, 0), (-aside, 0), (aside, -up), (-aside, -up), (aside, up), (-aside, up)]
        return [(self.middle_x + x, self.middle_y + y) for x, y in shifts]


class Window:
    """The part of a canvas that lies in a view, and the places of its instances."""

    def __init__(self, canvas: Canvas, view: View) -> None:
        self.view = view
        self.pixel_aspect = canvas.pixel_aspect
        self.explained = canvas.explained
        self.label_ids = view.cut(canvas.label_ids)
        self.predicted_ids = view.cut(canvas.predicted_ids)
        self.cubes = view.cut(canvas.cubes)
        self.center_error = view.cut(canvas.center_error)
        self.on_image = canvas.background is not None
        paper = np.full(self.cubes.shape, PAPER, dtype=np.float32)
        self.background = paper if canvas.background is None else 0.8 * view.cut(canvas.background)
        self.sides: tuple[tuple[Side, IdArray], ...] = (
            (self.explained.label, self.label_ids),
            (self.explained.predicted, self.predicted_ids),
        )

    @cached_property
    def typical_width(self) -> float:
        """The median over the instances in the window of the square root of their pixels."""
        pixels = np.concatenate([np.bincount(ids.reshape(-1))[1:] for ids in (self.label_ids, self.predicted_ids)])
        return float(np.median(np.sqrt(pixels[pixels > 0]))) if pixels.any() else 1.0

    @cached_property
    def _covered(self) -> npt.NDArray[np.int64]:
        """The number of pixels of instances above and left of each corner between pixels."""
        covered = (self.label_ids > 0) | (self.predicted_ids > 0)
        return np.pad(covered, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)

    def is_free(self, box: Box) -> bool:
        """Whether no instance lies under a box: x from, to; y from, to."""
        row, column = self.view.corner
        height, width = self.label_ids.shape
        left, right = (int(np.clip(np.rint(x + 0.5) - column, 0, width)) for x in box[:2])
        top, bottom = (int(np.clip(np.rint(y + 0.5) - row, 0, height)) for y in box[2:])
        total = self._covered
        return bool(total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left] == 0)

    def spots(self, ids: IdArray) -> dict[int, Spot]:
        """The place of each instance in the window, by id."""
        row, column = self.view.corner
        spots = {}
        for number, box in enumerate(ndimage.find_objects(ids), start=1):
            if box is None:
                continue
            pixels = np.argwhere(ids[box] == number)
            y, x = pixels[np.argmin(((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1))]
            half_height, half_width = ((along.stop - along.start) / 2 for along in box)
            left, top = column + box[1].start, row + box[0].start
            spots[number] = Spot(
                left + x, top + y, left + half_width - 0.5, top + half_height - 0.5, half_width, half_height
            )
        return spots
