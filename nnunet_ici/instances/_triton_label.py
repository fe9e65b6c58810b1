"""Connected components in Triton: union-find over runs until convergence, a whole batch of masks per launch.

One program handles one tile of an image, a few rows of up to 64 voxels. Every run of foreground voxels in a tile row
starts as one tree. Trees of touching runs are hooked with atomic minima, only from voxels at which a contact begins.
Then the trees are flattened, and their roots, the first voxels of the components, are counted and numbered. Tiles
without foreground are read only as bits, one byte per voxel.

Union with atomic minima follows Playne & Hawick (TPDS 2018) and Komura (2015); the survey by Allegretti et al. (TPDS
2020) compares such labelings.

Layouts: bits uint8 (N, S), one bit for each of K = 1 or 2 masks of N images of S voxels. parent int32 (K, N, S),
indices within the image, defined on the foreground only: first the parent of each voxel, finally its root, and ``-id``
at the roots. Indices within an image are int32, addresses int64.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_ici.instances._triton_grid import BLOCK, Grid, rank_in_tile, tile_of, voxels_of

__all__ = ["id_at", "label_triton", "number_roots", "overlap_begins", "run_start"]


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def run_start(foreground, row, x, first_x, width):
    """First voxel of the run of each foreground voxel within the tile: (ROWS, WIDTH) int32."""
    after_gap = tl.where(foreground, first_x, x + 1)
    return row * width + tl.associative_scan(after_gap, 1, _larger)


@triton.jit
def init_kernel(
    bits_ptr, parent_ptr, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """parent = first voxel of the run in the tile row."""
    image, _, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0)
    if tl.max(bits.to(tl.int32)) == 0:
        return
    for k in tl.static_range(MASKS):
        foreground = ((bits >> k) & 1) != 0
        start = run_start(foreground, row, x, first_x, width)
        tl.store(parent_ptr + (k * images + image) * size + voxel, start, mask=foreground)


@triton.jit
def _find(parent_ptr, node, active):
    """The root of each active node."""
    while tl.max(active.to(tl.int32)) > 0:
        parent = tl.load(parent_ptr + node, mask=active, other=0, volatile=True)
        active = active & (parent != node)
        node = tl.where(active, parent, node)
    return node


@triton.jit
def _unite(parent_ptr, a, b, active):
    """Join the trees of a and b where active.

    The larger root is hooked to the smaller one. If another program has already hooked it, the atomic returns the
    parent set by that program, which is then joined as well. A stale read costs an iteration, but the tree stays
    correct.
    """
    while tl.max(active.to(tl.int32)) > 0:
        a = _find(parent_ptr, a, active)
        b = _find(parent_ptr, b, active)
        high, low = tl.maximum(a, b), tl.minimum(a, b)
        active = active & (high != low)
        found = tl.atomic_min(parent_ptr + high, low, mask=active, sem="relaxed")
        active = active & (found != high)
        a = tl.where(active, found, low)
        b = low


@triton.jit
def _join_row(
    bits_ptr, parent_ptr, voxel, other, there, bits, left, right, x, images, image, width, size,
    MASKS: tl.constexpr, FACES: tl.constexpr,
):  # fmt: skip
    """Join each voxel with its three neighbors other - 1, other and other + 1 in another row; with FACES only with
    ``other``."""
    straight = tl.load(bits_ptr + other, mask=there, other=0).to(tl.int32)
    before = tl.load(bits_ptr + other - 1, mask=there & (x > 0), other=0).to(tl.int32)
    after = tl.load(bits_ptr + other + 1, mask=there & (x < width - 1), other=0).to(tl.int32)
    # Only where a contact begins: later voxels of the same two runs would join the same trees again.
    joins_straight = bits & straight & ~(left & before)
    joins_before = bits & before & ~straight & ~left
    joins_after = bits & after & ~straight & ~right
    for k in tl.static_range(MASKS):
        parents = parent_ptr + (k * images + image) * size
        _unite(parents, voxel, other, ((joins_straight >> k) & 1) != 0)
        if not FACES:
            _unite(parents, voxel, other - 1, ((joins_before >> k) & 1) != 0)
            _unite(parents, voxel, other + 1, ((joins_after >> k) & 1) != 0)


@triton.jit
def union_kernel(
    bits_ptr, parent_ptr, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MASKS: tl.constexpr, NDIM: tl.constexpr, FACES: tl.constexpr,
):  # fmt: skip
    """Join each run with the runs that it touches across tile borders and in the preceding adjacent rows.

    These are 1 row in 2D, 4 rows in 3D, and 2 rows in 3D with FACES.
    """
    image, _, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    bits_ptr += image * size
    bits = tl.load(bits_ptr + voxel, mask=exists, other=0).to(tl.int32)
    if tl.max(bits) == 0:
        return
    some = bits != 0
    left = tl.load(bits_ptr + voxel - 1, mask=some & (x > 0), other=0).to(tl.int32)
    right = tl.load(bits_ptr + voxel + 1, mask=some & (x < width - 1), other=0).to(tl.int32)

    for k in tl.static_range(MASKS):
        crosses = ((bits & left) >> k) & 1
        _unite(parent_ptr + (k * images + image) * size, voxel, voxel - 1, (crosses != 0) & (x == first_x))

    y = row % height
    row_before = some & (y > 0)
    _join_row(
        bits_ptr, parent_ptr, voxel, voxel - width, row_before, bits, left, right, x, images, image, width, size,
        MASKS, FACES,
    )  # fmt: skip
    if NDIM == 3:
        slice_before = some & (row >= height)
        reach: tl.constexpr = 0 if FACES else 1
        for dy in tl.static_range(-reach, reach + 1):
            there = slice_before & (y + dy >= 0) & (y + dy < height)
            other = voxel + (dy - height) * width
            _join_row(
                bits_ptr, parent_ptr, voxel, other, there, bits, left, right, x, images, image, width, size,
                MASKS, FACES,
            )  # fmt: skip


@triton.jit
def flatten_kernel(
    bits_ptr, parent_ptr, count_ptr, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MASKS: tl.constexpr,
):  # fmt: skip
    """parent = root; count (K, N, tiles) = roots in each tile.

    With two masks, a third row counts the voxels of each tile at which an overlap of both masks begins along x. They
    are the candidates for touching pairs.
    """
    image, tile, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0).to(tl.int32)
    empty = tl.max(bits) == 0
    for k in tl.static_range(MASKS):
        count = 0
        if not empty:
            parents = parent_ptr + (k * images + image) * size
            foreground = ((bits >> k) & 1) != 0
            root = _find(parents, voxel, foreground)
            tl.store(parents + voxel, root, mask=foreground)
            count = tl.sum((foreground & (root == voxel)).to(tl.int32))
        tl.store(count_ptr + (k * images + image) * tiles + tile, count)
    if MASKS == 2:
        count = 0
        if not empty:
            begins = overlap_begins(bits_ptr + image * size, bits, voxel, x, first_x)
            count = tl.sum(begins.to(tl.int32))
        tl.store(count_ptr + (2 * images + image) * tiles + tile, count)


@triton.jit
def overlap_begins(bits_ptr, bits, voxel, x, first_x):
    """Whether a run of voxels in both masks begins at a voxel, within the tile row."""
    both = bits == 3
    left = tl.load(bits_ptr + voxel - 1, mask=both & (x > first_x), other=0).to(tl.int32)
    return both & (left != 3)


@triton.jit
def number_kernel(
    bits_ptr, parent_ptr, count_ptr, end_ptr, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MASKS: tl.constexpr, PER_IMAGE: tl.constexpr,
):  # fmt: skip
    """At each root, parent = -id. Ids are consecutive over the tiles of an image, or of all images of a mask."""
    image, tile, row, x, _, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    for k in tl.static_range(MASKS):
        at = (k * images + image) * tiles + tile
        count = tl.load(count_ptr + at)
        if count > 0:
            first = at - tile if PER_IMAGE else tl.full((), k, tl.int64) * images * tiles
            before = tl.load(end_ptr + at) - count - tl.load(end_ptr + first) + tl.load(count_ptr + first)
            bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0).to(tl.int32)
            parents = parent_ptr + (k * images + image) * size + voxel
            foreground = ((bits >> k) & 1) != 0
            is_root = foreground & (tl.load(parents, mask=foreground, other=-1) == voxel)
            tl.store(parents, -(before.to(tl.int32) + rank_in_tile(is_root)), mask=is_root)


@triton.jit
def id_at(parent_ptr, voxel, foreground):
    """The id of each foreground voxel, 0 elsewhere, and whether it is a root; parent_ptr at the image, numbered."""
    root = tl.load(parent_ptr + voxel, mask=foreground, other=0)
    is_root = foreground & (root < 0)
    numbered = tl.load(parent_ptr + root, mask=foreground & (root >= 0), other=0)
    return tl.where(foreground, -tl.where(is_root, root, numbered), 0), is_root


@triton.jit
def ids_kernel(
    bits_ptr, parent_ptr, ids_ptr, tiles, chunks, height, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    """ids (N, S) of a single mask."""
    image, _, row, x, _, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    foreground = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0) != 0
    ids, _ = id_at(parent_ptr + image * size, voxel, foreground)
    tl.store(ids_ptr + image * size + voxel, ids, mask=exists)


def number_roots(bits: Tensor, parent: Tensor, grid: Grid, masks: int, per_image: bool, faces: bool = False) -> Tensor:
    """Join runs, flatten the trees, and number the components, without host synchronization.

    Args:
        bits: uint8 (N, S).
        parent: int32 (K, N, S), run starts from :func:`init_kernel`; overwritten.
        grid: grid of the images.
        masks: number of masks K, 1 or 2.
        per_image: whether to number the components of each image from 1, or consecutively over all images of a mask.
        faces: whether to connect only voxels that share a face (an edge in 2D).

    Returns:
        int64 (1, N, tiles) for one mask, (3, N, tiles) for two: inclusive cumulative sum, over the flattened table, of
        the number of roots in each tile. The third row continues it with the candidates of :func:`overlap_begins`.
    """
    n = (grid.images * grid.tiles,)
    fixed = {**grid.options, "MASKS": masks}
    count = torch.empty((3 if masks == 2 else 1, grid.images, grid.tiles), dtype=torch.int32, device=bits.device)
    union_kernel[n](bits, parent, grid.images, **fixed, NDIM=len(grid.shape), FACES=faces)
    flatten_kernel[n](bits, parent, count, grid.images, **fixed)
    end = count.reshape(-1).cumsum(0).reshape(count.shape)
    number_kernel[n](bits, parent, count, end, grid.images, **fixed, PER_IMAGE=per_image)
    return end


def label_triton(mask: Tensor, faces: bool = False, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Label the components of a batch of binary images on a CUDA device.

    Ids are deterministic: they follow the first voxels of the components, tile by tile.

    Args:
        mask: bool (B, H, W) or (B, D, H, W), at least one voxel.
        faces: whether to connect only voxels that share a face (an edge in 2D), instead of full connectivity.
        block: voxels per tile, a power of 2.

    Returns:
        int32 ids, same shape as ``mask``, 0 for background, 1..n per image; and int64 counts (B,).

    Raises:
        ValueError: if an image is too large, see :class:`~nnunet_ici.instances._triton_grid.Grid`.
    """
    grid = Grid(len(mask), tuple(mask.shape[1:]), block)
    bits = mask.contiguous().view(torch.uint8)
    parent = torch.empty((1, grid.images, grid.voxels), dtype=torch.int32, device=mask.device)
    ids = torch.empty(mask.shape, dtype=torch.int32, device=mask.device)
    n = (grid.images * grid.tiles,)
    with torch.cuda.device_of(mask):
        init_kernel[n](bits, parent, grid.images, **grid.options, MASKS=1)
        end = number_roots(bits, parent, grid, masks=1, per_image=True, faces=faces)
        ids_kernel[n](bits, parent, ids, **grid.options)
    last = end[0, :, -1]
    return ids, last.diff(prepend=last.new_zeros(1))
