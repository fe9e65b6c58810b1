"""Cubes at the centers of instances, drawn one by one, or all at once with a moving maximum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_ici.instances.segments import flat_nonzero

__all__ = ["IN_LABEL", "IN_PRED", "Cubes", "cover_counts", "draw_cubes", "half_widths", "rounded_mean", "spread"]

IN_LABEL, IN_PRED = 1, 2  # bits of a drawn map


def half_widths(
    size: int | Sequence[int], shape: Sequence[int], reference_shape: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Half widths of the center cubes: how far a cube extends from its center voxel along each axis.

    A single size applies to the longest axis. On axis i the half width is ``ceil((size - 1) / 2 * shape_i /
    max(shape))``, as in the code of Rachmadi et al. (``ceil(3 * ...)`` for their size 7), so that thin patches get thin
    boxes. A sequence gives the size along each axis.

    Args:
        size: edge length in voxels, odd.
        shape: shape of the image in voxels.
        reference_shape: shape of the full-resolution image to which ``size`` refers. If ``shape`` is a coarser scale,
            the cubes shrink with it, to the nearest odd size, but not below 3 voxels.

    Returns:
        One half width per axis; a cube is 2 * half + 1 voxels wide.

    Raises:
        ValueError: if ``reference_shape``, or a sequence of sizes, does not have one entry per axis of ``shape``.
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


def rounded_mean(sums: Tensor, sizes: Tensor) -> Tensor:
    """``floor(sum / size + 0.5)`` in integer arithmetic; int64 sums (I, axes), sizes (I,)."""
    return torch.div(2 * sums + sizes[:, None], 2 * sizes[:, None], rounding_mode="floor")


@dataclass(frozen=True)
class Cubes:
    """Cubes in a batch of images.

    Attributes:
        image: int64 (I,), index of the image that contains each cube.
        center: int64 (I, axes), center voxel of each cube.
    """

    image: Tensor
    center: Tensor

    def __getitem__(self, index: Tensor | slice) -> Cubes:
        """The cubes selected by an index tensor, a bool mask or a slice."""
        return Cubes(self.image[index], self.center[index])

    def __add__(self, other: Cubes) -> Cubes:
        return Cubes(torch.cat([self.image, other.image]), torch.cat([self.center, other.center]))

    def voxels(self, shape: Sequence[int], halves: Sequence[int]) -> Tensor:
        """Flat indices, in images (N, *shape), of the voxels of each cube.

        Args:
            shape: spatial shape of the images.
            halves: half width of the cubes along each axis.

        Returns:
            int64 (I, n), n = product of 2 * half + 1. Cubes are clipped at the image border; a clipped cube repeats
            indices of border voxels.
        """
        index = self.image.reshape(-1, *[1] * len(shape))
        for axis, (size, half) in enumerate(zip(shape, halves, strict=True)):
            along = self.center[:, axis, None] + torch.arange(-half, half + 1, device=index.device)
            view = [-1, *[1] * len(shape)]
            view[1 + axis] = along.shape[1]
            index = index * size + along.clamp(0, size - 1).reshape(view)
        return index.flatten(1)


def draw_cubes(
    images: Sequence[int], labels: Cubes, preds: Cubes, order: Tensor, halves: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Draw the cubes of label and predicted instances.

    Args:
        images: shape of the images, (N, *spatial).
        labels: cubes of the Z label instances.
        preds: cubes of the M predicted instances.
        order: int64 (Z + M,), cubes in ascending rank: 0..Z - 1 are label instances, Z..Z + M - 1 predicted instances.
        halves: half width of the cubes along each spatial axis.

    Returns:
        bits: uint8 (N, *spatial), the sum of :data:`IN_LABEL` for a voxel in the cube of a label instance and
            :data:`IN_PRED` for a voxel in the cube of a predicted instance.
        ranks: int16 or int32 (N, *spatial), the highest rank 1..Z + M among the cubes that contain a voxel; 0 outside
            all cubes.
    """
    cubes = labels + preds
    # On the CPU, int16 instead of int32 makes the moving maxima two to nine times faster.
    small = order.device.type == "cpu" and len(order) < 2**15 - 1
    dtype = torch.int16 if small else torch.int32
    rank_of_cube = torch.empty_like(order, dtype=dtype)
    rank_of_cube[order] = torch.arange(1, len(order) + 1, dtype=dtype, device=order.device)
    bits = torch.zeros(math.prod(images), dtype=torch.uint8, device=order.device)
    ranks = torch.zeros(math.prod(images), dtype=dtype, device=order.device)
    # A few cubes are drawn voxel by voxel. Of many, only the centers are drawn, then spread.
    few = len(order) * math.prod(2 * half + 1 for half in halves) < bits.numel() / 8
    at = cubes.voxels(images[1:], halves if few else [0] * len(halves))
    at_label, at_pred = (part.reshape(-1) for part in at.split([len(labels.image), len(preds.image)]))
    bits[at_label] = IN_LABEL
    bits[at_pred] = bits[at_pred] | IN_PRED
    ranks.scatter_reduce_(0, at.reshape(-1), rank_of_cube[:, None].expand_as(at).reshape(-1), reduce="amax")
    bits, ranks = bits.reshape(*images), ranks.reshape(*images)
    if few:
        return bits, ranks
    return spread(bits, halves, torch.bitwise_or), spread(ranks, halves, torch.maximum)


def cover_counts(
    images: Sequence[int], labels: Cubes, preds: Cubes, order: Tensor, halves: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Count the voxels in which each cube ranks highest; same arguments as :func:`draw_cubes`.

    Returns:
        Three int64 (Z + M,) in the order of the ranks: the number of these voxels outside all cubes of label instances,
        inside such a cube, and inside a cube of a predicted instance.
    """
    bits, ranks = (drawn.reshape(-1) for drawn in draw_cubes(images, labels, preds, order, halves))
    drawn = flat_nonzero(bits)
    key = ranks.index_select(0, drawn).to(torch.int32) * 4 + bits.index_select(0, drawn)
    voxels = torch.bincount(key, minlength=4 * (len(order) + 1)).reshape(-1, 4)[1:]
    in_both = voxels[:, IN_LABEL | IN_PRED]
    return voxels[:, IN_PRED], voxels[:, IN_LABEL] + in_both, voxels[:, IN_PRED] + in_both


def spread(centers: Tensor, halves: Sequence[int], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Spread the value of each center over a cube around it, clipped at the image border.

    The window doubles with every pass, so each axis takes about log2(width) passes.

    Args:
        centers: (N, *spatial), any dtype, 0 where there is no center.
        halves: half width of the cubes along each spatial axis.
        combine: idempotent element-wise operation with neutral element 0, such as ``torch.maximum``, for voxels in
            several cubes.

    Returns:
        The map, same shape and dtype as ``centers``.
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
