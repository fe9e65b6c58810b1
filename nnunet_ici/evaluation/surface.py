"""The 95th percentile Hausdorff distance (HD95) with surface elements weighted by their area.

The definition is that of DeepMind's ``surface-distance``, which the BraTS challenges use. Its release on PyPI (0.1)
does not run with NumPy 2. MONAI, which has a port, is an optional dependency, needs torch, and stores areas in
float32, which breaks exact ties at the percentile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import bounding_box

__all__ = ["hausdorff95_mm"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def hausdorff95_mm(label: BoolArray, prediction: BoolArray, spacing_mm: Sequence[float]) -> float:
    """Robust Hausdorff distance: the larger of the two directed 95th percentiles of the surface distance.

    A surface element lies at every voxel corner whose adjacent voxels include both foreground and background. Its
    distance is that to the nearest element of the other surface. Its weight is its area (its length in 2D) according to
    marching cubes.

    Args:
        label: bool, (H, W) or (D, H, W).
        prediction: bool, the same shape.
        spacing_mm: voxel spacing, one value per array axis.

    Returns:
        The distance in mm, 0 or more; 0 for two empty masks, inf if exactly one of them is empty.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((1, 12), bool)
        >>> label, prediction = mask.copy(), mask.copy()
        >>> label[0, 2:4] = prediction[0, 5:7] = True
        >>> hausdorff95_mm(label, prediction, (1.0, 2.0))  # three voxels of 2 mm
        6.0
    """
    from scipy import ndimage  # imported here to keep the command's help fast

    if not label.any() or not prediction.any():
        return math.inf if label.any() or prediction.any() else 0.0
    box = bounding_box(label | prediction)
    areas = _element_areas(tuple(map(float, spacing_mm)))
    codes = [_corner_codes(mask[box]) for mask in (label, prediction)]
    surfaces = [(code > 0) & (code < len(areas) - 1) for code in codes]
    far = [ndimage.distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    return max(
        _percentile95(far[1][surfaces[0]], areas[codes[0][surfaces[0]]]),
        _percentile95(far[0][surfaces[1]], areas[codes[1][surfaces[1]]]),
    )


def _percentile95(distances: FloatArray, areas: FloatArray) -> float:
    """The smallest distance within which 95 % of the area lies."""
    order = np.lexsort((areas, distances))
    shares = np.cumsum(areas[order]) / np.sum(areas[order])
    return float(distances[order][min(int(np.searchsorted(shares, 0.95)), shares.size - 1)])


def _corner_codes(mask: BoolArray) -> npt.NDArray[np.uint8]:
    """Bits, uint8, of the foreground voxels around each voxel corner; each axis has one more corner than voxels."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for bit, corner in enumerate(itertools.product((0, 1), repeat=mask.ndim)):
        window = tuple(slice(at, at + length + 1) for at, length in zip(corner, mask.shape, strict=True))
        code |= np.left_shift(padded[window], bit, dtype=np.uint8)
    return code


@lru_cache(maxsize=8)
def _element_areas(spacing_mm: tuple[float, ...]) -> FloatArray:
    """The area in mm2 (length in mm in 2D) of the surface element for each code of :func:`_corner_codes`.

    The area comes from marching cubes (Lorensen & Cline, 1987) on the eight voxels around a corner. A block with more
    than four foreground voxels is replaced by its complement, so that both have the same area.
    """
    from skimage.measure import marching_cubes

    axes = len(spacing_mm)
    depth, height, width = (1.0,) * (3 - axes) + spacing_mm
    scale = np.array([height * width, depth * width, depth * height])
    areas = np.zeros(2 ** (2**axes))
    for code in range(1, areas.size - 1):
        block = (code >> np.arange(2**axes) & 1).reshape((2,) * axes).astype(bool)
        if axes == 2:
            block = np.stack([block, block])  # 1 mm thick: the area is the length
        if 2 * np.count_nonzero(block) > block.size:
            block = ~block
        corners, faces, _, _ = marching_cubes(block.astype(np.float32), 0.5, method="lorensen")
        first, second, third = np.moveaxis(corners[faces].astype(np.float64), 1, 0)
        areas[code] = np.linalg.norm(np.cross(second - first, third - first) / 2 * scale, axis=1).sum()
    return areas
