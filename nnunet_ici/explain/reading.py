"""The files to explain: a label map, a prediction as label map or probabilities, and the image behind them."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.evaluation.folders import LabelScheme, read_label_map
from nnunet_ici.images import read_image

__all__ = ["Geometry", "read_background", "read_geometry", "read_mask", "read_probabilities"]

Scalar = TypeVar("Scalar", bound=np.generic)
TOLERANCE = 0.01  # of probabilities, which nnU-Net may store in half precision


@dataclass(frozen=True, eq=False)
class Geometry:
    """How an image lies in space.

    Attributes:
        image: any image with the geometry.
    """

    image: sitk.Image

    @property
    def pixel_aspect(self) -> float:
        """Height of a pixel of a turned image over its width."""
        width_mm, height_mm = self._turn(self.image).GetSpacing()[:2]
        return float(height_mm / width_mm)

    def turned(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """A volume (D, H, W) with axial slices, front up and the patient's right left; a 2D image as it is."""
        image = sitk.GetImageFromArray(array)
        image.CopyInformation(self.image)
        turned: npt.NDArray[Scalar] = sitk.GetArrayFromImage(self._turn(image))
        return turned

    def _turn(self, image: sitk.Image) -> sitk.Image:
        return sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else image


def read_geometry(path: Path) -> Geometry:
    """Read the geometry of an image.

    Raises:
        ValueError: if it cannot be read.
    """
    return Geometry(read_image(path))


def read_mask(path: Path, value: int | None) -> npt.NDArray[np.bool_]:
    """Read one class of a label map.

    Args:
        path: of the label map.
        value: of the class; None for all values above 0.

    Returns:
        bool, (H, W) or (D, H, W).

    Raises:
        ValueError: if it is not a label map.
    """
    label_map = read_label_map(path)
    return LabelScheme({"class": () if value is None else (value,)}).masks("class", label_map, label_map)[0]


def read_probabilities(path: Path, value: int | None, dimensions: int) -> npt.NDArray[np.float32]:
    """Read the probability of one class from an ``.npz`` of nnU-Net, array ``probabilities`` (C, D, H, W).

    Args:
        path: of the file.
        value: the channel; None for the sum of all but the first, which is the background.
        dimensions: 2 or 3. nnU-Net stores 2D images as (C, 1, H, W).

    Returns:
        float32 in [0, 1], (H, W) or (D, H, W).

    Raises:
        ValueError: if the file cannot be read, or does not hold softmax probabilities that include the class.
    """
    probabilities = _load(path)
    if not np.issubdtype(probabilities.dtype, np.floating) or probabilities.ndim != 4 or len(probabilities) < 2:
        raise ValueError(
            f"{path} holds no probabilities. Expected: floating-point numbers, (C, D, H, W), the background first. "
            f"Got: {probabilities.dtype}, {probabilities.shape}"
        )
    if dimensions == 2 and probabilities.shape[1] == 1:
        probabilities = probabilities[:, 0]
    if value is not None and value >= len(probabilities):
        raise ValueError(
            f"{path} has no channel for the class. Expected: --class 1 to {len(probabilities) - 1}. Got: {value}"
        )
    low, high, total = probabilities.min(), probabilities.max(), probabilities.sum(axis=0, dtype=np.float32)
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE and np.abs(total - 1).max() <= TOLERANCE):
        raise ValueError(
            f"{path} holds no softmax probabilities (regions have none). Expected: channels in 0 to 1 that add up to "
            f"1. Got: {low:.3g} to {high:.3g}, sums from {total.min():.3g} to {total.max():.3g}"
        )
    foreground = probabilities[1:].sum(axis=0, dtype=np.float32) if value is None else probabilities[value]
    return foreground.astype(np.float32).clip(0, 1)


def _load(path: Path) -> npt.NDArray[np.generic]:
    """The array ``probabilities`` of an ``.npz``."""
    try:
        with np.load(path) as content:
            names = list(content)
            if "probabilities" in names:
                probabilities: npt.NDArray[np.generic] = content["probabilities"]
                return probabilities
    except (OSError, EOFError, TypeError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read. Expected: an .npz of nnU-Net. Got: {error}") from error
    raise ValueError(
        f"{path} holds no probabilities. Expected: an array 'probabilities'. Got: {', '.join(names) or 'no array'}"
    )


def read_background(path: Path, geometry: Geometry | None, label_path: Path) -> npt.NDArray[np.float32]:
    """Read the image behind a label.

    Args:
        path: of the image.
        geometry: of the label; None where that is not known, and so no size is expected.
        label_path: what an error message calls the label.

    Returns:
        float32, the shape of the label; colours are averaged.

    Raises:
        ValueError: if it cannot be read, or has another size than the label.
    """
    image = read_image(path)
    if geometry is not None and image.GetSize() != geometry.image.GetSize():
        raise ValueError(
            f"{path} has another size than the label. Expected: {geometry.image.GetSize()}, as {label_path}. "
            f"Got: {image.GetSize()}"
        )
    array: npt.NDArray[np.float32] = sitk.GetArrayFromImage(image).astype(np.float32)
    return array if image.GetNumberOfComponentsPerPixel() == 1 else array.mean(axis=-1)
