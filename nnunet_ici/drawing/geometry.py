"""How an image lies in space, and which grey values are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

__all__ = ["Geometry", "grey_levels"]

Scalar = TypeVar("Scalar", bound=np.generic)


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
        """The array as it is drawn: a volume with axial slices, front up and the patient's right on the left.

        Args:
            array: (D, H, W), or (H, W), which stays as it is; a last axis holds colours.
        """
        image = sitk.GetImageFromArray(array, isVector=array.ndim > self.image.GetDimension())
        image.CopyInformation(self.image)
        turned: npt.NDArray[Scalar] = sitk.GetArrayFromImage(self._turn(image))
        return turned

    def _turn(self, image: sitk.Image) -> sitk.Image:
        return sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else image


def grey_levels(image: npt.NDArray[np.generic]) -> tuple[float, float]:
    """The grey values drawn as black and white: without the darkest and the brightest half percent of the content."""
    values = image[np.isfinite(image) & np.not_equal(image, image.min())]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5))
    return float(min(low, high - 1e-6)), float(high)
