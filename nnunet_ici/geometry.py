"""Where the voxels of an image lie, and how one image is turned to the grid of another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

__all__ = ["NIFTI_ENDINGS", "PIXEL_ENDINGS", "Grid", "is_orthonormal", "reorient", "turn_between"]

FloatArray = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

# Formats without millimetres: what they say of resolution is meant for printers.
PIXEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
NIFTI_ENDINGS = (".nii", ".nii.gz")
# nnU-Net's check of a data set compares spacing, origin and direction with numpy.allclose: relative to the values.
RELATIVE_TOLERANCE = 1e-5
# SimpleITK reads a NIfTI whose axes are this close to perpendicular, and writes it with the nearest perpendicular ones.
ORTHONORMAL_TOLERANCE = 2e-4


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of an image's voxels.

    Attributes:
        path: the file, for messages.
        size: number of voxels along each axis, x first.
        affine: (n + 1, n + 1), from voxel indices to mm, axes towards right, front and top as in NIfTI (RAS+).
        in_mm: False for :data:`PIXEL_ENDINGS`, which say nothing of space.
    """

    path: Path
    size: tuple[int, ...]
    affine: FloatArray
    in_mm: bool

    @classmethod
    def of(cls, image: sitk.Image, path: Path) -> Grid:
        """The grid of an image in 2 or 3 dimensions that was read from a file."""
        dim = image.GetDimension()
        affine = np.eye(dim + 1)
        affine[:dim, :dim] = np.reshape(image.GetDirection(), (dim, dim)) * image.GetSpacing()
        affine[:dim, dim] = image.GetOrigin()
        affine[:2] *= -1  # from LPS
        return cls(path, tuple(image.GetSize()), affine, not path.name.endswith(PIXEL_ENDINGS))

    def image_of(self, array: npt.NDArray[np.generic]) -> sitk.Image:
        """An array (H, W) or (D, H, W), a last axis for colours, as an image on this grid."""
        affine = self.affine.copy()
        affine[:2] *= -1  # to LPS
        spacing = _spacing(affine)
        image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim > len(self.size))
        image.SetSpacing(spacing)
        image.SetOrigin(affine[:-1, -1].tolist())
        image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
        return image

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³; in 2D its area in mm²; 1 for formats without millimetres."""
        return abs(float(np.linalg.det(self.affine[:-1, :-1]))) if self.in_mm else 1.0

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Edges of a voxel in mm, x first; 1 for formats without millimetres."""
        return _spacing(self.affine) if self.in_mm else (1.0,) * len(self.size)

    @property
    def orientation(self) -> FloatArray:
        """The orientation of the axes x, y, z as nibabel's ``io_orientation``."""
        orientation: FloatArray = nib.orientations.io_orientation(self.affine)
        return orientation

    def turned(self, turn: FloatArray) -> Grid:
        """The grid of an array of this grid that :func:`reorient` turned."""
        size = tuple(int(self.size[list(turn[:, 0]).index(axis)]) for axis in range(len(self.size)))
        return replace(self, size=size, affine=self.affine @ nib.orientations.inv_ornt_aff(turn, self.size))


def is_orthonormal(direction: npt.ArrayLike) -> bool:
    """Whether SimpleITK can keep a direction matrix, (n, n), in a NIfTI."""
    matrix = np.asarray(direction, np.float64)
    return bool(np.allclose(matrix.T @ matrix, np.eye(len(matrix)), rtol=0, atol=ORTHONORMAL_TOLERANCE))


def turn_between(own: Grid, wanted: Grid, called: str) -> FloatArray | None:
    """How an array is turned to the grid of another image of the same place, for :func:`reorient`.

    Two grids are the same where spacing, direction and origin agree within 1e-5 of their size, nnU-Net's tolerance.
    NIfTI files that SimpleITK places differently may still agree in nibabel's affines: the two prefer other header
    fields, and either may have written a prediction.

    Args:
        own: the array's grid.
        wanted: the grid it should have.
        called: what messages call the other image, such as "its ground truth".

    Returns:
        Flips and a permutation of axes as nibabel writes an orientation; None where there is nothing to turn, as for
        formats without millimetres.

    Raises:
        ValueError: if the grids differ by more; names both files and the first difference.
    """
    if len(own.size) != len(wanted.size) or not (own.in_mm and wanted.in_mm):
        if own.size != wanted.size:
            raise _differs(own, wanted, called, "shape", own.size[::-1], wanted.size[::-1])
        return None
    if own.size == wanted.size and np.array_equal(own.affine, wanted.affine):
        return None
    turn, difference = _compare(own, wanted)
    may_agree = sorted(own.size) == sorted(wanted.size) and len(own.size) == 3 and _are_nifti(own.path, wanted.path)
    if difference is not None and may_agree:
        turn, again = _compare(*(replace(grid, affine=nib.load(grid.path).affine) for grid in (own, wanted)))
        difference = again and difference
    if difference is not None:
        raise _differs(own, wanted, called, *difference)
    return None if np.array_equal(turn, _upright(len(own.size))) else turn


def reorient(array: npt.NDArray[Scalar], turn: FloatArray | None) -> npt.NDArray[Scalar]:
    """Flip and permute the axes of an array.

    Args:
        array: (..., D, H, W) or (..., H, W).
        turn: as :func:`turn_between` returns; None leaves the array as it is.

    Returns:
        The turned array, contiguous.
    """
    if turn is None:
        return array
    return np.ascontiguousarray(nib.orientations.apply_orientation(array.T, turn).T)


def _compare(own: Grid, wanted: Grid) -> tuple[FloatArray, tuple[str, object, object] | None]:
    """The turn that brings the axes together, and what differs after it: its name, the value got and expected."""
    own, wanted = (replace(grid, affine=_straightened(grid.affine)) for grid in (own, wanted))
    turn = nib.orientations.io_orientation(np.linalg.inv(wanted.affine) @ own.affine)
    turned = own.turned(turn)
    if turned.size != wanted.size:
        if own.size != wanted.size:
            return turn, ("shape", own.size[::-1], wanted.size[::-1])
        return turn, ("affine", _rounded(own.affine), _rounded(wanted.affine))
    spacing, wanted_spacing = np.array(_spacing(turned.affine)), np.array(_spacing(wanted.affine))
    axes, wanted_axes = turned.affine[:-1, :-1] / spacing, wanted.affine[:-1, :-1] / wanted_spacing
    origin, wanted_origin = turned.affine[:-1, -1], wanted.affine[:-1, -1]
    reach_mm = np.abs(wanted_origin).max() + np.max(wanted_spacing * wanted.size)
    parts = (
        ("spacing", spacing, wanted_spacing, RELATIVE_TOLERANCE * wanted_spacing),
        ("direction", axes, wanted_axes, RELATIVE_TOLERANCE),
        ("origin", origin, wanted_origin, RELATIVE_TOLERANCE * reach_mm),
    )
    for name, got, expected, tolerance in parts:
        if np.any(np.abs(got - expected) > tolerance):
            return turn, (name, _rounded(got), _rounded(expected))
    return turn, None


def _straightened(affine: FloatArray) -> FloatArray:
    """The affine that SimpleITK writes in its place: the nearest perpendicular axes, where it takes them at all."""
    spacing = _spacing(affine)
    direction = affine[:-1, :-1] / spacing
    if not is_orthonormal(direction):
        return affine
    left, _, right = np.linalg.svd(direction)
    straight = affine.copy()
    straight[:-1, :-1] = left @ right * spacing
    return straight


def _differs(own: Grid, wanted: Grid, called: str, what: str, got: object, expected: object) -> ValueError:
    return ValueError(
        f"{own.path} has another {what} than {called}. Expected: {expected}, as {wanted.path}. Got: {got}"
    )


def _upright(dim: int) -> FloatArray:
    return np.stack([np.arange(dim), np.ones(dim)], axis=1)


def _spacing(affine: FloatArray) -> tuple[float, ...]:
    return tuple(np.sqrt((affine[:-1, :-1] ** 2).sum(axis=0)).tolist())


def _rounded(values: FloatArray) -> object:
    return (np.round(values, 6) + 0.0).tolist()  # no -0.0


def _are_nifti(*paths: Path) -> bool:
    return all(path.name.endswith(NIFTI_ENDINGS) for path in paths)
