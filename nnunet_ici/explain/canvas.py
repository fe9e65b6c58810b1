"""The arrays to draw, and their parts inside a view."""

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
Box = tuple[float, float, float, float]  # x_min, x_max, y_min, y_max

PAPER = 0.93  # gray value of the background if there is no image
GAP = 0.2  # between an instance and the text above or below it, in half text heights


@dataclass(frozen=True, eq=False)
class Canvas:
    """The arrays to draw, reoriented for display, (H, W) or (D, H, W).

    Attributes:
        explained: terms and shares; its arrays keep the orientation of the files.
        background: gray values from 0 to 1, or None.
        label_ids, predicted_ids, cubes, center_error: reoriented maps of ``explained``.
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
        """The axial plane for a volume; the plane without slices for a 2D image."""
        return FLAT if self.label_ids.ndim == 2 else AXIAL

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Height and width of a pixel."""
        return self.plane.pixel_mm(self.geometry.spacing_mm)

    @property
    def pixel_aspect(self) -> float:
        """Height of a pixel divided by its width."""
        height_mm, width_mm = self.pixel_mm
        return height_mm / width_mm


def make_canvas(explained: Explained, image: FloatArray | None, geometry: Geometry) -> Canvas:
    """Reorient all arrays for display.

    Args:
        explained: terms, shares and maps.
        image: gray values in any range, in the shape of the maps; or None.
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
    """Location of an instance: the pixel nearest to its centroid, and the center and half sides of its bounding box."""

    x: float
    y: float
    middle_x: float
    middle_y: float
    half_width: float
    half_height: float

    def inside(self, half_width: float, half_height: float) -> list[tuple[float, float]]:
        """Center positions for a text inside the instance; empty if the instance is too small."""
        if half_width > 0.8 * self.half_width or 3 * half_height > self.half_height:
            return []
        return [(self.x, self.y + shift * half_height) for shift in (0, -2, 2)]

    def beside(self, half_width: float, half_height: float) -> list[tuple[float, float]]:
        """Center positions for a text beside the bounding box: above, below, right, left, then at the corners."""
        up, aside = self.half_height + (1 + GAP) * half_height, self.half_width + half_width
        shifts = [(0, -up), (0, up), (aside, 0), (-aside, 0), (aside, -up), (-aside, -up), (aside, up), (-aside, up)]
        return [(self.middle_x + x, self.middle_y + y) for x, y in shifts]


class Window:
    """The part of a canvas inside a view, and the locations of its instances."""

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
        """Median over the instances in the window of the square root of their number of pixels."""
        pixels = np.concatenate([np.bincount(ids.reshape(-1))[1:] for ids in (self.label_ids, self.predicted_ids)])
        return float(np.median(np.sqrt(pixels[pixels > 0]))) if pixels.any() else 1.0

    @cached_property
    def _covered(self) -> npt.NDArray[np.int64]:
        """Number of instance pixels above and to the left of each pixel corner."""
        covered = (self.label_ids > 0) | (self.predicted_ids > 0)
        return np.pad(covered, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)

    def is_free(self, box: Box) -> bool:
        """Whether no instance lies under a box (x_min, x_max, y_min, y_max)."""
        row, column = self.view.corner
        height, width = self.label_ids.shape
        left, right = (int(np.clip(np.rint(x + 0.5) - column, 0, width)) for x in box[:2])
        top, bottom = (int(np.clip(np.rint(y + 0.5) - row, 0, height)) for y in box[2:])
        total = self._covered
        return bool(total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left] == 0)

    def spots(self, ids: IdArray) -> dict[int, Spot]:
        """The location of each instance in the window, by id."""
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
