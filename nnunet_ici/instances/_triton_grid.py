"""The grid of Triton programs over the blocks of a batch of images: 2 x 2 x 2 voxels, or 2 x 2 in flat images.

With full connectivity all foreground voxels of a block belong to one component, so a block is the unit of labeling, and
tables of instances have one row for each block. A 2D image is a 3D image of depth 1. A program handles a tile of
consecutive blocks of one image. Indices within an image are int32, addresses int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import triton
import triton.language as tl
from triton import knobs

__all__ = ["TILE", "Grid", "blocks_of", "corners_of", "position_of", "tile_of", "voxels_of"]

# Voxels per program. Starting a program costs more than reading 128 bytes; the interpreter's cost is per program.
TILE = 2**14 if knobs.runtime.interpret else 1024
MOST_BLOCKS = 2**28  # of a batch, so that the number of a cube and two flags fit into 31 bits


@dataclass(frozen=True)
class Grid:
    """Division of images into tiles of blocks.

    Attributes:
        images: number of images N.
        spatial: shape of one image, (H, W) or (D, H, W).

    Raises:
        ValueError: if an image is too large for int32 indices, or the batch for int32 rows.
    """

    images: int
    spatial: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.voxels >= 2**31 - 2**26:
            raise ValueError(f"an image must have fewer than 2^31 - 2^26 voxels. Got: {self.spatial}")
        if self.rows >= MOST_BLOCKS:
            raise ValueError(
                f"a batch must have fewer than 2^28 blocks of 2 voxels along each axis. Got: {self.images} images of "
                f"{self.spatial} voxels"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Depth, height and width in voxels."""
        depth, height, width = (1, *self.spatial)[-3:]
        return depth, height, width

    @property
    def voxels(self) -> int:
        """S, the number of voxels of an image."""
        return prod(self.spatial)

    @property
    def blocks(self) -> int:
        """K, the number of blocks of an image."""
        return prod(-(-n // 2) for n in self.spatial)

    @property
    def rows(self) -> int:
        """N * K, the number of rows of a table."""
        return self.images * self.blocks

    @property
    def corners(self) -> int:
        """Voxels of a block: 8, or 4 in a flat image."""
        return 4 if self.shape[0] == 1 else 8

    @property
    def lanes(self) -> int:
        """Blocks of a tile."""
        return TILE // self.corners

    @property
    def tiles(self) -> int:
        """Number of tiles of an image."""
        return triton.cdiv(self.blocks, self.lanes)

    @property
    def options(self) -> dict[str, int]:
        """The arguments shared by all kernels over tiles."""
        depth, height, width = self.shape
        size = {"tiles": self.tiles, "depth": depth, "height": height, "width": width}
        return size | {"LANES": self.lanes, "CORNERS": self.corners, "num_warps": 4}


@triton.jit
def tile_of(tiles, LANES: tl.constexpr):
    """The program's image, int64, and its blocks (LANES,)."""
    program = tl.program_id(0)
    return (program // tiles).to(tl.int64), (program % tiles) * LANES + tl.arange(0, LANES)


@triton.jit
def blocks_of(depth, height, width):
    """Number of blocks of an image, int64."""
    return tl.full((), 1, tl.int64) * ((depth + 1) // 2) * ((height + 1) // 2) * ((width + 1) // 2)


@triton.jit
def voxels_of(depth, height, width):
    """Number of voxels of an image, int64. (Triton turns an argument of value 1 into a constant, without ``.to``.)"""
    return tl.full((), 1, tl.int64) * depth * height * width


@triton.jit
def position_of(block, height, width):
    """z, y and x of blocks, counted in blocks."""
    columns = (width + 1) // 2
    lines = (height + 1) // 2
    return block // columns // lines, block // columns % lines, block % columns


@triton.jit
def corners_of(block, depth, height, width, CORNERS: tl.constexpr):
    """Corners (1, CORNERS) of a block, its voxels (LANES, CORNERS), and whether they exist.

    Bit 0 of a corner is its x, bit 1 its y, bit 2 its z.
    """
    z, y, x = position_of(block, height, width)
    corner = tl.arange(0, CORNERS)[None, :]
    z = 2 * z[:, None] + (corner >> 2)
    y = 2 * y[:, None] + ((corner >> 1) & 1)
    x = 2 * x[:, None] + (corner & 1)
    return corner, (z * height + y) * width + x, (z < depth) & (y < height) & (x < width)
