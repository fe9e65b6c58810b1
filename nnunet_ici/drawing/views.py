"""The part of an image or slice that is drawn, and the length of its scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["View", "around", "scale_bar", "whole_image"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class View:
    """A window on an image or on a slice of a volume.

    Attributes:
        index: index of the slice; None for a 2D image.
        rows: outer edges of the first and the last row, such as (-0.5, 9.5) for ten rows; may exceed the image.
        columns: outer edges of the first and the last column.
        name: name of the instance at its center, or "".
    """

    index: int | None
    rows: tuple[float, float]
    columns: tuple[float, float]
    name: str = ""

    def cut(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The part of an array, (H, W) or (D, H, W), inside the window. A further last axis is kept."""
        rows, columns = (
            slice(max(int(np.ceil(low)), 0), max(int(np.floor(high)) + 1, 0)) for low, high in (self.rows, self.columns)
        )
        return array[rows, columns] if self.index is None else array[self.index, rows, columns]

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the first pixel that :meth:`cut` keeps."""
        return max(int(np.ceil(self.rows[0])), 0), max(int(np.ceil(self.columns[0])), 0)


def whole_image(shape: tuple[int, ...]) -> View:
    """A view of a whole 2D image, or of the middle slice of a volume."""
    *depth, height, width = shape
    return View(depth[0] // 2 if depth else None, (-0.5, height - 0.5), (-0.5, width - 0.5))


def around(mask: npt.NDArray[np.bool_], index: int | None, margin: int, smallest: int) -> View:
    """A window around the mask in a slice; the whole slice if the mask is empty.

    Args:
        mask: mask of the slice, (H, W).
        index: index of the slice; None for a 2D image.
        margin: margin on each side in pixels, clipped at the image border.
        smallest: minimum height and width in pixels, clipped at the image border.
    """
    sides = []
    for axis, size in enumerate(mask.shape):
        hits = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = (int(hits[0]), int(hits[-1])) if hits.size else (0, size - 1)
        beyond = max(margin, (smallest - (last + 1 - first) + 1) // 2)
        sides.append((max(first - beyond, 0) - 0.5, min(last + beyond, size - 1) + 0.5))
    return View(index, sides[0], sides[1])


def scale_bar(width: float) -> float:
    """Length of a scale bar: 1, 2 or 5 times a power of ten, at most a third of the width shown.

    Example:
        >>> scale_bar(181.0), scale_bar(30.0), scale_bar(0.7)
        (50.0, 10.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(width / 3))
    return max(step * power for step in (1, 2, 5) if step * power <= width / 3)
