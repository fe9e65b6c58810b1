"""From network outputs to sums over instances in Triton: what is foreground, the sums of every instance, and the pairs
that touch.

Sums are kept as integers, of p in units of 2^-32: integer additions commute, so that atomics give the same sums at
every run, and none is lost in a large component. The instances of label and prediction have one table each, int64
(rows, count + 1), of which the rows are named below; column 0 stays empty.

What is read as x is one of: probabilities (MODE 0, (B, F, S)), logits of regions (MODE 1, (B, F, S)) or logits of
classes with a background (MODE 2, (B, F + 1, S)). Image b * F + f is class f of sample b.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_grid import rank_in_tile, tile_of, voxels_of
from nnunet_ici.instances._triton_label import id_at, overlap_begins, run_start

__all__ = [
    "COORDINATE", "FIXED", "HIT", "IMAGE", "OTHER", "PROBABILITIES", "REGIONS", "SIZE", "SOFTMAX", "TOTAL", "TOUCHED",
    "classify_kernel", "normalizer", "pairs_kernel", "probability", "sums_kernel",
]  # fmt: skip

PROBABILITIES, REGIONS, SOFTMAX = 0, 1, 2  # MODE

FIXED = tl.constexpr(2.0**32)  # the unit of sums of p

# Rows of the tables.
SIZE = tl.constexpr(0)  # voxels
TOTAL = tl.constexpr(1)  # sum of p
OTHER = tl.constexpr(2)  # sum of p in predicted instances (label instance) or off the label (predicted instance)
TOUCHED = tl.constexpr(3)  # over the instances it touches: sum of their wrong p, or of their sizes
HIT = tl.constexpr(4)  # instances it touches
IMAGE = tl.constexpr(5)
COORDINATE = tl.constexpr(6)  # and on, one row an axis: sums of the coordinates


@triton.jit
def normalizer(x_ptr, size, voxel, mask, CLASSES: tl.constexpr):
    """The largest logit of each voxel and the sum of exp(logit - largest); x_ptr at the sample."""
    largest = tl.load(x_ptr + voxel, mask=mask, other=0).to(tl.float32)
    total = tl.full(voxel.shape, 1, tl.float32)
    for c in range(1, CLASSES):
        logit = tl.load(x_ptr + c * size + voxel, mask=mask, other=0).to(tl.float32)
        # As a NaN has to come out wherever it lies, and maximum drops it: it enters the sum.
        new = tl.maximum(largest, logit)
        total = total * tl.exp(largest - new) + tl.exp(logit - new)
        largest = new
    return largest, total


@triton.jit
def probability(x_ptr, size, voxel, mask, f, largest, total, MODE: tl.constexpr):
    """p of class f, float32; x_ptr at the sample. ``largest`` and ``total`` are read for a softmax only."""
    if MODE == 2:
        logit = tl.load(x_ptr + (f + 1) * size + voxel, mask=mask, other=0).to(tl.float32)
        p = tl.exp(logit - largest) / total
    else:
        p = tl.load(x_ptr + f * size + voxel, mask=mask, other=0).to(tl.float32)
        if MODE == 1:
            p = 1 / (1 + tl.exp(-p))
    return p


@triton.jit
def classify_kernel(
    x_ptr, target_ptr, mask_ptr, bits_ptr, parent_ptr, nan_ptr, tau, ignore, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr,
    BY_CLASS: tl.constexpr, TARGETS: tl.constexpr, HAS_MASK: tl.constexpr, HAS_IGNORE: tl.constexpr,
):  # fmt: skip
    """bits (N, S): 1 on the label, 2 where p >= tau, 0 on ignored voxels. parent (2, N, S): run starts. nan: 1 if p is
    NaN anywhere, else left alone. A program for each tile of each sample; CLASSES is F.

    target: (B, 1, S) labels, or BY_CLASS (B, TARGETS, S), of which channel F marks ignored voxels if there is one.
    """
    sample, _, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    counts = exists
    if HAS_MASK:
        counts = counts & (tl.load(mask_ptr + sample * size + voxel, mask=exists, other=0) != 0)
    target_ptr += sample * TARGETS * size
    if BY_CLASS:
        label = exists.to(tl.int32)
        if TARGETS > CLASSES:
            counts = counts & (tl.load(target_ptr + CLASSES * size + voxel, mask=exists, other=0) == 0)
    else:
        label = tl.load(target_ptr + voxel, mask=exists, other=0).to(tl.int32)
        if HAS_IGNORE:
            counts = counts & (label != ignore)

    largest = tl.full((ROWS, WIDTH), 0, tl.float32)
    total = largest
    if MODE == 2:
        x_ptr += sample * (CLASSES + 1) * size
        largest, total = normalizer(x_ptr, size, voxel, exists, CLASSES + 1)
    else:
        x_ptr += sample * CLASSES * size
    bad = tl.full((ROWS, WIDTH), 0, tl.int32)
    for f in range(CLASSES):
        p = probability(x_ptr, size, voxel, exists, f, largest, total, MODE)
        bad = bad | (p != p).to(tl.int32)
        if BY_CLASS:
            in_label = counts & (tl.load(target_ptr + f * size + voxel, mask=exists, other=0) > 0)
        else:
            in_label = counts & (label == f + 1)
        in_pred = counts & (p >= tau)
        image = sample * CLASSES + f
        tl.store(bits_ptr + image * size + voxel, in_label.to(tl.uint8) + 2 * in_pred.to(tl.uint8), mask=exists)
        if tl.max((in_label | in_pred).to(tl.int32)) > 0:
            parents = parent_ptr + image * size + voxel
            tl.store(parents, run_start(in_label, row, x, first_x, width), mask=in_label)
            start = run_start(in_pred, row, x, first_x, width)
            tl.store(parents + images * size, start, mask=in_pred)
    tl.store(nan_ptr, 1, mask=tl.max(bad) > 0)


@triton.jit
def _add(table_ptr, columns, at, mask, size, total, other, z, y, x, NDIM: tl.constexpr):
    """Add to the rows of the table, at one column or a tile of them."""
    tl.atomic_add(table_ptr + SIZE * columns + at, size.to(tl.int64), mask=mask, sem="relaxed")
    tl.atomic_add(table_ptr + TOTAL * columns + at, total, mask=mask, sem="relaxed")
    tl.atomic_add(table_ptr + OTHER * columns + at, other, mask=mask, sem="relaxed")
    if NDIM == 3:
        tl.atomic_add(table_ptr + COORDINATE * columns + at, z.to(tl.int64), mask=mask, sem="relaxed")
    tl.atomic_add(table_ptr + (COORDINATE + NDIM - 2) * columns + at, y.to(tl.int64), mask=mask, sem="relaxed")
    tl.atomic_add(table_ptr + (COORDINATE + NDIM - 1) * columns + at, x.to(tl.int64), mask=mask, sem="relaxed")


@triton.jit
def _add_tile(table_ptr, columns, ids, is_root, image, p, other, z, y, x, NDIM: tl.constexpr):
    """Add a tile to the table: one addition for each of its first few instances, then voxel by voxel. Without the
    former, millions of voxels of one component would queue at one address."""
    tl.store(table_ptr + IMAGE * columns + ids, image + tl.zeros_like(ids).to(tl.int64), mask=is_root)
    columns64 = tl.full((), 1, tl.int64) * columns
    nothing = tl.zeros_like(p)
    none = tl.zeros_like(ids)
    left = ids > 0
    turn = 0
    while (tl.max(left.to(tl.int32)) > 0) & (turn < 4):
        first = tl.min(tl.where(left, ids, 2147483647))
        mine = left & (ids == first)
        _add(
            table_ptr, columns64, first, first > 0,
            tl.sum(mine.to(tl.int32)), tl.sum(tl.where(mine, p, nothing)), tl.sum(tl.where(mine, other, nothing)),
            tl.sum(tl.where(mine, z, none)), tl.sum(tl.where(mine, y, none)), tl.sum(tl.where(mine, x, none)), NDIM,
        )  # fmt: skip
        left = left & (ids != first)
        turn += 1
    if tl.max(left.to(tl.int32)) > 0:
        _add(table_ptr, columns64, ids, left, none + 1, p, other, none + z, none + y, none + x, NDIM)


@triton.jit(do_not_specialize=["labels", "preds", "candidates"])
def sums_kernel(
    x_ptr, bits_ptr, parent_ptr, end_ptr, label_ptr, pred_ptr, pair_ptr, labels, preds, candidates, images,
    tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr, NDIM: tl.constexpr,
):  # fmt: skip
    """Fill SIZE, TOTAL, OTHER, IMAGE and the coordinates of both tables, and pair (2, candidates): the label and the
    predicted instance where an overlap begins along x."""
    image, tile, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0).to(tl.int32)
    if tl.max(bits) == 0:
        return
    some = bits != 0
    label, label_root = id_at(parent_ptr + image * size, voxel, (bits & 1) != 0)
    pred, pred_root = id_at(parent_ptr + (images + image) * size, voxel, (bits & 2) != 0)

    largest = tl.full((ROWS, WIDTH), 0, tl.float32)
    total = largest
    x_ptr += (image // CLASSES) * (CLASSES + (1 if MODE == 2 else 0)) * size
    if MODE == 2:
        largest, total = normalizer(x_ptr, size, voxel, some, CLASSES + 1)
    p = probability(x_ptr, size, voxel, some, image % CLASSES, largest, total, MODE)
    p = tl.where(some, p * FIXED, 0).to(tl.int64)

    y = row % height
    z = row // height
    _add_tile(label_ptr, labels + 1, label, label_root, image, p, tl.where(pred > 0, p, 0), z, y, x, NDIM)
    _add_tile(pred_ptr, preds + 1, pred, pred_root, image, p, tl.where(label > 0, 0, p), z, y, x, NDIM)

    begins = overlap_begins(bits_ptr + image * size, bits, voxel, x, first_x)
    found = tl.sum(begins.to(tl.int32))
    if found > 0:
        before = tl.load(end_ptr + (2 * images + image) * tiles + tile) - found
        before -= tl.load(end_ptr + tl.full((), 2, tl.int64) * images * tiles - 1)
        at = before + rank_in_tile(begins) - 1
        tl.store(pair_ptr + at, label, mask=begins)
        tl.store(pair_ptr + tl.full((), 1, tl.int64) * candidates + at, pred, mask=begins)


@triton.jit(do_not_specialize=["labels", "preds", "candidates", "capacity"])
def pairs_kernel(
    pair_ptr, seen_ptr, label_ptr, pred_ptr, labels, preds, candidates, capacity,
    EQ3: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Take each pair once: fill TOUCHED and HIT of both tables; a repeated candidate gets label 0.

    seen: int64 (capacity + 1,), zero: a hash table with open addressing; capacity is a power of 2 above the number of
    candidates. Its last place is for lanes that look for nothing.
    """
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    active = at < candidates
    label = tl.load(pair_ptr + at, mask=active, other=0)
    pred = tl.load(pair_ptr + tl.full((), 1, tl.int64) * candidates + at, mask=active, other=0)
    key = label.to(tl.int64) * (preds + 1) + pred
    slot = ((key * -7046029254386353131) >> 20) & (capacity - 1)
    is_first = active & (key < 0)
    while tl.max(active.to(tl.int32)) > 0:
        place = tl.where(active, slot, capacity)
        # An idle lane compares with what is never there, and so changes nothing.
        found = tl.atomic_cas(seen_ptr + place, tl.where(active, 0, -1).to(tl.int64), key, sem="relaxed")
        is_first = is_first | (active & (found == 0))
        active = active & (found != 0) & (found != key)
        slot = (slot + 1) & (capacity - 1)
    tl.store(pair_ptr + at, 0, mask=(at < candidates) & ~is_first)

    label_columns = tl.full((), 1, tl.int64) * labels + 1
    pred_columns = tl.full((), 1, tl.int64) * preds + 1
    wrong = tl.load(pred_ptr + (TOTAL if EQ3 else OTHER) * pred_columns + pred, mask=is_first, other=0)
    size = tl.load(label_ptr + SIZE * label_columns + label, mask=is_first, other=0)
    one = tl.full((LANES,), 1, tl.int64)
    tl.atomic_add(label_ptr + TOUCHED * label_columns + label, wrong, mask=is_first, sem="relaxed")
    tl.atomic_add(label_ptr + HIT * label_columns + label, one, mask=is_first, sem="relaxed")
    tl.atomic_add(pred_ptr + TOUCHED * pred_columns + pred, size, mask=is_first, sem="relaxed")
    tl.atomic_add(pred_ptr + HIT * pred_columns + pred, one, mask=is_first, sem="relaxed")
