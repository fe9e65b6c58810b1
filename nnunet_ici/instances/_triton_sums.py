"""Sums over instances and their parts in Triton, and the pairs that touch.

The row of an instance is the root of its component in the N * K blocks of the batch. Tables have two or more rows of
columns (R, N * K), R = 2 * side + part: label instances, their parts in predicted instances, predicted instances, their
parts outside the label. Sums are accumulated as integers: integer addition is associative, so atomics give
deterministic sums, and small values are not lost in large components.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_grid import blocks_of, corners_of, position_of, tile_of, voxels_of
from nnunet_ici.instances._triton_label import find_roots
from nnunet_ici.instances._triton_outputs import normalizer, probability

__all__ = ["finish_kernel", "measure_kernel"]


@triton.jit
def _ones(bits):
    """Number of bits set in a byte."""
    pairs = bits - ((bits >> 1) & 0x55)
    halves = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return (halves + (halves >> 4)) & 0x0F


@triton.jit
def _add(
    count_ptr, sum_ptr, coordinate_ptr, rows, row, mask, voxels, part_voxels, whole, part, z, y, x,
    COUNT: tl.constexpr, AXES: tl.constexpr,
):  # fmt: skip
    """Add to one row of the tables of a side, or to a tile of rows."""
    tl.atomic_add(sum_ptr + row, whole, mask=mask, sem="relaxed")
    tl.atomic_add(sum_ptr + rows + row, part, mask=mask, sem="relaxed")
    if COUNT:
        tl.atomic_add(count_ptr + row, voxels, mask=mask, sem="relaxed")
        tl.atomic_add(count_ptr + rows + row, part_voxels, mask=mask, sem="relaxed")
    if AXES > 0:
        kind = coordinate_ptr.dtype.element_ty
        tl.atomic_add(coordinate_ptr + row, x.to(kind), mask=mask, sem="relaxed")
        tl.atomic_add(coordinate_ptr + rows + row, y.to(kind), mask=mask, sem="relaxed")
        if AXES == 3:
            tl.atomic_add(coordinate_ptr + 2 * rows + row, z.to(kind), mask=mask, sem="relaxed")


@triton.jit
def _add_tile(
    count_ptr, sum_ptr, coordinate_ptr, rows, first_row, root, left, voxels, part_voxels, whole, part, z, y, x,
    COUNT: tl.constexpr, AXES: tl.constexpr,
):  # fmt: skip
    """Add the blocks of a tile where ``left`` is True.

    For the first four instances in the tile, values are reduced before a single atomic addition; further instances are
    added block by block. Without the reduction, millions of blocks of one component would contend for one address.
    """
    turn = 0
    while (tl.max(left.to(tl.int32)) > 0) & (turn < 4):
        first = tl.min(tl.where(left, root, 2147483647))
        mine = left & (root == first)
        _add(
            count_ptr, sum_ptr, coordinate_ptr, rows, first_row + first, first >= 0, tl.sum(tl.where(mine, voxels, 0)),
            tl.sum(tl.where(mine, part_voxels, 0)), tl.sum(tl.where(mine, whole, 0)), tl.sum(tl.where(mine, part, 0)),
            tl.sum(tl.where(mine, z, 0)), tl.sum(tl.where(mine, y, 0)), tl.sum(tl.where(mine, x, 0)), COUNT, AXES,
        )  # fmt: skip
        left = left & (root != first)
        turn += 1
    if tl.max(left.to(tl.int32)) > 0:
        _add(
            count_ptr, sum_ptr, coordinate_ptr, rows, first_row + root, left, voxels, part_voxels, whole, part, z, y, x,
            COUNT, AXES,
        )  # fmt: skip


@triton.jit
def _insert(slot_ptr, capacity, key, lane, active):
    """Insert keys > 0 into a hash table with open addressing, int64 (capacity,), a power of 2 that is large enough.

    A slot is read before it is written, because most blocks of a tile repeat a pair that is already there.
    """
    lowest = tl.min(tl.where(active, key, 9223372036854775807))
    leader = tl.min(tl.where(active & (key == lowest), lane, 2147483647))
    active = active & ((key != lowest) | (lane == leader))
    slot = ((key * -7046029254386353131) >> 20) & (capacity - 1)
    while tl.max(active.to(tl.int32)) > 0:
        found = tl.load(slot_ptr + slot, mask=active, other=0, volatile=True)
        # An idle lane compares with -1, which no slot holds, and so changes nothing.
        empty = active & (found == 0)
        before = tl.atomic_cas(slot_ptr + slot, tl.where(empty, 0, -1).to(tl.int64), key, sem="relaxed")
        found = tl.where(empty, before, found)
        active = active & (found != 0) & (found != key)
        slot = tl.where(active, (slot + 1) & (capacity - 1), slot)


@triton.jit(do_not_specialize=["capacity"])
def measure_kernel(
    x_ptr, bits_ptr, parent_ptr, count_ptr, sum_ptr, coordinate_ptr, slot_ptr, capacity, images,
    tiles, depth, height, width,
    LANES: tl.constexpr, CORNERS: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr, UNIT: tl.constexpr,
    COUNT: tl.constexpr, AXES: tl.constexpr,
):  # fmt: skip
    """Sum p, or another voxel map, in multiples of 1 / UNIT. One program per tile and image.

    Args:
        parent: (2, N, K); replaced by the roots.
        count: int32 (4, N * K), numbers of voxels, added to if COUNT.
        sum: int64 (4, N * K), added to.
        coordinate: int32 or int64 (2, AXES, N * K), sums of x, y and z over the instances of each side, added to.
            AXES is 0 if there are none.
        slot: int64 (capacity,), hash table of the touching pairs, if COUNT: 1 + row of the label instance * K + root of
            the predicted instance.
    """
    image, block = tile_of(tiles, LANES)
    size = voxels_of(depth, height, width)
    blocks = blocks_of(depth, height, width)
    rows = images * blocks
    first_row = image * blocks
    exists = block < blocks
    label_bits = tl.load(bits_ptr + first_row + block, mask=exists, other=0).to(tl.int32)
    pred_bits = tl.load(bits_ptr + rows + first_row + block, mask=exists, other=0).to(tl.int32)
    either = label_bits | pred_bits
    if tl.max(either) == 0:
        return
    in_label = label_bits != 0
    in_pred = pred_bits != 0
    label = find_roots(parent_ptr + first_row, block, in_label)
    pred = find_roots(parent_ptr + rows + first_row, block, in_pred)
    tl.store(parent_ptr + first_row + block, label, mask=in_label)
    tl.store(parent_ptr + rows + first_row + block, pred, mask=in_pred)

    corner, voxel, _ = corners_of(block, depth, height, width, CORNERS)
    some = ((either[:, None] >> corner) & 1) != 0
    largest = tl.full((LANES, CORNERS), 0, tl.float32)
    total = largest
    x_ptr += (image // CLASSES) * (CLASSES + (1 if MODE == 2 else 0)) * size
    if MODE == 2:
        largest, total = normalizer(x_ptr, size, voxel, some, CLASSES + 1)
    p = probability(x_ptr, size, voxel, some, image % CLASSES, largest, total, MODE)
    p = tl.where(some, p * UNIT, 0).to(tl.int64)
    at_label = ((label_bits[:, None] >> corner) & 1) != 0
    at_pred = ((pred_bits[:, None] >> corner) & 1) != 0
    in_both = tl.sum(tl.where(at_label & at_pred, p, 0), 1)
    label_only = tl.sum(tl.where(at_pred, 0, p), 1)
    pred_only = tl.sum(tl.where(at_label, 0, p), 1)

    z, y, x = position_of(block, height, width)
    both = label_bits & pred_bits
    voxels = _ones(label_bits)
    _add_tile(
        count_ptr, sum_ptr, coordinate_ptr, rows, first_row, label, in_label, voxels, _ones(both),
        label_only + in_both, in_both, 2 * z * voxels + _ones(label_bits & 0xF0),
        2 * y * voxels + _ones(label_bits & 0xCC), 2 * x * voxels + _ones(label_bits & 0xAA), COUNT, AXES,
    )  # fmt: skip
    voxels = _ones(pred_bits)
    _add_tile(
        count_ptr + 2 * rows, sum_ptr + 2 * rows, coordinate_ptr + AXES * rows, rows, first_row, pred, in_pred, voxels,
        _ones(pred_bits & ~label_bits), pred_only + in_both, pred_only, 2 * z * voxels + _ones(pred_bits & 0xF0),
        2 * y * voxels + _ones(pred_bits & 0xCC), 2 * x * voxels + _ones(pred_bits & 0xAA), COUNT, AXES,
    )  # fmt: skip
    if COUNT:
        key = (first_row + label) * blocks + pred + 1
        if tl.max(both) > 0:
            _insert(slot_ptr, capacity, key, block, both != 0)


@triton.jit
def _center(coordinate_ptr, rows, row, used, voxels):
    """floor(mean + 0.5) of a coordinate of the instances, exact."""
    total = tl.load(coordinate_ptr + row, mask=used, other=0).to(tl.int64)
    voxels = tl.where(used, voxels, 1).to(tl.int64)
    return (2 * total + voxels) // (2 * voxels)


@triton.jit(do_not_specialize=["capacity"])
def finish_kernel(
    count_ptr, sum_ptr, coordinate_ptr, slot_ptr, nan_ptr, prob_ptr, center_ptr, cubes_ptr, pair_ptr, used_ptr,
    zero_ptr, capacity, images, depth, height, width,
    LANES: tl.constexpr, UNIT: tl.constexpr, AXES: tl.constexpr,
):  # fmt: skip
    """Write what follows from the tables. One program per LANES entries of the hash table, the longest table.

    Args:
        count, sum, coordinate, slot: see :func:`measure_kernel`.
        nan: 1 if any p is NaN.
        prob: written, float32 (4, N * K): the sums.
        center: written if AXES > 0, int32 (2, N * K): center voxel of the instances of each side, -1 in unused rows.
        cubes: number of these centers, added to.
        pair: written, int32 (2, capacity): rows of the label and the predicted instance of each pair, 0 if unused.
        used: written, bool (capacity,): whether it is used.
        zero: written, float32 (): 0, or NaN if nan is 1.
    """
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    blocks = blocks_of(depth, height, width)
    rows = images * blocks
    key = tl.load(slot_ptr + at, mask=at < capacity, other=0)
    label = (key - 1) // blocks
    pred = label // blocks * blocks + (key - 1) % blocks
    tl.store(pair_ptr + at, tl.where(key > 0, label, 0).to(tl.int32), mask=at < capacity)
    second = pair_ptr + tl.full((), 1, tl.int64) * capacity
    tl.store(second + at, tl.where(key > 0, pred, 0).to(tl.int32), mask=at < capacity)
    tl.store(used_ptr + at, key > 0, mask=at < capacity)
    if tl.program_id(0) == 0:
        tl.store(zero_ptr, tl.where(tl.load(nan_ptr) > 0, float("nan"), 0.0))

    cubes = 0
    for side in tl.static_range(2):
        exists = at < rows
        voxels = tl.load(count_ptr + 2 * side * rows + at, mask=exists, other=0)
        used = voxels > 0
        for part in tl.static_range(2):
            row = (2 * side + part) * rows + at
            total = tl.load(sum_ptr + row, mask=used, other=0).to(tl.float32) / UNIT
            tl.store(prob_ptr + row, total, mask=exists)
        if AXES > 0:
            found = tl.sum(used.to(tl.int32))
            cubes += found
            center = tl.full((LANES,), 0, tl.int64)
            if found > 0:
                row = side * AXES * rows + at
                if AXES == 3:
                    center = _center(coordinate_ptr + 2 * rows, rows, row, used, voxels) * height
                center = (center + _center(coordinate_ptr + rows, rows, row, used, voxels)) * width
                center += _center(coordinate_ptr, rows, row, used, voxels)
            tl.store(center_ptr + side * rows + at, tl.where(used, center, -1).to(tl.int32), mask=exists)
    if AXES > 0:
        tl.atomic_add(cubes_ptr, cubes, mask=cubes > 0, sem="relaxed")
