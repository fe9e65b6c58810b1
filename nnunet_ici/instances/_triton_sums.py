"""Sums over instances and their parts in Triton, and the pairs that touch.

Sums are accumulated as integers: integer addition is associative, so atomics give deterministic sums, and small values
are not lost in large components. Tables are int64 (rows, count + 1), one for label and one for predicted instances;
column 0 is unused.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_grid import rank_in_tile, tile_of, voxels_of
from nnunet_ici.instances._triton_label import id_at, overlap_begins
from nnunet_ici.instances._triton_outputs import normalizer, probability

__all__ = ["COORDINATE", "IMAGE", "PART", "WHOLE", "measure_kernel", "pairs_kernel", "sums_kernel"]

# Rows of the tables. WHOLE sums over instances; PART over the part of a label instance in predicted instances, or of a
# predicted instance outside the label.
WHOLE = tl.constexpr(0)
PART = tl.constexpr(1)
COORDINATE = tl.constexpr(2)  # sums of the coordinates, one row for each axis
IMAGE = tl.constexpr(5)


@triton.jit
def _add(table_ptr, columns, at, mask, whole, part, z, y, x, AXES: tl.constexpr):
    """Add to the rows of the table, in one column or in a tile of columns."""
    tl.atomic_add(table_ptr + at, whole.to(tl.int64), mask=mask, sem="relaxed")
    tl.atomic_add(table_ptr + PART * columns + at, part.to(tl.int64), mask=mask, sem="relaxed")
    if AXES == 3:
        tl.atomic_add(table_ptr + COORDINATE * columns + at, z.to(tl.int64), mask=mask, sem="relaxed")
    if AXES >= 2:
        tl.atomic_add(table_ptr + (COORDINATE + AXES - 2) * columns + at, y.to(tl.int64), mask=mask, sem="relaxed")
        tl.atomic_add(table_ptr + (COORDINATE + AXES - 1) * columns + at, x.to(tl.int64), mask=mask, sem="relaxed")


@triton.jit
def _add_tile(table_ptr, columns, ids, whole, part, z, y, x, AXES: tl.constexpr):
    """Add a tile to the table, without coordinates if AXES is 0.

    For the first four instances in the tile, values are reduced before a single atomic addition; further instances are
    added voxel by voxel. Without the reduction, millions of voxels of one component would contend for one address.
    """
    columns64 = tl.full((), 1, tl.int64) * columns
    nothing = tl.zeros_like(whole)
    none = tl.zeros_like(ids)
    left = ids > 0
    turn = 0
    while (tl.max(left.to(tl.int32)) > 0) & (turn < 4):
        first = tl.min(tl.where(left, ids, 2147483647))
        mine = left & (ids == first)
        _add(
            table_ptr, columns64, first, first > 0, tl.sum(tl.where(mine, whole, nothing)),
            tl.sum(tl.where(mine, part, nothing)), tl.sum(tl.where(mine, z, none)), tl.sum(tl.where(mine, y, none)),
            tl.sum(tl.where(mine, x, none)), AXES,
        )  # fmt: skip
        left = left & (ids != first)
        turn += 1
    if tl.max(left.to(tl.int32)) > 0:
        _add(table_ptr, columns64, ids, left, whole, part, none + z, none + y, none + x, AXES)


@triton.jit(do_not_specialize=["labels", "preds", "candidates"])
def measure_kernel(
    bits_ptr, parent_ptr, end_ptr, label_ptr, pred_ptr, pair_ptr, labels, preds, candidates, images,
    tiles, chunks, height, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr, NDIM: tl.constexpr,
):  # fmt: skip
    """Write the number of voxels, the coordinate sums and the image of every instance into tables of 6 rows.

    Also write pair int32 (2, candidates): the label and the predicted instance at each voxel where an overlap begins
    along x.
    """
    image, tile, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0).to(tl.int32)
    if tl.max(bits) == 0:
        return
    label, label_root = id_at(parent_ptr + image * size, voxel, (bits & 1) != 0)
    pred, pred_root = id_at(parent_ptr + (images + image) * size, voxel, (bits & 2) != 0)
    y = row % height
    z = row // height
    one = tl.zeros_like(bits) + 1
    _add_tile(label_ptr, labels + 1, label, one, (pred > 0).to(tl.int32), z, y, x, NDIM)
    _add_tile(pred_ptr, preds + 1, pred, one, (label == 0).to(tl.int32), z, y, x, NDIM)
    of_image = image + tl.zeros_like(label).to(tl.int64)
    tl.store(label_ptr + tl.full((), IMAGE, tl.int64) * (labels + 1) + label, of_image, mask=label_root)
    tl.store(pred_ptr + tl.full((), IMAGE, tl.int64) * (preds + 1) + pred, of_image, mask=pred_root)

    begins = overlap_begins(bits_ptr + image * size, bits, voxel, x, first_x)
    found = tl.sum(begins.to(tl.int32))
    if found > 0:
        before = tl.load(end_ptr + (2 * images + image) * tiles + tile) - found
        before -= tl.load(end_ptr + tl.full((), 2, tl.int64) * images * tiles - 1)
        at = before + rank_in_tile(begins) - 1
        tl.store(pair_ptr + at, label, mask=begins)
        tl.store(pair_ptr + tl.full((), 1, tl.int64) * candidates + at, pred, mask=begins)


@triton.jit(do_not_specialize=["labels", "preds"])
def sums_kernel(
    x_ptr, bits_ptr, parent_ptr, label_ptr, pred_ptr, labels, preds, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Add p, or another voxel map, times UNIT to tables of 2 rows."""
    image, _, row, x, _, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0).to(tl.int32)
    if tl.max(bits) == 0:
        return
    some = bits != 0
    label, _ = id_at(parent_ptr + image * size, voxel, (bits & 1) != 0)
    pred, _ = id_at(parent_ptr + (images + image) * size, voxel, (bits & 2) != 0)

    largest = tl.full((ROWS, WIDTH), 0, tl.float32)
    total = largest
    x_ptr += (image // CLASSES) * (CLASSES + (1 if MODE == 2 else 0)) * size
    if MODE == 2:
        largest, total = normalizer(x_ptr, size, voxel, some, CLASSES + 1)
    p = probability(x_ptr, size, voxel, some, image % CLASSES, largest, total, MODE)
    p = tl.where(some, p * UNIT, 0).to(tl.int64)
    _add_tile(label_ptr, labels + 1, label, p, tl.where(pred > 0, p, 0), label, label, label, 0)
    _add_tile(pred_ptr, preds + 1, pred, p, tl.where(label > 0, 0, p), pred, pred, pred, 0)


@triton.jit(do_not_specialize=["preds", "candidates", "capacity"])
def pairs_kernel(pair_ptr, seen_ptr, preds, candidates, capacity, LANES: tl.constexpr):
    """Keep each pair once: repeated candidates become (0, 0).

    seen int64 (capacity + 1,), zero before the launch, is a hash table with open addressing. capacity is a power of 2
    larger than the number of candidates. Idle lanes use the last slot.
    """
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    active = at < candidates
    second = pair_ptr + tl.full((), 1, tl.int64) * candidates + at
    label = tl.load(pair_ptr + at, mask=active, other=0)
    pred = tl.load(second, mask=active, other=0)
    key = label.to(tl.int64) * (preds + 1) + pred
    slot = ((key * -7046029254386353131) >> 20) & (capacity - 1)
    is_first = active & (key < 0)
    while tl.max(active.to(tl.int32)) > 0:
        place = tl.where(active, slot, capacity)
        # An idle lane compares the last slot with -1, which it never holds, and so changes nothing.
        found = tl.atomic_cas(seen_ptr + place, tl.where(active, 0, -1).to(tl.int64), key, sem="relaxed")
        is_first = is_first | (active & (found == 0))
        active = active & (found != 0) & (found != key)
        slot = (slot + 1) & (capacity - 1)
    repeated = (at < candidates) & ~is_first
    tl.store(pair_ptr + at, 0, mask=repeated)
    tl.store(second, 0, mask=repeated)
