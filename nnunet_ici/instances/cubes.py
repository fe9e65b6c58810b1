"""Cubes around centers, and two ways to draw them: voxel by voxel, or all at once by a moving maximum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Cubes", "check_size", "half_widths", "spread"]


def check_size(size: int | Sequence[int]) -> None:
    """Raise ValueError unless ``size`` is an odd positive integer, or a sequence of them."""
    sizes = list(size) if isinstance(size, Sequence) else [size]
    if not sizes or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 or s % 2 == 0 for s in sizes):
        raise ValueError(f"size must be an odd positive integer, or one for each axis. Got: {size!r}")


def half_widths(
    size: int | Sequence[int], shape: Sequence[int], reference_shape: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Voxels a cube reaches from its center along each axis.

    A number is the size along the longest axis: on axis i the half width is ``ceil((size - 1) / 2 * shape_i /
    max(shape))``, as in the authors' code (there for 7: ``ceil(3 * ...)``), so that thin patches get thin boxes. A
    sequence sets each axis by hand.

    Args:
        size: odd, in voxels.
        shape: the image, in voxels.
        reference_shape: the full-resolution image that ``size`` is meant for. Where ``shape`` is a smaller scale of it,
            the cubes shrink along, to the nearest odd size, never under 3 voxels.

    Returns:
        One half width an axis; the cube is 2 * half + 1 voxels wide.

    Raises:
        ValueError: if the number of sizes or of reference axes is not that of ``shape``.
    """
    shape = tuple(shape)
    reference = shape if reference_shape is None else tuple(reference_shape)
    if len(reference) != len(shape):
        raise ValueError(f"reference_shape must have {len(shape)} axes. Got: {reference}")
    if isinstance(size, int):
        longest = max(*reference, 1)
        full = tuple(-(-(size - 1) * n // (2 * longest)) for n in reference)
    else:
        if len(size) != len(shape):
            raise ValueError(f"size must be a number or one for each of the {len(shape)} axes. Got: {tuple(size)}")
        full = tuple((s - 1) // 2 for s in size)
    if reference == shape:
        return full
    scaled = ((2 * half + 1) * n / max(r, 1) for half, n, r in zip(full, shape, reference, strict=True))
    return tuple(max(1, math.floor(width / 2)) for width in scaled)


@dataclass(frozen=True)
class Cubes:
    """Cubes in a batch of images.

    Attributes:
        image: int64 (I,), the image each lies in.
        center: int64 (I, axes), its center voxel.
    """

    image: Tensor
    center: Tensor

    def __getitem__(self, index: Tensor) -> Cubes:
        """The cubes at the indices, or where a mask is True."""
        return Cubes(self.image[index], self.center[index])

    def __add__(self, other: Cubes) -> Cubes:
        return Cubes(torch.cat([self.image, other.image]), torch.cat([self.center, other.center]))

    def voxels(self, shape: Sequence[int], halves: Sequence[int]) -> Tensor:
        """int64 (I, n): flat indices, in images (N, *shape), of the voxels of each cube, clipped at the border.

        Every cube has the same number of entries: a clipped one names voxels of its border more than once.
        """
        index = self.image.reshape(-1, *[1] * len(shape))
        for axis, (size, half) in enumerate(zip(shape, halves, strict=True)):
            along = self.center[:, axis, None] + torch.arange(-half, half + 1, device=index.device)
            view = [-1, *[1] * len(shape)]
            view[1 + axis] = along.shape[1]
            index = index * size + along.clamp(0, size - 1).reshape(view)
        return index.flatten(1)


def spread(centers: Tensor, halves: Sequence[int], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Give every voxel the combination of all values within ``halves`` of it: a cube around each center, clipped at the
    border.

    Each axis takes about log2(width) passes, as windows of doubled width are combined.

    Args:
        centers: (N, *spatial), any dtype, 0 where there is no center.
        halves: the half width along each spatial axis.
        combine: an idempotent element-wise operation with 0 as neutral element, such as ``torch.maximum``.

    Returns:
        The map, shape and dtype of ``centers``.
    """
    for axis, half in enumerate(halves, start=1):
        half = min(half, centers.shape[axis])
        if half == 0:
            continue
        padding = [0, 0] * (centers.ndim - 1 - axis) + [half, half]
        window, width = F.pad(centers, padding), 1
        while width < 2 * half + 1:
            step = min(width, 2 * half + 1 - width)
            length = window.shape[axis] - step
            window = combine(window.narrow(axis, 0, length), window.narrow(axis, step, length))
            width += step
        centers = window
    return centers
