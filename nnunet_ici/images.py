"""Reading and writing of medical images as in nnU-Net, with detection of truncated files."""

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
# Some masks of ATLAS R2.1 and R3.0 are stored with a scale factor, and their foreground reads as 0.99999998.
VALUE_TOLERANCE = 1e-6
REAL_PIXELS = (sitk.sitkFloat32, sitk.sitkFloat64)


def visible(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that match a pattern, sorted.

    Hidden files and files in hidden folders are skipped, because macOS creates a file ``._NAME`` for every NAME on
    non-Apple file systems.
    """
    found = (path for path in folder.glob(pattern) if "/." not in f"/{path.relative_to(folder).as_posix()}")
    return sorted(found)


def read_image(path: Path) -> sitk.Image:
    """Read an image with SimpleITK, or with nibabel if SimpleITK rejects the affine of a NIfTI file, as nnU-Net does.

    SimpleITK silently fills the missing voxels of a truncated NIfTI file. Therefore a compressed file is first
    decompressed to its end, which verifies the checksum, and the size of an uncompressed file is compared with its
    header. SimpleITK also replaces NaN and infinity in a NIfTI file by 0, so nibabel reads the voxels of floating-point
    NIfTI files.

    Returns:
        The image, whose direction matrix need not be orthonormal.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not an image. The message gives path and reason.
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
    """Read a NIfTI file with nibabel.

    Returns:
        The image, for its header; and its voxels (x, y, z), scaled according to the header, including NaN and infinity.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not NIfTI. The message gives path and reason.
    """
    with _named(path):
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise OSError(f"a {type(image).__name__}")
        return image, np.asanyarray(image.dataobj)


def is_straight(path: Path) -> bool:
    """Whether SimpleITK accepts the affine of a NIfTI file, that is, whether its axes are perpendicular.

    Raises:
        ValueError: if the file is missing, or SimpleITK rejects its header for another reason. The message gives path
            and reason.
    """
    with _named(path, to_the_end=False):
        return _read_header(path) is not None


def write_image(image: sitk.Image, path: Path) -> None:
    """Write a scalar image, compressed.

    NIfTI files whose direction matrix SimpleITK would make orthonormal are written with nibabel.
    """
    dim = image.GetDimension()
    if is_orthonormal(np.reshape(image.GetDirection(), (dim, dim))) or not path.name.endswith(NIFTI_ENDINGS):
        sitk.WriteImage(image, str(path), True)
    else:
        nib.save(nib.Nifti1Image(sitk.GetArrayFromImage(image).T, Grid.of(image, path).affine), path)


def whole_numbers(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Round values within a relative tolerance of 1e-6 of a whole number; others, including NaN, are kept.

    Args:
        values: any shape; integers are returned unchanged.

    Returns:
        Same shape as ``values``.

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
    """SimpleITK's reader with the header of a NIfTI file; None if SimpleITK rejects the affine."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")  # otherwise ITK opens the file once per known format
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
    """Decompress a file to its end if it is compressed, and convert any error into a ValueError with its path."""
    try:
        if to_the_end and path.name.endswith(".gz"):
            with gzip.open(path) as file:
                while file.read(_CHUNK):
                    pass
        yield
    except Exception as error:  # damaged headers cause arbitrary errors: HeaderDataError, MemoryError, ...
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} cannot be read. Expected: a complete image. Got: {reason}") from error
