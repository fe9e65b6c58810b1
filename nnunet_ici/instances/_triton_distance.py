"""One axis of the exact distance transform in Triton: for every voxel, a minimum over its line."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_ici.instances.kernels import launching

__all__ = ["along_lines"]

PLACES = 16  # voxels along a line, per program
LANES = 64  # adjacent lines, per program


@triton.jit
def lines_kernel(line_ptr, out_ptr, length, inner, place_blocks, PLACES: tl.constexpr, LANES: tl.constexpr):
    """out[o, i, k] = min over j of line[o, j, k] + (i - j)^2 * 2^32, int64 (outer, length, inner)."""
    program = tl.program_id(0).to(tl.int64)
    outer = program // place_blocks
    place = (program % place_blocks).to(tl.int32) * PLACES + tl.arange(0, PLACES)[:, None]
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    first = outer * length * inner
    real = lane < inner
    nearest = tl.full((PLACES, LANES), 9223372036854775807, tl.int64)
    for j in range(length):
        key = tl.load(line_ptr + first + tl.full((), 1, tl.int64) * j * inner + lane, mask=real, other=0)
        step = (place - j).to(tl.int64)
        nearest = tl.minimum(nearest, key + step * step * 4294967296)
    at = first + place.to(tl.int64) * inner + lane
    tl.store(out_ptr + at, nearest, mask=real & (place < length))


def along_lines(lines: Tensor) -> Tensor:
    """Launch the kernel on int64 (outer, length, inner), not empty; returns the same shape and dtype."""
    outer, length, inner = lines.shape
    lines = lines.contiguous()
    nearest = torch.empty_like(lines)
    places = triton.cdiv(length, PLACES)
    with launching(lines.device):
        lines_kernel[(outer * places, triton.cdiv(inner, LANES))](
            lines, nearest, length, inner, places, PLACES=PLACES, LANES=LANES
        )
    return nearest
