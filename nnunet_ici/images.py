"""Reading medical images as nnU-Net does, and noticing when a file is not whole."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.geometry import NIFTI_ENDINGS, Grid, is_orthonormal

__all__ = ["is_straight", "read_image", "read_nifti", "visible", "whole_numbers", "write_image"]

_CHUNK = 1 << 24
# Some masks of ATLAS R2.1 and R3.0 are stored with a scale, and read as 0.99999998.
VALUE_TOLERANCE = 1e-6
REAL_PIXELS = (sitk.sitkFloat32, sitk.sitkFloat64)


def visible(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that match a pattern, sorted.

    Hidden ones, and what lies in hidden folders, are left out: macOS puts a ``._NAME`` beside every NAME on disks of
    other systems.
    """
    found = (path for path in folder.glob(pattern) if "/." not in f"/{path.relative_to(folder).as_posix()}")
    return sorted(found)


def read_image(path: Path) -> sitk.Image:
    """Read an image with SimpleITK, or, where that refuses the affine of a NIfTI, with nibabel, as nnU-Net does.

    SimpleITK reads a truncated NIfTI without a word and makes up the missing voxels. So a compressed file is first
    decompressed to its end and its checksum, and the size of an uncompressed one is compared with its header. SimpleITK
    also turns NaN and infinity in a NIfTI into 0, so the voxels of a floating-point NIfTI come from nibabel.

    Returns:
        The image. Its direction matrix need not be orthonormal.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not an image; with path and reason.
    """
    with _named(path):
        if not path.name.endswith(NIFTI_ENDINGS):
            return sitk.ReadImage(str(path))
        reader = _read_header(path)
        if reader is None:
            nifti = nib.load(path)
            if nifti.ndim != 3 or not abs(np.linalg.det(nifti.affine)) > 0:
                raise OSError(f"shape {nifti.shape} with the affine {nifti.affine[:3].tolist()}")
            return Grid(path, nifti.shape, nifti.affine, in_mm=True).image_of(np.asanyarray(nifti.dataobj).T)
        if reader.GetPixelID() in REAL_PIXELS:
            voxels = np.asanyarray(nib.load(path).dataobj).T.reshape(reader.GetSize()[::-1])
            image = sitk.GetImageFromArray(np.ascontiguousarray(voxels), isVector=False)
            image.SetSpacing(reader.GetSpacing())
            image.SetOrigin(reader.GetOrigin())
            image.SetDirection(reader.GetDirection())
            return image
        image = reader.Execute()
        if path.suffix == ".nii":
            voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
            expected = int(float(image.GetMetaData("vox_offset"))) + voxels * int(image.GetMetaData("bitpix")) // 8
            if path.stat().st_size < expected:
                raise EOFError(f"{path.stat().st_size} bytes instead of {expected}")
        return image


def read_nifti(path: Path) -> tuple[nib.Nifti1Image, npt.NDArray[np.generic]]:
    """Read a NIfTI with nibabel.

    Returns:
        The image, for its header, and its voxels, (x, y, z) and scaled as the header says, NaN and infinity included.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not a NIfTI; with path and reason.
    """
    with _named(path):
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise OSError(f"a {type(image).__name__}")
        return image, np.asanyarray(image.dataobj)


def is_straight(path: Path) -> bool:
    """Whether SimpleITK reads the affine of a NIfTI: its axes are perpendicular.

    Raises:
        ValueError: if the file is missing, or SimpleITK refuses its header for another reason; with path and reason.
    """
    with _named(path, to_the_end=False):
        return _read_header(path) is not None


def write_image(image: sitk.Image, path: Path) -> None:
    """Write a scalar image, compressed; with nibabel where SimpleITK would make the direction matrix orthonormal."""
    dim = image.GetDimension()
    if is_orthonormal(np.reshape(image.GetDirection(), (dim, dim))) or not path.name.endswith(NIFTI_ENDINGS):
        sitk.WriteImage(image, str(path), True)
    else:
        nib.save(nib.Nifti1Image(sitk.GetArrayFromImage(image).T, Grid.of(image, path).affine), path)


def whole_numbers(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Values within a relative 1e-6 of a whole number become that number; all others, NaN included, stay.

    Args:
        values: of any shape; integers come back as they are.

    Example:
        >>> whole_numbers(np.array([0.99999994, 0.5, 200.00001])).tolist()
        [1.0, 0.5, 200.0]
    """
    if not np.issubdtype(values.dtype, np.floating):
        return values
    nearest = np.rint(values)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        close = np.abs(values - nearest) <= VALUE_TOLERANCE * np.maximum(1, np.abs(nearest))
    return np.where(close, nearest, values)


def _read_header(path: Path) -> sitk.ImageFileReader | None:
    """SimpleITK's reader with the header of a NIfTI; None where SimpleITK refuses the affine."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")  # or ITK opens the file once for each format it knows
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            return None
        raise
    return reader


@contextmanager
def _named(path: Path, to_the_end: bool = True) -> Iterator[None]:
    """Check a compressed file to its end, and turn whatever goes wrong into a ValueError that names the file."""
    try:
        if to_the_end and path.name.endswith(".gz"):
            with gzip.open(path) as file:
                while file.read(_CHUNK):
                    pass
        yield
    except Exception as error:  # readers raise what they like on a damaged header: HeaderDataError, MemoryError, ...
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} cannot be read. Expected: a whole image. Got: {reason}") from error
