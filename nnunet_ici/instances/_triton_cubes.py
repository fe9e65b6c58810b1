"""Cubes at the centers of instances, and the voxels that belong to each of them, in Triton.

A map int32 (N, S) holds for each voxel the cube with the highest rank that contains it, and two flags: 0 outside all
cubes, otherwise 4 * (1 + number of the cube) + IN_LABEL + IN_PRED. Row r of the label table is cube r, row r of the
table of predicted instances cube N * K + r. Merging two entries takes the higher cube and both flags, in any order.

A few cubes are drawn voxel by voxel. Of many, only a line along x is drawn, then spread along y and z, at a cost that
does not depend on their number. The device decides, since only it knows the number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_ici.instances._triton_grid import TILE, Grid, blocks_of, voxels_of

__all__ = ["cover_by_kernels"]

IN_LABEL = tl.constexpr(1)
IN_PRED = tl.constexpr(2)
HIGHEST = tl.constexpr(2147483647)
ROWS = 128  # rows of a table per program


@triton.jit
def _rank(count_ptr, prob_ptr, rows, cube, active):
    """Rank of cubes, an integer: hit label instances, missed and false instances by their mean probability (the bits of
    a float that is not negative ascend with it), predicted instances that touch a label."""
    is_pred = cube >= rows
    row = tl.where(is_pred, cube + rows, cube)  # side 1 is rows 2 and 3 of the tables
    voxels = tl.load(count_ptr + row, mask=active, other=1)
    part = tl.load(count_ptr + rows + row, mask=active, other=0)
    mean = tl.div_rn(tl.load(prob_ptr + row, mask=active, other=0), voxels.to(tl.float32))
    live = 2 + tl.maximum(mean, 0).to(tl.int32, bitcast=True)
    return tl.where(is_pred, tl.where(part < voxels, HIGHEST, live), tl.where(part > 0, 1, live))


@triton.jit
def _merge(count_ptr, prob_ptr, rows, a, rank_of_a, b):
    """Two entries of a voxel merged, and the rank of the cube. Of equal ranks, the cube with the lower number."""
    other = (b > 0) & (a >> 2 != b >> 2)
    rank_of_b = _rank(count_ptr, prob_ptr, rows, (b >> 2) - 1, other)
    higher = other & ((a == 0) | (rank_of_b > rank_of_a) | ((rank_of_b == rank_of_a) & (b < a)))
    return (tl.where(higher, b, a) & ~3) | ((a | b) & 3), tl.where(higher, rank_of_b, rank_of_a)


@triton.jit
def _draw(
    map_ptr, count_ptr, prob_ptr, rows, cube, image, center, depth, height, width,
    HALF_Z: tl.constexpr, HALF_Y: tl.constexpr, HALF_X: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Draw one cube, clipped at the image border."""
    wide_y: tl.constexpr = 2 * HALF_Y + 1
    wide_x: tl.constexpr = 2 * HALF_X + 1
    volume: tl.constexpr = (2 * HALF_Z + 1) * wide_y * wide_x
    rank = _rank(count_ptr, prob_ptr, rows, cube, cube >= 0)
    entry = 4 * (1 + cube.to(tl.int32)) + tl.where(cube < rows, IN_LABEL, IN_PRED)
    for start in range(0, volume, LANES):
        # Lanes that are left over, and voxels outside the image, repeat others.
        lane = (start + tl.arange(0, LANES)) % volume
        z = center // width // height + lane // (wide_y * wide_x) - HALF_Z
        y = center // width % height + lane // wide_x % wide_y - HALF_Y
        x = center % width + lane % wide_x - HALF_X
        z = tl.minimum(tl.maximum(z, 0), depth - 1)
        y = tl.minimum(tl.maximum(y, 0), height - 1)
        x = tl.minimum(tl.maximum(x, 0), width - 1)
        at = image * voxels_of(depth, height, width) + (z * height + y) * width + x
        active = lane >= 0
        while tl.max(active.to(tl.int32)) > 0:
            found = tl.load(map_ptr + at, mask=active, other=0, volatile=True)
            merged, _ = _merge(count_ptr, prob_ptr, rows, entry, rank, found)
            active = active & (merged != found)
            # An idle lane compares with -1, which no voxel holds, and so changes nothing.
            before = tl.atomic_cas(map_ptr + at, tl.where(active, found, -1), merged, sem="relaxed")
            active = active & (before != found)


@triton.jit
def draw_kernel(
    map_ptr, center_ptr, cubes_ptr, count_ptr, prob_ptr, few, images, depth, height, width,
    HALF_Z: tl.constexpr, HALF_Y: tl.constexpr, HALF_X: tl.constexpr,
    ROWS: tl.constexpr, CUBE: tl.constexpr, LINE: tl.constexpr,
):  # fmt: skip
    """Draw the cubes of ROWS rows, or, if there are more than ``few`` cubes, only their central lines.

    Args:
        map: int32 (N, S), 0 before the launch.
        center: int32 (2, N * K), -1 in unused rows.
        cubes: number of cubes.
        count, prob: tables of the instances.
        CUBE, LINE: voxels drawn at once.
    """
    cube = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    blocks = blocks_of(depth, height, width)
    rows = images * blocks
    left = tl.load(center_ptr + cube, mask=cube < 2 * rows, other=-1) >= 0
    if tl.max(left.to(tl.int32)) == 0:
        return
    is_few = tl.load(cubes_ptr) <= few
    while tl.max(left.to(tl.int32)) > 0:
        one = tl.min(tl.where(left, cube, 9223372036854775807))
        left = left & (cube != one)
        image = one % rows // blocks
        center = tl.load(center_ptr + one)
        if is_few:
            _draw(
                map_ptr, count_ptr, prob_ptr, rows, one, image, center, depth, height, width,
                HALF_Z, HALF_Y, HALF_X, CUBE,
            )  # fmt: skip
        else:
            _draw(map_ptr, count_ptr, prob_ptr, rows, one, image, center, depth, height, width, 0, 0, HALF_X, LINE)


@triton.jit
def spread_kernel(
    map_ptr, out_ptr, cubes_ptr, count_ptr, prob_ptr, few, half, stride, length, images, depth, height, width,
    LANES: tl.constexpr,
):  # fmt: skip
    """out = map merged over ``half`` voxels before and after along an axis, if there are more than ``few`` cubes."""
    if tl.load(cubes_ptr) <= few:
        return
    size = voxels_of(depth, height, width)
    rows = images * blocks_of(depth, height, width)
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    exists = at < images * size
    place = at // stride % length
    entry = tl.load(map_ptr + at, mask=exists, other=0)
    rank = _rank(count_ptr, prob_ptr, rows, (entry >> 2) - 1, entry > 0)
    for step in range(-half, half + 1):
        inside = exists & (place + step >= 0) & (place + step < length)
        other = tl.load(map_ptr + at + tl.full((), 1, tl.int64) * step * stride, mask=inside, other=0)
        entry, rank = _merge(count_ptr, prob_ptr, rows, entry, rank, other)
    tl.store(out_ptr + at, entry, mask=exists)


@triton.jit
def cover_kernel(map_ptr, cover_ptr, size_ptr, tiles, images, depth, height, width, LANES: tl.constexpr):
    """Count the voxels of each cube.

    Args:
        map: int32 (N, S).
        cover: int32 (2, 2 * N * K), outside and inside the cubes of label instances, added to.
        size: int32 (N,), voxels in cubes of label instances plus voxels in cubes of predicted instances, added to.
    """
    program = tl.program_id(0)
    image = (program // tiles).to(tl.int64)
    voxel = (program % tiles) * LANES + tl.arange(0, LANES)
    size = voxels_of(depth, height, width)
    rows = images * blocks_of(depth, height, width)
    entry = tl.load(map_ptr + image * size + voxel, mask=voxel < size, other=0)
    if tl.max(entry) == 0:
        return
    tl.atomic_add(size_ptr + image, tl.sum((entry & 1) + ((entry >> 1) & 1)), sem="relaxed")
    left = entry > 0
    column = tl.where(left, (entry & IN_LABEL) * 2 * rows + (entry >> 2) - 1, 0)
    turn = 0
    while (tl.max(left.to(tl.int32)) > 0) & (turn < 4):
        first = tl.min(tl.where(left, column, 9223372036854775807))
        mine = left & (column == first)
        tl.atomic_add(cover_ptr + first, tl.sum(mine.to(tl.int32)), sem="relaxed")
        left = left & ~mine
        turn += 1
    tl.atomic_add(cover_ptr + column, left.to(tl.int32), mask=left, sem="relaxed")


def cover_by_kernels(
    grid: Grid, halves: Sequence[int], center: Tensor, cubes: Tensor, count: Tensor, prob: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw the cubes of all instances and count their voxels.

    Args:
        grid: grid of the images.
        halves: half width of the cubes along each spatial axis.
        center, cubes, count, prob: see :func:`~nnunet_ici.instances._triton_sums.finish_kernel`.

    Returns:
        int32 (2, 2, N * K): voxels outside and inside the cubes of label instances, of each label and predicted
        instance; and int32 (N,), the voxels in cubes of label instances plus those in cubes of predicted instances.
    """
    half_z, half_y, half_x = (min(half, n - 1) for half, n in zip((0, *halves)[-3:], grid.shape, strict=True))
    depth, height, width = grid.shape
    volume = (2 * half_z + 1) * (2 * half_y + 1) * (2 * half_x + 1)
    voxels = grid.images * grid.voxels
    few = min(2 * voxels // volume, 2**31 - 1)
    size = {"images": grid.images, "depth": depth, "height": height, "width": width}
    drawn = center.new_zeros(voxels)
    spread = torch.empty_like(drawn)
    draw_kernel[(triton.cdiv(2 * grid.rows, ROWS),)](
        drawn, center, cubes, count, prob, few, **size,
        HALF_Z=half_z, HALF_Y=half_y, HALF_X=half_x, ROWS=ROWS,
        CUBE=min(512, triton.next_power_of_2(volume)), LINE=min(64, triton.next_power_of_2(2 * half_x + 1)),
        num_warps=1,
    )  # fmt: skip
    for half, stride, length in ((half_y, width, height), (half_z, height * width, depth)):
        spread_kernel[(triton.cdiv(voxels, TILE),)](
            drawn, spread, cubes, count, prob, few, half, stride, length, **size, LANES=TILE
        )
        drawn, spread = spread, drawn
    del spread
    counted = center.new_zeros(4 * grid.rows + grid.images)
    cover, total = counted.split([4 * grid.rows, grid.images])
    tiles = triton.cdiv(grid.voxels, TILE)
    cover_kernel[(grid.images * tiles,)](drawn, cover, total, tiles, **size, LANES=TILE)
    return cover.reshape(2, 2, grid.rows), total
