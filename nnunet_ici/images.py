"""Reading medical images, and noticing when a file is not whole."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError

__all__ = ["read_image", "read_nifti"]

_CHUNK = 1 << 24


def read_image(path: Path) -> sitk.Image:
    """Read an image.

    SimpleITK reads a truncated NIfTI without a word and makes up the missing voxels. So a compressed file is first
    decompressed to its end and its checksum, and the size of one that is not compressed is held against its header.
    It also turns NaN and infinity in a NIfTI into 0: see :func:`read_nifti`.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not an image SimpleITK reads; with path and reason.
    """
    with _named(path):
        image = sitk.ReadImage(str(path))
        if path.suffix == ".nii":
            voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
            expected = int(float(image.GetMetaData("vox_offset"))) + voxels * int(image.GetMetaData("bitpix")) // 8
            if path.stat().st_size < expected:
                raise EOFError(f"{path.stat().st_size} bytes in the place of {expected}")
        return image


def read_nifti(path: Path) -> tuple[nib.Nifti1Image, npt.NDArray[np.generic]]:
    """Read a NIfTI with nibabel.

    Returns:
        The image, for its header, and its voxels, (x, y, z) and scaled as the header says, NaN and infinity included.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or no NIfTI; with path and reason.
    """
    with _named(path):
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise OSError(f"a {type(image).__name__}")
        return image, np.asanyarray(image.dataobj)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Check a compressed file to its end, and turn whatever goes wrong into a ValueError that names the file."""
    try:
        if path.name.endswith(".gz"):
            with gzip.open(path) as file:
                while file.read(_CHUNK):
                    pass
        yield
    except (OSError, EOFError, zlib.error, RuntimeError, ImageFileError) as error:
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} cannot be read. Expected: a whole image. Got: {reason}") from error
