"""How an image lies in space, how its slices are laid out, and which grey values are shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_ici.geometry import Grid, reorient

__all__ = ["AXIAL", "CORONAL", "FLAT", "PLANES", "SAGITTAL", "Geometry", "Plane", "grey_levels"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Plane:
    """A way to cut a volume that lies as :meth:`Geometry.turned` lays it.

    Attributes:
        name: name of the slices, such as "axial"; "" for a 2D image, which is not cut.
        axis: axis of (D, H, W) that runs from slice to slice.
        coordinate: name of the position along it, such as "z".
        sides: what lies left, right, above and below: R, L, A, P, S or I; empty where nothing is known.
    """

    name: str
    axis: int
    coordinate: str
    sides: tuple[str, ...]

    def laid(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """A view of (D, H, W) with the slices first, each as it is drawn; a last axis for colours stays."""
        if self.axis == 0:
            return array
        return np.flip(np.moveaxis(array, self.axis, 0), 1)

    def pixel_mm(self, spacing_mm: tuple[float, ...]) -> tuple[float, float]:
        """Height and width of a pixel.

        Args:
            spacing_mm: edges of a voxel along (D, H, W), or of a pixel along (H, W).
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
    """How an image lies in space, and how it is turned to be drawn.

    Attributes:
        grid: grid of the image's voxels.
    """

    grid: Grid

    @cached_property
    def _turn(self) -> npt.NDArray[np.float64] | None:
        """To axial slices, front up and the patient's right on the left; None for a 2D image."""
        if len(self.grid.size) == 2:
            return None
        turn: npt.NDArray[np.float64] = nib.orientations.ornt_transform(
            self.grid.orientation, nib.orientations.axcodes2ornt("LPS")
        )
        return turn

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Edges of a voxel of a turned image in mm, (D, H, W) or (H, W); 1 where the format knows no millimetres."""
        spacing = self.grid.spacing_mm
        if self._turn is not None:
            spacing = tuple(spacing[axis] for axis in np.argsort(self._turn[:, 0]))
        return spacing[::-1]

    @property
    def unit(self) -> str:
        """Unit of lengths, "mm" or "px"."""
        return "mm" if self.grid.in_mm else "px"

    def position_mm(self, plane: Plane, index: int) -> float:
        """Where the middle of a slice lies along its plane's coordinate: x is positive to the right, y to the front,
        z to the top.

        Args:
            plane: how the volume is cut.
            index: index of the slice in the turned volume, (D, H, W).
        """
        affine = self.grid.affine @ nib.orientations.inv_ornt_aff(self._turn, self.grid.size)
        sizes = [self.grid.size[axis] for axis in np.argsort(self._turn[:, 0])]  # type: ignore[index]
        middle = [(size - 1) / 2 for size in sizes]
        middle[2 - plane.axis] = index
        return float((affine @ [*middle, 1])[2 - plane.axis])

    def turned(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The array as it is drawn: a volume with axial slices, front up and the patient's right on the left.

        Args:
            array: (D, H, W), or (H, W), which stays as it is; a last axis holds colours.
        """
        if array.ndim > len(self.grid.size):
            return np.moveaxis(reorient(np.moveaxis(array, -1, 0), self._turn), 0, -1)
        return reorient(array, self._turn)


def grey_levels(image: npt.NDArray[np.generic]) -> tuple[float, float]:
    """The grey values drawn as black and white: without the darkest and the brightest half percent of the content."""
    values = image[np.isfinite(image) & np.not_equal(image, image.min())]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5))
    return float(min(low, high - 1e-6)), float(high)
