"""Label maps and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.geometry import Grid
from nnunet_ici.images import read_image, whole_numbers

__all__ = ["LabelMap", "read_label_map"]

SHOWN_VALUES = 8


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map and its grid.

    Attributes:
        array: (H, W) or (D, H, W), any integer dtype; axes in SimpleITK's array order, slices first.
        grid: grid of the file.
    """

    array: npt.NDArray[np.generic]
    grid: Grid

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel spacing in mm, one value per array axis; 1 for formats without millimetres."""
        return self.grid.spacing_mm[::-1]


def read_label_map(path: Path, scheme: LabelScheme | None = None) -> LabelMap:
    """Read a label map.

    Args:
        path: path of the file.
        scheme: the classes; None accepts any whole numbers.

    Raises:
        ValueError: if the file cannot be read, has several channels, is neither 2D nor 3D, holds NaN or numbers that
            are not whole, or holds a value that belongs to no class.
    """
    image = read_image(path)
    channels, dim = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
    if channels != 1 or dim not in (2, 3):
        raise ValueError(
            f"{path} is not a label map. Expected: one channel in 2 or 3 dimensions. "
            f"Got: {channels} channels in {dim} dimensions"
        )
    array = _to_integers(sitk.GetArrayViewFromImage(image), path)
    unknown = [] if scheme is None else scheme.undeclared(array)
    if unknown:
        more = "" if len(unknown) <= SHOWN_VALUES else f" and {len(unknown) - SHOWN_VALUES} more"
        got = ", ".join(map(str, unknown[:SHOWN_VALUES])) + more
        raise ValueError(f"{path} holds values that belong to no class. Expected: {scheme}. Got: {got}")
    return LabelMap(array, Grid.of(image, path))


def _to_integers(array: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ValueError(f"{path} is not a label map. Expected: whole numbers. Got: {array.dtype}")
    if not np.issubdtype(array.dtype, np.floating):
        return array.copy()  # a view is only valid while its image exists
    with np.errstate(invalid="ignore"):  # NaN and values outside int32 do not survive the cast and are reported below
        values = whole_numbers(array)
        whole = values.astype(np.int32)
        wrong = np.not_equal(whole, values)
    if wrong.any():
        raise ValueError(
            f"{path} is not a label map. Expected: whole numbers. "
            f"Got: {array[wrong].flat[0]} and {np.count_nonzero(wrong) - 1} more of {array.size} values"
        )
    return whole
