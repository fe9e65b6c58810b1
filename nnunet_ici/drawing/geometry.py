"""Orientation of an image in space, layout of its slices, and range of the gray values shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_ici.geometry import Grid, reorient

__all__ = ["AXIAL", "CORONAL", "FLAT", "PLANES", "SAGITTAL", "Geometry", "Plane", "gray_levels"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Plane:
    """A slicing plane of a volume reoriented by :meth:`Geometry.turned`.

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
        if self.axis == 0:
            return array
        return np.flip(np.moveaxis(array, self.axis, 0), 1)

    def pixel_mm(self, spacing_mm: tuple[float, ...]) -> tuple[float, float]:
        """Height and width of a pixel.

        Args:
            spacing_mm: voxel spacing along (D, H, W), or pixel spacing along (H, W).
        """
        height_mm, width_mm = spacing_mm if len(spacing_mm) == 2 else np.delete(spacing_mm, self.axis)
        return float(height_mm), float(width_mm)


AXIAL = Plane("axial", 0, "z", ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, "y", ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 2, "x", ("A", "P", "S", "I"))
PLANES = (AXIAL, CORONAL, SAGITTAL)
FLAT = Plane("", 0, "", ())


@dataclass(frozen=True, eq=False)
class Geometry:
    """Position of an image in space, and its orientation for display.

    Attributes:
        grid: voxel grid of the image.
    """

    grid: Grid

    @cached_property
    def _turn(self) -> npt.NDArray[np.float64] | None:
        """Transform to axial slices with anterior up and the patient's right on the left; None for a 2D image."""
        if len(self.grid.size) == 2:
            return None
        turn: npt.NDArray[np.float64] = nib.orientations.ornt_transform(
            self.grid.orientation, nib.orientations.axcodes2ornt("LPS")
        )
        return turn

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel spacing of the reoriented image in mm, (D, H, W) or (H, W); 1 if the file format has no spacing."""
        spacing = self.grid.spacing_mm
        if self._turn is not None:
            spacing = tuple(spacing[axis] for axis in np.argsort(self._turn[:, 0]))
        return spacing[::-1]

    @property
    def unit(self) -> str:
        """Unit of length: "mm" or "px"."""
        return "mm" if self.grid.in_mm else "px"

    def position_mm(self, plane: Plane, index: int) -> float:
        """Position of the center of a slice along its plane's coordinate.

        x increases toward the patient's right, y toward the front, and z toward the head.

        Args:
            plane: plane of the slice.
            index: index of the slice in the reoriented volume, (D, H, W).
        """
        affine = self.grid.affine @ nib.orientations.inv_ornt_aff(self._turn, self.grid.size)
        sizes = [self.grid.size[axis] for axis in np.argsort(self._turn[:, 0])]  # type: ignore[index]
        middle = [(size - 1) / 2 for size in sizes]
        middle[2 - plane.axis] = index
        return float((affine @ [*middle, 1])[2 - plane.axis])

    def turned(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Reorient an array for display: axial slices with anterior up and the patient's right on the left.

        Args:
            array: (D, H, W), or (H, W), which is returned unchanged. A further last axis holds the color channels.
        """
        if array.ndim > len(self.grid.size):
            return np.moveaxis(reorient(np.moveaxis(array, -1, 0), self._turn), 0, -1)
        return reorient(array, self._turn)


def gray_levels(image: npt.NDArray[np.generic]) -> tuple[float, float]:
    """The gray values drawn as black and as white.

    They are the 0.5th and the 99.5th percentile of all finite values except the minimum; 0 and 1 if there are none.
    """
    values = image[np.isfinite(image) & np.not_equal(image, image.min())]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5))
    return float(min(low, high - 1e-6)), float(high)
