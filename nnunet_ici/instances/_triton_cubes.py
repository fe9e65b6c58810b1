"""Drawing cubes at the centers of mass of instances, and counting what each of them covers, in Triton.

Cubes have an order: over each voxel the one of the highest rank counts. Ranks are 1..I; ``order`` int64 (I,) names the
cube of each rank, ascending, the Z label instances first (0..Z - 1), then the M predicted ones.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_sums import COORDINATE, IMAGE, SIZE

__all__ = ["COUNT_BITS", "count_kernel", "draw_kernel", "unpack"]

COUNT_BITS = tl.constexpr(21)  # three numbers of voxels of one cube share an int64
COUNT_MASK = tl.constexpr(2**21 - 1)


@triton.jit
def _center(table_ptr, columns, at, axis: tl.constexpr):
    """floor(mean + 0.5) of a coordinate of an instance."""
    size = tl.load(table_ptr + SIZE * columns + at)
    return ((2 * tl.load(table_ptr + (COORDINATE + axis) * columns + at) + size) // (2 * size)).to(tl.int32)


@triton.jit(do_not_specialize=["labels", "preds"])
def draw_kernel(
    label_ptr, pred_ptr, order_ptr, rank_ptr, in_label_ptr, in_pred_ptr, labels, preds, depth, height, width,
    HALF_Z: tl.constexpr, HALF_Y: tl.constexpr, HALF_X: tl.constexpr, NDIM: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """One cube: its rank into rank int32 (N, S), where none higher is, and 1 into in_label or in_pred uint8 (N, S).

    All three zero beforehand. depth is 1 and HALF_Z 0 in 2D. Cubes are clipped at the border.
    """
    rank = tl.program_id(0)
    cube = tl.load(order_ptr + rank)
    if cube < labels:
        at = cube + 1
        columns = tl.full((), 1, tl.int64) * labels + 1
        table = label_ptr
        flags = in_label_ptr
    else:
        at = cube - labels + 1
        columns = tl.full((), 1, tl.int64) * preds + 1
        table = pred_ptr
        flags = in_pred_ptr
    image = tl.load(table + IMAGE * columns + at)
    z_0 = tl.full((), 0, tl.int32)
    if NDIM == 3:
        z_0 = _center(table, columns, at, 0)
    y_0 = _center(table, columns, at, NDIM - 2)
    x_0 = _center(table, columns, at, NDIM - 1)
    y_width: tl.constexpr = 2 * HALF_Y + 1
    x_width: tl.constexpr = 2 * HALF_X + 1
    first = image * voxels_in(depth, height, width)
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
    """int64: voxels of an image."""
    return tl.full((), 1, tl.int64) * depth * height * width


@triton.jit
def count_kernel(rank_ptr, in_label_ptr, in_pred_ptr, count_ptr, size, LANES: tl.constexpr):
    """count int64 (I + 1,), zero beforehand: for each rank, of the voxels where it is the highest, how many lie in
    cubes of predicted but not of label instances, in cubes of label instances, and in cubes of predicted instances,
    packed."""
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    rank = tl.load(rank_ptr + at, mask=at < size, other=0)
    if tl.max(rank) == 0:
        return
    drawn = rank > 0
    in_label = tl.load(in_label_ptr + at, mask=drawn, other=0).to(tl.int64)
    in_pred = tl.load(in_pred_ptr + at, mask=drawn, other=0).to(tl.int64)
    packed = (in_pred & (1 - in_label)) | (in_label << COUNT_BITS) | (in_pred << (2 * COUNT_BITS))
    tl.atomic_add(count_ptr + rank, packed, mask=drawn, sem="relaxed")


@triton.jit
def unpack(packed):
    """float64: the three numbers of :func:`count_kernel`."""
    elsewhere = packed & COUNT_MASK
    in_label = (packed >> COUNT_BITS) & COUNT_MASK
    in_pred = (packed >> (2 * COUNT_BITS)) & COUNT_MASK
    return elsewhere.to(tl.float64), in_label.to(tl.float64), in_pred.to(tl.float64)
