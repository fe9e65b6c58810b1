"""Binary dilation by a ball, exact for any radius, on any device."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from nnunet_ici.instances.cubes import spread

__all__ = ["dilate"]


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilate a mask by a ball (a disk in 2D).

    The ball is decomposed into rows along the last axis. For each row length, one moving maximum is computed and then
    shifted along the other axes.

    Args:
        mask: bool (N, *spatial), 2D or 3D.
        radius: radius of the ball in voxels, 0 or more.

    Returns:
        bool, same shape as ``mask``: True where the Euclidean distance to the foreground of the same image is at most
        ``radius``. An image without foreground stays empty.
    """
    halves: dict[int, list[tuple[int, ...]]] = {}
    for offset in product(range(-radius, radius + 1), repeat=mask.ndim - 2):
        rest = radius**2 - sum(o * o for o in offset)
        if rest >= 0:
            halves.setdefault(math.isqrt(rest), []).append(offset)
    bits = mask.to(torch.uint8)
    dilated = torch.zeros_like(bits)
    for half, offsets in halves.items():
        rows = spread(bits, (0,) * (mask.ndim - 2) + (half,), torch.maximum)
        for offset in offsets:
            here = (slice(None), *(slice(max(0, o), o if o < 0 else None) for o in offset))
            there = (slice(None), *(slice(max(0, -o), -o if o > 0 else None) for o in offset))
            target = dilated[here]
            torch.bitwise_or(target, rows[there], out=target)
    return dilated.bool()
