"""Voxel grids in physical space, and the reorientation of arrays from one grid to another."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

__all__ = [
    "NIFTI_ENDINGS",
    "PIXEL_ENDINGS",
    "TIFF_ENDINGS",
    "Grid",
    "TwoTransformsError",
    "find_spacing_file",
    "is_orthonormal",
    "one_transform",
    "reorient",
    "spacing_file",
    "turn_between",
]

FloatArray = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

# Formats without a voxel size in mm; their resolution is meant for printing. A 3D TIFF may have one in a JSON file.
TIFF_ENDINGS = (".tif", ".tiff")
PIXEL_ENDINGS = (".png", ".bmp", *TIFF_ENDINGS)
NIFTI_ENDINGS = (".nii", ".nii.gz")
# nnU-Net's dataset check compares spacing, origin and direction with the relative tolerance of numpy.allclose.
RELATIVE_TOLERANCE = 1e-5
# SimpleITK reads a NIfTI file if its axes are this close to perpendicular, and writes the nearest perpendicular axes.
ORTHONORMAL_TOLERANCE = 2e-4


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of an image in n dimensions, 2 or 3.

    Attributes:
        path: path of the image, for messages.
        size: number of voxels along each axis, x first.
        affine: float64 (n + 1, n + 1), from voxel indices to mm in RAS+ as in NIfTI: right, anterior, superior.
        in_mm: False for :data:`PIXEL_ENDINGS`, which have no voxel size, except a 3D TIFF with nnU-Net's spacing file.
    """

    path: Path
    size: tuple[int, ...]
    affine: FloatArray
    in_mm: bool

    @classmethod
    def of(cls, image: sitk.Image, path: Path) -> Grid:
        """The grid of a 2D or 3D image that was read from a file.

        Raises:
            ValueError: if the spacing file of a TIFF cannot be read.
        """
        dim = image.GetDimension()
        if path.name.endswith(PIXEL_ENDINGS):
            spacing = _read_spacing(path) if dim == 3 else None
            affine = np.diag([*(spacing or (1.0,) * dim), 1.0])
            affine[:2] *= -1
            return cls(path, tuple(image.GetSize()), affine, spacing is not None)
        affine = np.eye(dim + 1)
        affine[:dim, :dim] = np.reshape(image.GetDirection(), (dim, dim)) * image.GetSpacing()
        affine[:dim, dim] = image.GetOrigin()
        affine[:2] *= -1  # from LPS
        return cls(path, tuple(image.GetSize()), affine, in_mm=True)

    def image_of(self, array: npt.NDArray[np.generic]) -> sitk.Image:
        """Convert an array to an image on this grid.

        Args:
            array: (H, W) or (D, H, W), with an optional last axis for color channels.
        """
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
        """Volume of a voxel in mm³, or its area in mm² in 2D; 1 for formats without a voxel size."""
        return abs(float(np.linalg.det(self.affine[:-1, :-1]))) if self.in_mm else 1.0

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Edge lengths of a voxel in mm, x first; 1 for formats without a voxel size."""
        return _spacing(self.affine) if self.in_mm else (1.0,) * len(self.size)

    @property
    def orientation(self) -> FloatArray:
        """Orientation of the axes, x first, in the form of nibabel's ``io_orientation``, (n, 2)."""
        orientation: FloatArray = nib.orientations.io_orientation(self.affine)
        return orientation

    def turned(self, turn: FloatArray) -> Grid:
        """The grid of an array on this grid after :func:`reorient`."""
        size = tuple(int(self.size[list(turn[:, 0]).index(axis)]) for axis in range(len(self.size)))
        return replace(self, size=size, affine=self.affine @ nib.orientations.inv_ornt_aff(turn, self.size))


class TwoTransformsError(ValueError):
    """A NIfTI header has two transforms that differ, of which some programs use one and some the other."""


def one_transform(header: nib.Nifti1Header, path: Path, trust: str | None = None) -> nib.Nifti1Header:
    """Check that the sform and the qform of a header agree, or the sform and the voxel size if there is no qform.

    nibabel prefers the sform. SimpleITK, and thereby nnU-Net, takes the voxel size from pixdim, and in some cases the
    position from the qform. Rounding is tolerated as long as no voxel is moved by more than half of its smallest edge.

    Args:
        header: header of the file.
        path: path of the file, for messages.
        trust: "sform" or "qform", the transform to keep if they differ; None to accept no difference.

    Returns:
        The header itself if they agree, else a copy with one transform.

    Raises:
        TwoTransformsError: if they differ, and there is none to keep.
    """
    sform, qform = (transform for transform, _ in (header.get_sform(coded=True), header.get_qform(coded=True)))
    if sform is None or (qform is None and not abs(np.linalg.det(sform)) > 0):  # singular: an error of its own
        return header
    kept = {"sform": sform, "qform": qform}.get(trust or "")
    zooms = np.array([*header.get_zooms()[:3], 1, 1, 1][:3], np.float64)
    if qform is None:
        qform = sform @ np.diag([*zooms / _spacing(sform), 1])
        got = f"sform {_rounded(sform[:3])}, pixdim {_rounded(zooms)}"
    else:
        got = f"sform {_rounded(sform[:3])}, qform {_rounded(qform[:3])}"
    size = np.array([*header.get_data_shape()[:3], 1, 1, 1][:3])
    corners = np.array([*np.ndindex(2, 2, 2)]) * (size - 1)
    apart_mm = np.linalg.norm((corners @ (sform - qform)[:3, :3].T) + (sform - qform)[:3, 3], axis=1).max()
    if apart_mm <= zooms.min() / 2:
        return header
    if kept is None or not np.isfinite(kept).all():
        raise TwoTransformsError(
            f"{path} has two transforms that differ by up to {apart_mm:.3g} mm. Expected: one, because some programs "
            f"use the sform and others the qform or pixdim (convert-atlas --trust keeps one). Got: {got}"
        )
    header = header.copy()
    header.set_sform(kept, code=1)
    header.set_qform(kept, code=0)
    return header


def spacing_file(path: Path) -> Path:
    """The JSON file in which nnU-Net's Tiff3DIO stores the spacing of a TIFF."""
    return path.with_suffix(".json")


def find_spacing_file(path: Path) -> Path | None:
    """The spacing file of a TIFF, for an image ``CASE_0000.tif`` also ``CASE.json``; None if there is none."""
    without_channel = path.with_name(re.sub(r"_\d{4}$", "", path.stem) + path.suffix)
    found = (spacing_file(one) for one in (path, without_channel))
    return next((one for one in found if one.is_file()), None) if path.name.endswith(TIFF_ENDINGS) else None


def _read_spacing(path: Path) -> tuple[float, ...] | None:
    """Spacing in mm in the spacing file of a TIFF, x first; None without a file. ValueError if it cannot be read."""
    file = find_spacing_file(path)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        z, y, x = map(float, content["spacing"])
        if not (min(x, y, z) > 0 and max(x, y, z) < np.inf):
            raise ValueError(f"spacing {content['spacing']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{file} cannot be read. Expected: {{"spacing": [z, y, x]}}, in mm, above 0. Got: {error}'
        ) from error
    return x, y, z


def is_orthonormal(direction: npt.ArrayLike) -> bool:
    """Whether SimpleITK preserves a direction matrix, (n, n), in a NIfTI file."""
    matrix = np.asarray(direction, np.float64)
    return bool(np.allclose(matrix.T @ matrix, np.eye(len(matrix)), rtol=0, atol=ORTHONORMAL_TOLERANCE))


def turn_between(own: Grid, wanted: Grid, called: str, by_nibabel: bool = True) -> FloatArray | None:
    """Flips and axis permutation that bring an array to the grid of another image, for :func:`reorient`.

    After them, spacing, direction and origin must agree within a relative tolerance of 1e-5, as in nnU-Net. If two
    NIfTI files differ when read with SimpleITK, their affines from nibabel are compared as well: the libraries prefer
    different header fields, and either may have written a prediction.

    Args:
        own: grid of the array.
        wanted: grid that the array should have.
        called: name of the other image in messages, such as "its ground truth".
        by_nibabel: whether NIfTI files may also agree in nibabel's affines; False if the grids are made of these.

    Returns:
        The orientation change in nibabel's form, (n, 2); None if the array can stay as it is, as for all formats
        without a voxel size.

    Raises:
        ValueError: if the grids do not agree; the message names both files and the first difference.
    """
    if len(own.size) != len(wanted.size) or not (own.in_mm and wanted.in_mm):
        if own.size != wanted.size:
            raise _differs(own, wanted, called, "shape", own.size[::-1], wanted.size[::-1])
        return None
    if own.size == wanted.size and np.array_equal(own.affine, wanted.affine):
        return None
    turn, difference = _compare(own, wanted)
    may_agree = (
        by_nibabel
        and sorted(own.size) == sorted(wanted.size)
        and len(own.size) == 3
        and _are_nifti(own.path, wanted.path)
    )
    if difference is not None and may_agree:
        turn, again = _compare(*(replace(grid, affine=nib.load(grid.path).affine) for grid in (own, wanted)))
        difference = again and difference
    if difference is not None:
        raise _differs(own, wanted, called, *difference)
    return None if np.array_equal(turn, _upright(len(own.size))) else turn


def reorient(array: npt.NDArray[Scalar], turn: FloatArray | None) -> npt.NDArray[Scalar]:
    """Flip and permute the axes of an array.

    Args:
        array: (..., D, H, W) or (..., H, W), any dtype.
        turn: result of :func:`turn_between`.

    Returns:
        The reoriented array, contiguous; the array itself if ``turn`` is None.
    """
    if turn is None:
        return array
    return np.ascontiguousarray(nib.orientations.apply_orientation(array.T, turn).T)


def _compare(own: Grid, wanted: Grid) -> tuple[FloatArray, tuple[str, object, object] | None]:
    """The orientation change that aligns the axes, and the first difference that remains after it.

    Returns:
        The change, (n, 2); and name, received value and expected value of the difference, or None.
    """
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
    """The affine as SimpleITK writes it, with the nearest perpendicular axes; unchanged if SimpleITK rejects it."""
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
        f"{own.path} differs in {what} from {called}. Expected: {expected}, as in {wanted.path}. Got: {got}"
    )


def _upright(dim: int) -> FloatArray:
    return np.stack([np.arange(dim), np.ones(dim)], axis=1)


def _spacing(affine: FloatArray) -> tuple[float, ...]:
    return tuple(np.sqrt((affine[:-1, :-1] ** 2).sum(axis=0)).tolist())


def _rounded(values: FloatArray) -> object:
    return (np.round(values, 6) + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0


def _are_nifti(*paths: Path) -> bool:
    return all(path.name.endswith(NIFTI_ENDINGS) for path in paths)
