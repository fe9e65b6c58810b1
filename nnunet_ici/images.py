"""Reading medical images, and noticing when a file is not whole."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import SimpleITK as sitk

__all__ = ["read_image"]

_CHUNK = 1 << 24


def read_image(path: Path) -> sitk.Image:
    """Read an image.

    SimpleITK reads a truncated NIfTI without a word and makes up the missing voxels. So a compressed file is first
    decompressed to its end and its checksum, and the size of one that is not compressed is held against its header.

    Raises:
        ValueError: if the file is missing, truncated, damaged, or not an image SimpleITK reads; with path and reason.
    """
    try:
        if path.name.endswith(".gz"):
            with gzip.open(path) as file:
                while file.read(_CHUNK):
                    pass
        image = sitk.ReadImage(str(path))
        if path.suffix == ".nii":
            voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
            expected = int(float(image.GetMetaData("vox_offset"))) + voxels * int(image.GetMetaData("bitpix")) // 8
            if path.stat().st_size < expected:
                raise EOFError(f"{path.stat().st_size} bytes in the place of {expected}")
        return image
    except (OSError, EOFError, zlib.error, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} cannot be read. Expected: a whole image. Got: {reason}") from error
