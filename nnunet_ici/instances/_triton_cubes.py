"""Cubes at the centers of instances, and the number of voxels in which each of them ranks highest, in Triton.

Ranks are 1..I. ``order`` int64 (I,) holds the cube of each rank in ascending order; cubes 0..Z - 1 are the label
instances, cubes Z..Z + M - 1 the predicted instances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_ici.instances.cubes import Cubes, spread

__all__ = ["LARGEST_CUBE", "cover_counts"]

COUNT_BITS = tl.constexpr(21)  # the three voxel counts of a cube are packed into one int64
LARGEST_CUBE = 2**21 - 1  # voxels
LANES = 1024


@triton.jit(do_not_specialize=["labels"])
def draw_kernel(
    image_ptr, center_ptr, order_ptr, rank_ptr, in_label_ptr, in_pred_ptr, labels, depth, height, width,
    HALF_Z: tl.constexpr, HALF_Y: tl.constexpr, HALF_X: tl.constexpr, NDIM: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Draw one cube per program, clipped at the image border.

    rank int32 (N, S) becomes the maximum of the ranks; in_label or in_pred, uint8 (N, S), becomes 1. All three must be
    zero before the launch. In 2D depth is 1 and HALF_Z is 0.
    """
    rank = tl.program_id(0)
    cube = tl.load(order_ptr + rank)
    flags = in_label_ptr
    if cube >= labels:
        flags = in_pred_ptr
    z_0 = tl.full((), 0, tl.int32)
    if NDIM == 3:
        z_0 = tl.load(center_ptr + cube * NDIM).to(tl.int32)
    y_0 = tl.load(center_ptr + cube * NDIM + NDIM - 2).to(tl.int32)
    x_0 = tl.load(center_ptr + cube * NDIM + NDIM - 1).to(tl.int32)
    y_width: tl.constexpr = 2 * HALF_Y + 1
    x_width: tl.constexpr = 2 * HALF_X + 1
    first = tl.load(image_ptr + cube) * voxels_in(depth, height, width)
    for start in range(0, (2 * HALF_Z + 1) * y_width * x_width, LANES):
        lane = start + tl.arange(0, LANES)
        z = z_0 + lane // (y_width * x_width) - HALF_Z
        y = y_0 + lane // x_width % y_width - HALF_Y
        x = x_0 + lane % x_width - HALF_X
        inside = (lane < (2 * HALF_Z + 1) * y_width * x_width) & (z >= 0) & (z < depth)
        inside = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        voxel = first + (z * height + y) * width + x
        ranks = tl.full((LANES,), 1, tl.int32) + rank
        tl.atomic_max(rank_ptr + voxel, ranks, mask=inside, sem="relaxed")
        tl.store(flags + voxel, tl.full((LANES,), 1, tl.uint8), mask=inside)


@triton.jit
def voxels_in(depth, height, width):
    """Number of voxels of an image, int64."""
    return tl.full((), 1, tl.int64) * depth * height * width


@triton.jit
def count_kernel(rank_ptr, in_label_ptr, in_pred_ptr, count_ptr, size, LANES: tl.constexpr):
    """Count the voxels in which each rank is the highest, into count int64 (I + 1,), which must be zero.

    Three counts are packed into each element: the voxels in cubes of predicted but not of label instances, in cubes of
    label instances, and in cubes of predicted instances.
    """
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    rank = tl.load(rank_ptr + at, mask=at < size, other=0)
    if tl.max(rank) == 0:
        return
    drawn = rank > 0
    in_label = tl.load(in_label_ptr + at, mask=drawn, other=0).to(tl.int64)
    in_pred = tl.load(in_pred_ptr + at, mask=drawn, other=0).to(tl.int64)
    packed = (in_pred & (1 - in_label)) | (in_label << COUNT_BITS) | (in_pred << (2 * COUNT_BITS))
    tl.atomic_add(count_ptr + rank, packed, mask=drawn, sem="relaxed")


def cover_counts(
    images: Sequence[int], labels: Cubes, preds: Cubes, order: Tensor, halves: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the kernels; same arguments and results as :func:`nnunet_ici.instances.cubes.cover_counts`.

    Cubes may have up to :data:`LARGEST_CUBE` voxels.
    """
    cubes = labels + preds
    size = math.prod(images)
    buffer = torch.zeros(6 * size, dtype=torch.uint8, device=order.device)
    rank, in_label, in_pred = buffer[: 4 * size].view(torch.int32), buffer[4 * size : 5 * size], buffer[5 * size :]
    covered = torch.zeros(len(order) + 1, dtype=torch.int64, device=order.device)
    if len(order):
        # Of very many cubes only the centers are drawn, then spread, at a cost that does not depend on their number.
        many = len(order) * math.prod(2 * half + 1 for half in halves) > 4 * size
        z, y, x = (0, *([0] * len(halves) if many else halves))[-3:]
        draw_kernel[(len(order),)](
            cubes.image,
            cubes.center.contiguous(),
            order,
            rank,
            in_label,
            in_pred,
            len(labels.image),
            images[1] if len(halves) == 3 else 1,
            images[-2],
            images[-1],
            HALF_Z=z,
            HALF_Y=y,
            HALF_X=x,
            NDIM=len(halves),
            LANES=min(512, triton.next_power_of_2((2 * z + 1) * (2 * y + 1) * (2 * x + 1))),
        )
        if many:
            rank = spread(rank.reshape(*images), halves, torch.maximum)
            in_label = spread(in_label.reshape(*images), halves, torch.bitwise_or)
            in_pred = spread(in_pred.reshape(*images), halves, torch.bitwise_or)
        count_kernel[(triton.cdiv(size, LANES),)](rank, in_label, in_pred, covered, size, LANES=LANES)
    mask = 2**COUNT_BITS.value - 1
    elsewhere, of_label, of_pred = (covered[1:] >> (shift * COUNT_BITS.value) & mask for shift in range(3))
    return elsewhere, of_label, of_pred
