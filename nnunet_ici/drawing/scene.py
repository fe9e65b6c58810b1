"""One case turned for display: its arrays, the planes through them, and the windows that are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_ici.geometry import Grid, reorient

__all__ = ["AXIAL", "FLAT", "PLANES", "Plane", "Scene", "View", "around", "make_scene", "scale_bar", "to_gray", "whole"]

Scalar = TypeVar("Scalar", bound=np.generic)
Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plane:
    """A slicing plane of a :class:`Scene`.

    Attributes:
        name: name of the plane, such as "axial"; "" for a 2D image, which has no slices.
        axis: axis of (D, H, W) along which the slices are stacked.
        coordinate: name of the coordinate along that axis, such as "z".
        sides: anatomical directions at the left, right, top and bottom edge: R, L, A, P, S or I; empty if unknown.
    """

    name: str
    axis: int
    coordinate: str
    sides: tuple[str, ...]

    def slices(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """A view of (D, H, W) with the slices along the first axis, oriented for display. A last color axis is kept."""
        return array if self.axis == 0 else np.flip(np.moveaxis(array, self.axis, 0), 1)


AXIAL = Plane("axial", 0, "z", ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, "y", ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 2, "x", ("A", "P", "S", "I"))
PLANES = (AXIAL, CORONAL, SAGITTAL)
FLAT = Plane("", 0, "", ())


@dataclass(frozen=True, eq=False)
class Scene:
    """The arrays of one case, (H, W) or (D, H, W): axial slices with anterior up and the patient's right on the left.

    Attributes:
        grid: voxel grid of the turned arrays.
        label: label map, or ids of the instances of the label.
        maps: further maps, such as the prediction of each model.
        image: float32 in [0, 1], with a last axis for colors, if any; None without an image.
    """

    grid: Grid
    label: Array
    maps: dict[str, Array]
    image: FloatArray | None = None

    @property
    def plane(self) -> Plane:
        """The axial plane of a volume, or the plane of a 2D image."""
        return FLAT if self.label.ndim == 2 else AXIAL

    @property
    def unit(self) -> str:
        """Unit of length: "mm"; without a voxel size "voxels", and in 2D "px"."""
        return "mm" if self.grid.in_mm else "px" if len(self.grid.size) == 2 else "voxels"

    def pixel_mm(self, plane: Plane) -> tuple[float, float]:
        """Height and width of a pixel in a plane, in :attr:`unit`."""
        spacing = self.grid.spacing_mm[::-1]
        height, width = spacing if len(spacing) == 2 else np.delete(spacing, plane.axis)
        return float(height), float(width)

    def position_mm(self, plane: Plane, index: int) -> float:
        """Position of the center of a slice. x increases toward the patient's right, y to the front, z to the head."""
        middle = [(size - 1) / 2 for size in self.grid.size]
        middle[2 - plane.axis] = index
        return float((self.grid.affine @ [*middle, 1])[2 - plane.axis])


def make_scene(grid: Grid, label: Array, maps: Mapping[str, Array], image: Array | None = None) -> Scene:
    """Turn the arrays of a case for display; a 2D image stays as it is.

    Args:
        grid: grid of all arrays, as in the files.
        label, maps: as in :class:`Scene`.
        image: gray values or colors in any range; None for none.
    """
    turn = None
    if len(grid.size) == 3:
        turn = nib.orientations.ornt_transform(grid.orientation, nib.orientations.axcodes2ornt("LPS"))

    def turned(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        if array.ndim > len(grid.size):
            return np.moveaxis(reorient(np.moveaxis(array, -1, 0), turn), 0, -1)
        return reorient(array, turn)

    return Scene(
        grid if turn is None else grid.turned(turn),
        turned(label),
        {name: turned(array) for name, array in maps.items()},
        None if image is None else turned(to_gray(image)),
    )


def to_gray(image: Array) -> FloatArray:
    """Gray values scaled to [0, 1], float32.

    Black and white are the 0.5th and the 99.5th percentile of all finite values except the minimum.
    """
    values = image[np.isfinite(image) & np.not_equal(image, image.min())]
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5)) if values.size else (0.0, 1.0)
    low = min(low, high - 1e-6)
    scaled: FloatArray = np.clip((image.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return scaled


@dataclass(frozen=True)
class View:
    """A window on an image or on a slice of a volume.

    Attributes:
        index: index of the slice; None for a 2D image.
        rows: outer edges of the first and the last row, such as (-0.5, 9.5) for ten rows; may exceed the image.
        columns: outer edges of the first and the last column.
        name: name of the instance at its center, or "".
    """

    index: int | None
    rows: tuple[float, float]
    columns: tuple[float, float]
    name: str = ""

    def cut(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The part of an array, (H, W) or (D, H, W), inside the window. A further last axis is kept."""
        rows, columns = (
            slice(max(int(np.ceil(low)), 0), max(int(np.floor(high)) + 1, 0)) for low, high in (self.rows, self.columns)
        )
        return array[rows, columns] if self.index is None else array[self.index, rows, columns]

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the first pixel that :meth:`cut` keeps."""
        return max(int(np.ceil(self.rows[0])), 0), max(int(np.ceil(self.columns[0])), 0)


def whole(shape: tuple[int, ...]) -> View:
    """A view of a whole 2D image, or of the middle slice of a volume."""
    *depth, height, width = shape
    return View(depth[0] // 2 if depth else None, (-0.5, height - 0.5), (-0.5, width - 0.5))


def around(mask: BoolArray, margin: int, smallest: int, index: int | None = None, name: str = "") -> View:
    """A window around the mask in a slice; the whole slice if the mask is empty.

    Args:
        mask: mask of the slice, (H, W).
        margin: margin on each side in pixels, clipped at the image border.
        smallest: minimum height and width in pixels, clipped at the image border.
        index, name: as in :class:`View`.
    """
    sides = []
    for axis, size in enumerate(mask.shape):
        hits = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = (int(hits[0]), int(hits[-1])) if hits.size else (0, size - 1)
        beyond = max(margin, (smallest - (last + 1 - first) + 1) // 2)
        sides.append((max(first - beyond, 0) - 0.5, min(last + beyond, size - 1) + 0.5))
    return View(index, sides[0], sides[1], name)


def scale_bar(width: float) -> float:
    """Length of a scale bar: 1, 2 or 5 times a power of ten, at most a third of the width shown.

    Example:
        >>> scale_bar(181.0), scale_bar(30.0), scale_bar(0.7)
        (50.0, 10.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(width / 3))
    return max(step * power for step in (1, 2, 5) if step * power <= width / 3)
