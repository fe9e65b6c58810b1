"""The grid of Triton programs over a batch of images: one program per tile, a few rows of up to 64 voxels.

In two-dimensional tiles a voxel's coordinates need no division, and a run of voxels in a row is a scan along one axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from triton import knobs

__all__ = ["BLOCK", "Grid", "rank_in_tile", "tile_of", "voxels_of"]

WARPS = 1
BLOCK = 1024 if knobs.runtime.interpret else 128  # voxels per tile; the interpreter's cost is per program


@dataclass(frozen=True)
class Grid:
    """Division of images of a given shape into tiles.

    Attributes:
        images: number of images N.
        shape: shape of one image, (H, W) or (D, H, W).
        block: voxels per tile, a power of 2.

    Raises:
        ValueError: if an image is too large for int32 indices, at about 2^31 voxels.
    """

    images: int
    shape: tuple[int, ...]
    block: int = BLOCK

    def __post_init__(self) -> None:
        if self.voxels >= 2**31 - self.block or max(self.shape) * self.block >= 2**31:
            raise ValueError(f"an image must have fewer than 2^31 voxels. Got: {self.shape}")

    @property
    def voxels(self) -> int:
        """S, the number of voxels per image."""
        return self.rows * self.shape[-1]

    @property
    def rows(self) -> int:
        """Number of rows per image."""
        return self.shape[0] * (self.shape[1] if len(self.shape) == 3 else 1)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows per tile, and voxels per tile row."""
        width = min(64, self.block, triton.next_power_of_2(self.shape[-1]))
        return self.block // width, width

    @property
    def chunks(self) -> int:
        """Number of tiles side by side along a row."""
        return -(-self.shape[-1] // self.tile[1])

    @property
    def tiles(self) -> int:
        """Number of tiles per image."""
        return -(-self.rows // self.tile[0]) * self.chunks

    @property
    def options(self) -> dict[str, int]:
        """The arguments shared by all kernels over tiles."""
        rows, width = self.tile
        return {
            "tiles": self.tiles,
            "chunks": self.chunks,
            "height": self.shape[-2],
            "rows": self.rows,
            "width": self.shape[-1],
            "ROWS": rows,
            "WIDTH": width,
            "num_warps": WARPS,
        }


@triton.jit
def tile_of(tiles, chunks, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """The program's image, tile, row (ROWS, 1), x (1, WIDTH), first x, and whether each voxel lies in the image."""
    program = tl.program_id(0)
    image = program // tiles
    tile = program % tiles
    row = (tile // chunks) * ROWS + tl.arange(0, ROWS)[:, None]
    first_x = (tile % chunks) * WIDTH
    x = first_x + tl.arange(0, WIDTH)[None, :]
    return image.to(tl.int64), tile, row, x, first_x, (row < rows) & (x < width)


@triton.jit
def voxels_of(rows, width):
    """Number of voxels of an image, int64. (Triton turns an argument of value 1 into a constant, without ``.to``.)"""
    return tl.full((), 1, tl.int64) * rows * width


@triton.jit
def rank_in_tile(flags):
    """Inclusive count of the flags up to each element of the tile, row by row: (ROWS, WIDTH) int32."""
    flat = tl.reshape(flags.to(tl.int32), (flags.shape[0] * flags.shape[1],))
    return tl.reshape(tl.cumsum(flat, 0), (flags.shape[0], flags.shape[1]))
