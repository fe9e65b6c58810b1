"""Connected components in Triton: union-find over blocks of 2 x 2 (x 2) voxels until convergence.

Every block starts as a tree. Blocks with voxels that touch are joined with atomic minima (Playne & Hawick, TPDS 2018;
Komura, 2015), and paths are halved on the way to a root (as in ECL-CC: Jaiganesh & Burtscher, HPDC 2018). Blocks as the
unit of labeling follow Allegretti et al. (TPDS 2020). The root of a component is its first block.

Layouts: bits uint8 (N, K), one bit for each foreground voxel of a block. parent int32 (N, K), indices of blocks within
the image, defined where bits are not 0.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_ici.instances._triton_grid import Grid, blocks_of, corners_of, position_of, tile_of, voxels_of

__all__ = ["find_roots", "label_triton", "pack_bits", "union_kernel"]


@triton.jit
def pack_bits(foreground, corner):
    """Bits of the blocks (LANES,) from the foreground (LANES, CORNERS)."""
    return tl.sum(foreground.to(tl.int32) << corner, 1)


@triton.jit
def find_roots(parent_ptr, node, active):
    """The root of each active node. Nodes on the path are attached to the parent of their parent.

    By an atomic minimum: a late plain store could take its root away from a node again.
    """
    while tl.max(active.to(tl.int32)) > 0:
        parent = tl.load(parent_ptr + node, mask=active, other=0, volatile=True)
        active = active & (parent != node)
        above = tl.load(parent_ptr + parent, mask=active, other=0, volatile=True)
        tl.atomic_min(parent_ptr + node, above, mask=active & (above != parent), sem="relaxed")
        node = tl.where(active, above, node)
        active = active & (above != parent)
    return node


@triton.jit
def _unite(parent_ptr, a, b, active):
    """Join the trees of a and b where active.

    The larger root is hooked to the smaller one. If another program has already hooked it, the atomic returns the
    parent set by that program, which is then joined as well. A stale read costs an iteration, but the tree stays
    correct.
    """
    while tl.max(active.to(tl.int32)) > 0:
        a = find_roots(parent_ptr, a, active)
        b = find_roots(parent_ptr, b, active)
        high, low = tl.maximum(a, b), tl.minimum(a, b)
        active = active & (high != low)
        found = tl.atomic_min(parent_ptr + high, low, mask=active, sem="relaxed")
        active = active & (found != high)
        a = tl.where(active, found, low)
        b = low


@triton.jit
def _touch(a, b, DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr):
    """Whether a voxel of block a touches one of block b, which lies in the direction (DZ, DY, DX) of a.

    All voxels on a shared face touch, and so do those on a shared edge or corner. a and b are the bits of the blocks.
    """
    if DX < 0:
        a, b = a & 0x55, b & 0xAA
    if DX > 0:
        a, b = a & 0xAA, b & 0x55
    if DY < 0:
        a, b = a & 0x33, b & 0xCC
    if DY > 0:
        a, b = a & 0xCC, b & 0x33
    if DZ < 0:
        a, b = a & 0x0F, b & 0xF0
    return (a != 0) & (b != 0)


@triton.jit
def _join_row(bits_ptr, parent_ptr, block, bits, left, right, x, columns, other, there, DZ: tl.constexpr,
              DY: tl.constexpr):  # fmt: skip
    """Join each block with its neighbors other - 1, other and other + 1 in the row of blocks in direction (DZ, DY).

    Neighbors that other joins connect anyway are left out. The proof is by induction along the row: blocks that touch
    in a row are connected, then a block and the one straight in the direction, then the two diagonal ones.
    """
    straight = tl.load(bits_ptr + other, mask=there, other=0).to(tl.int32)
    before = tl.load(bits_ptr + other - 1, mask=there & (x > 0), other=0).to(tl.int32)
    after = tl.load(bits_ptr + other + 1, mask=there & (x < columns - 1), other=0).to(tl.int32)
    meets = _touch(bits, straight, DZ, DY, 0)
    by_left = _touch(bits, left, 0, 0, -1) & _touch(left, before, DZ, DY, 0)
    by_right = _touch(bits, right, 0, 0, 1) & _touch(right, after, DZ, DY, 0)
    is_run_before = _touch(straight, before, 0, 0, -1)
    is_run_after = _touch(straight, after, 0, 0, 1)
    _unite(parent_ptr, block, other, meets & ~(by_left & is_run_before))
    _unite(parent_ptr, block, other - 1, _touch(bits, before, DZ, DY, -1) & ~by_left & ~(meets & is_run_before))
    _unite(parent_ptr, block, other + 1, _touch(bits, after, DZ, DY, 1) & ~by_right & ~(meets & is_run_after))


@triton.jit
def union_kernel(
    bits_ptr, parent_ptr, tiles, depth, height, width, LANES: tl.constexpr, CORNERS: tl.constexpr
):  # fmt: skip
    """Join each block with the neighbors that it touches among the 13 (4 in flat images) that precede it.

    parent must be the block's own index wherever bits are not 0.
    """
    image, block = tile_of(tiles, LANES)
    blocks = blocks_of(depth, height, width)
    bits_ptr += image * blocks
    parent_ptr += image * blocks
    bits = tl.load(bits_ptr + block, mask=block < blocks, other=0).to(tl.int32)
    if tl.max(bits) == 0:
        return
    z, y, x = position_of(block, height, width)
    lines = (height + 1) // 2
    columns = (width + 1) // 2
    some = bits != 0
    left = tl.load(bits_ptr + block - 1, mask=some & (x > 0), other=0).to(tl.int32)
    right = tl.load(bits_ptr + block + 1, mask=some & (x < columns - 1), other=0).to(tl.int32)
    _unite(parent_ptr, block, block - 1, _touch(bits, left, 0, 0, -1))
    find_roots(parent_ptr, block, some)  # all at once halve the path along the row that this has made
    above = block - columns
    _join_row(bits_ptr, parent_ptr, block, bits, left, right, x, columns, above, some & (y > 0), 0, -1)
    if CORNERS == 8:
        for dy in tl.static_range(-1, 2):
            other = block + (dy - lines) * columns
            there = some & (z > 0) & (y + dy >= 0) & (y + dy < lines)
            _join_row(bits_ptr, parent_ptr, block, bits, left, right, x, columns, other, there, -1, dy)


@triton.jit
def pack_kernel(
    mask_ptr, bits_ptr, parent_ptr, tiles, depth, height, width, LANES: tl.constexpr, CORNERS: tl.constexpr
):  # fmt: skip
    """bits of a mask uint8 (N, S); parent = own index."""
    image, block = tile_of(tiles, LANES)
    blocks = blocks_of(depth, height, width)
    corner, voxel, exists = corners_of(block, depth, height, width, CORNERS)
    mask = tl.load(mask_ptr + image * voxels_of(depth, height, width) + voxel, mask=exists, other=0) != 0
    at = image * blocks + block
    tl.store(bits_ptr + at, pack_bits(mask, corner).to(tl.uint8), mask=block < blocks)
    tl.store(parent_ptr + at, block, mask=block < blocks)


@triton.jit
def ids_kernel(
    bits_ptr, parent_ptr, number_ptr, ids_ptr, tiles, depth, height, width,
    LANES: tl.constexpr, CORNERS: tl.constexpr,
):  # fmt: skip
    """ids (N, S) of the voxels from number (N, K) at the roots."""
    image, block = tile_of(tiles, LANES)
    blocks = blocks_of(depth, height, width)
    corner, voxel, exists = corners_of(block, depth, height, width, CORNERS)
    bits = tl.load(bits_ptr + image * blocks + block, mask=block < blocks, other=0).to(tl.int32)
    root = find_roots(parent_ptr + image * blocks, block, bits != 0)
    number = tl.load(number_ptr + image * blocks + root, mask=bits != 0, other=0)
    ids = tl.where(((bits[:, None] >> corner) & 1) != 0, number[:, None], 0)
    tl.store(ids_ptr + image * voxels_of(depth, height, width) + voxel, ids, mask=exists)


def label_triton(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Label the components of a batch of binary images, with full connectivity and without host synchronization.

    Ids are deterministic: they follow the first blocks of the components.

    Args:
        mask: bool (N, H, W) or (N, D, H, W), at least one voxel.

    Returns:
        int32 ids, same shape as ``mask``, 0 for background, 1..n per image; and int64 counts (N,).

    Raises:
        ValueError: if the batch is too large, see :class:`~nnunet_ici.instances._triton_grid.Grid`.
    """
    grid = Grid(len(mask), tuple(mask.shape[1:]))
    programs = (grid.images * grid.tiles,)
    bits = torch.empty((grid.images, grid.blocks), dtype=torch.uint8, device=mask.device)
    parent = torch.empty(bits.shape, dtype=torch.int32, device=mask.device)
    ids = torch.empty(mask.shape, dtype=torch.int32, device=mask.device)
    pack_kernel[programs](mask.contiguous().view(torch.uint8), bits, parent, **grid.options)
    union_kernel[programs](bits, parent, **grid.options)
    is_root = (parent == torch.arange(grid.blocks, dtype=torch.int32, device=mask.device)) & (bits > 0)
    number = is_root.cumsum(1, dtype=torch.int32)
    ids_kernel[programs](bits, parent, number, ids, **grid.options)
    return ids, number[:, -1].to(torch.int64)
