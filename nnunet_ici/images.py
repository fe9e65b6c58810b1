"""Reading and writing of medical images as in nnU-Net, with detection of truncated files."""

from __future__ import annotations

import errno
import gzip
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.geometry import (
    NIFTI_ENDINGS,
    PIXEL_ENDINGS,
    TIFF_ENDINGS,
    Grid,
    TwoTransformsError,
    is_orthonormal,
    one_transform,
    spacing_file,
)

__all__ = ["copy_nifti", "read_image", "read_nifti", "visible", "whole_numbers", "write_image"]

_CHUNK = 1 << 24
# Some masks of ATLAS R2.1 and R3.0 are stored with a scale factor, and their foreground reads as 0.99999998.
VALUE_TOLERANCE = 1e-6
GIPL_HEADER_BYTES = 256
NIFTI1_BYTES = 348
REAL_PIXELS = (sitk.sitkFloat32, sitk.sitkFloat64)


def visible(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that match a pattern, sorted.

    Hidden files and files in hidden folders are skipped, because macOS creates a file ``._NAME`` for every NAME on
    non-Apple file systems.
    """
    found = (path for path in folder.glob(pattern) if "/." not in f"/{path.relative_to(folder).as_posix()}")
    return sorted(found)


def read_image(path: Path) -> sitk.Image:
    """Read an image with the same values as nnU-Net.

    PNG, BMP and TIFF are read by scikit-image and tifffile, all other formats by SimpleITK, or by nibabel if SimpleITK
    rejects the affine of a NIfTI file.

    SimpleITK silently fills the missing voxels of a truncated NIfTI file. Therefore a compressed file is first
    decompressed to its end, which verifies the checksum, and the size of an uncompressed file is compared with its
    header. SimpleITK also replaces NaN and infinity in a NIfTI file by 0, so nibabel reads the voxels of floating-point
    NIfTI files.

    Returns:
        The image, whose direction matrix need not be orthonormal.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not an image, or a NIfTI header has two transforms
            that differ. The message gives path and reason.
    """
    with _named(path) as start:
        if path.name.endswith(PIXEL_ENDINGS):
            return _read_pixels(path)
        if not path.name.endswith(NIFTI_ENDINGS):
            image = sitk.ReadImage(str(path))
            if path.suffix == ".gipl":
                _check_size(path, GIPL_HEADER_BYTES, image)
            return image
        one_transform(_nifti_header(path, start), path)
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
            _check_size(path, int(float(image.GetMetaData("vox_offset"))), image)
        return image


def _read_pixels(path: Path) -> sitk.Image:
    """Read a PNG, BMP or TIFF as nnU-Net's readers NaturalImage2DIO and Tiff3DIO do."""
    import tifffile
    from skimage.io import imread

    handler = BufferingHandler(capacity=1000)
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("tifffile")  # which reads what it can of a damaged file
    logger.addHandler(handler)
    try:
        array = tifffile.imread(path) if path.name.endswith(TIFF_ENDINGS) else imread(path)
    finally:
        logger.removeHandler(handler)
    if handler.buffer:
        raise OSError(handler.buffer[0].getMessage())
    colors = array.ndim == 3 and array.shape[-1] in (3, 4) and not path.name.endswith(".tiff")
    array = array.astype(np.uint8) if array.dtype == np.bool_ else array
    return sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=colors)


def _check_size(path: Path, header_bytes: int, image: sitk.Image) -> None:
    """Raise EOFError for an uncompressed file that is too short, whose missing voxels ITK makes up."""
    voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
    expected = header_bytes + voxels * image.GetSizeOfPixelComponent()
    if path.stat().st_size < expected:
        raise EOFError(f"{path.stat().st_size} bytes instead of {expected}")


def read_nifti(path: Path, trust: str | None = None) -> tuple[nib.Nifti1Image, npt.NDArray[np.generic]]:
    """Read a NIfTI file with nibabel.

    Args:
        path: path of the file.
        trust: transform to keep if the header has two that differ, as in
            :func:`~nnunet_ici.geometry.one_transform`.

    Returns:
        The image, for its header; and its voxels (x, y, z), scaled according to the header, including NaN and infinity.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not NIfTI. The message gives path and reason.
    """
    with _named(path):
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise OSError(f"a {type(image).__name__}")
        header = one_transform(image.header, path, trust)
        if header is not image.header:
            image = nib.Nifti1Image(image.dataobj, header.get_best_affine(), header)
        return image, np.asanyarray(image.dataobj)


def copy_nifti(source: Path, target: Path, trust: str | None = None) -> None:
    """Copy a NIfTI file, compressed, with the same voxels and at most one transform; see :func:`read_nifti`."""
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        content = file.read()
    header = one_transform(nib.Nifti1Header.from_fileobj(io.BytesIO(content)), source, trust)
    with gzip.open(target, "wb") as compressed:
        compressed.write(header.binaryblock)
        compressed.write(content[len(header.binaryblock) :])


def write_image(image: sitk.Image, path: Path) -> None:
    """Write a scalar image, compressed.

    NIfTI files whose direction matrix SimpleITK would make orthonormal are written with nibabel, and a 3D TIFF as in
    nnU-Net, with the spacing in a JSON file.

    Raises:
        OSError: if the file could not be written completely.
    """
    dim = image.GetDimension()
    if dim == 3 and path.name.endswith(TIFF_ENDINGS):
        import tifffile

        tifffile.imwrite(path, sitk.GetArrayFromImage(image), compression="zlib", photometric="minisblack")
        spacing_file(path).write_text(json.dumps({"spacing": image.GetSpacing()[::-1]}))
    elif is_orthonormal(np.reshape(image.GetDirection(), (dim, dim))) or not path.name.endswith(NIFTI_ENDINGS):
        try:
            sitk.WriteImage(image, str(path), True)
            if sitk.Hash(read_image(path)) != sitk.Hash(image):  # on a full disk, ITK reports no error for some formats
                raise ValueError("other voxels than those written")
        except (RuntimeError, ValueError) as error:
            raise OSError(errno.EIO, "not written completely; the disk may be full", str(path)) from error
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


def _nifti_header(path: Path, start: bytes) -> nib.Nifti1Header:
    """The header of a NIfTI file from its first bytes, which is five times as fast as nibabel's search for a format."""
    single_nifti1 = start[NIFTI1_BYTES - 4 : NIFTI1_BYTES] == b"n+1\0"
    return nib.Nifti1Header(start[:NIFTI1_BYTES]) if single_nifti1 else nib.load(path).header


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
def _named(path: Path) -> Iterator[bytes]:
    """Decompress a file to its end if it is compressed, and convert any error into a ValueError with its path.

    Yields:
        The first bytes of the file, decompressed.
    """
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            start = file.read(NIFTI1_BYTES)
            while path.name.endswith(".gz") and file.read(_CHUNK):
                pass
        yield start
    except TwoTransformsError:
        raise
    except Exception as error:  # damaged headers cause arbitrary errors: HeaderDataError, MemoryError, ...
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} cannot be read. Expected: a complete image. Got: {reason}") from error
