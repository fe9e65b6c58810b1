"""Cubes at the centers of instances, drawn voxel by voxel, or all at once by a moving maximum."""

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


def rounded_mean(sums: Tensor, sizes: Tensor) -> Tensor:
    """``floor(sum / size + 0.5)`` in integers; sums (I, axes), sizes (I,)."""
    return torch.div(2 * sums + sizes[:, None], 2 * sizes[:, None], rounding_mode="floor")


@dataclass(frozen=True)
class Cubes:
    """Cubes in a batch of images.

    Attributes:
        image: int64 (I,), the image each lies in.
        center: int64 (I, axes), its center voxel.
    """

    image: Tensor
    center: Tensor

    def __getitem__(self, index: Tensor | slice) -> Cubes:
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


def draw_cubes(
    images: Sequence[int], labels: Cubes, preds: Cubes, order: Tensor, halves: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Draw the cubes of label and predicted instances.

    Args:
        images: (N, *spatial).
        labels: centers of the Z label instances.
        preds: centers of the M predicted instances.
        order: int64 (Z + M,), the cubes in ascending order: 0..Z - 1 are those of label instances, the others those of
            predicted ones.
        halves: half width of the cubes along each spatial axis.

    Returns:
        uint8 (N, *spatial): :data:`IN_LABEL` in a cube of a label instance, plus :data:`IN_PRED` in one of a predicted
        instance; and int16 or int32 (N, *spatial): the rank 1..Z + M of the highest cube over a voxel, 0 without one.
    """
    cubes = labels + preds
    # Half the bytes make the moving maxima two to nine times faster on a CPU.
    small = order.device.type == "cpu" and len(order) < 2**15 - 1
    dtype = torch.int16 if small else torch.int32
    rank_of_cube = torch.empty_like(order, dtype=dtype)
    rank_of_cube[order] = torch.arange(1, len(order) + 1, dtype=dtype, device=order.device)
    bits = torch.zeros(math.prod(images), dtype=torch.uint8, device=order.device)
    ranks = torch.zeros(math.prod(images), dtype=dtype, device=order.device)
    # A few cubes are drawn voxel by voxel; many as their centers, which are spread afterwards.
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
    """Count the voxels over which each cube is the highest; arguments as for :func:`draw_cubes`.

    Returns:
        Three int64 (Z + M,), in the order of the cubes: how many of these voxels lie in no cube of a label instance, in
        one of a label instance, and in one of a predicted instance.
    """
    bits, ranks = (drawn.reshape(-1) for drawn in draw_cubes(images, labels, preds, order, halves))
    drawn = flat_nonzero(bits)
    key = ranks.index_select(0, drawn).to(torch.int32) * 4 + bits.index_select(0, drawn)
    voxels = torch.bincount(key, minlength=4 * (len(order) + 1)).reshape(-1, 4)[1:]
    in_both = voxels[:, IN_LABEL | IN_PRED]
    return voxels[:, IN_PRED], voxels[:, IN_LABEL] + in_both, voxels[:, IN_PRED] + in_both


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
