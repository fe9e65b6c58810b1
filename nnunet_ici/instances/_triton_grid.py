"""How Triton programs divide a batch of images: each takes a tile of one image, a few rows of up to 64 voxels.

Two-dimensional tiles need no division to know a voxel's coordinates, and a run of voxels along a row is a scan along an
axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from triton import knobs

__all__ = ["BLOCK", "Grid", "rank_in_tile", "tile_of", "voxels_of"]

WARPS = 1
BLOCK = 1024 if knobs.runtime.interpret else 128  # voxels of a tile; the interpreter's cost is per program


@dataclass(frozen=True)
class Grid:
    """How the programs divide images of a given shape.

    Attributes:
        images: N.
        shape: (H, W) or (D, H, W).
        block: voxels of a tile, a power of 2.
    """

    images: int
    shape: tuple[int, ...]
    block: int = BLOCK

    def __post_init__(self) -> None:
        if self.voxels >= 2**31 - self.block or max(self.shape) * self.block >= 2**31:
            raise ValueError(f"an image must have fewer than 2^31 voxels. Got: {self.shape}")

    @property
    def voxels(self) -> int:
        """S, of one image."""
        return self.rows * self.shape[-1]

    @property
    def rows(self) -> int:
        """Of one image."""
        return self.shape[0] * (self.shape[1] if len(self.shape) == 3 else 1)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and voxels in a row of a tile."""
        width = min(64, self.block, triton.next_power_of_2(self.shape[-1]))
        return self.block // width, width

    @property
    def chunks(self) -> int:
        """Tiles side by side along a row."""
        return -(-self.shape[-1] // self.tile[1])

    @property
    def tiles(self) -> int:
        """Of one image."""
        return -(-self.rows // self.tile[0]) * self.chunks

    @property
    def options(self) -> dict[str, int]:
        """The arguments that every kernel over tiles takes."""
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
    """The program's image, tile, row (ROWS, 1), x (1, WIDTH), first x, and which of its voxels exist."""
    program = tl.program_id(0)
    image = program // tiles
    tile = program % tiles
    row = (tile // chunks) * ROWS + tl.arange(0, ROWS)[:, None]
    first_x = (tile % chunks) * WIDTH
    x = first_x + tl.arange(0, WIDTH)[None, :]
    return image.to(tl.int64), tile, row, x, first_x, (row < rows) & (x < width)


@triton.jit
def voxels_of(rows, width):
    """Voxels of an image, int64. (Triton makes an argument of value 1 a constant, which has no ``.to``.)"""
    return tl.full((), 1, tl.int64) * rows * width


@triton.jit
def rank_in_tile(flags):
    """How many flags come before, and at, each element of the tile, row by row: (ROWS, WIDTH) int32, from 1."""
    flat = tl.reshape(flags.to(tl.int32), (flags.shape[0] * flags.shape[1],))
    return tl.reshape(tl.cumsum(flat, 0), (flags.shape[0], flags.shape[1]))
