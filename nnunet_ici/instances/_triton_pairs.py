"""Sums over touching pairs in Triton: one program for a stretch of entries, added as integers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_ici.instances.kernels import launching

__all__ = ["pair_sum_by_kernel"]

LANES = 1024  # entries per program


@triton.jit
def pairs_kernel(
    value_ptr, source_ptr, target_ptr, used_ptr, scale_ptr, sum_ptr, entries, HAS_USED: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """sum int64 (R,) += value of the source row, times scale, for each used entry."""
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    used = at < entries
    if HAS_USED:
        used = used & (tl.load(used_ptr + at, mask=used, other=0) != 0)
    if tl.max(used.to(tl.int32)) > 0:
        source = tl.load(source_ptr + at, mask=used, other=0)
        target = tl.load(target_ptr + at, mask=used, other=0)
        value = tl.load(value_ptr + source, mask=used, other=0).to(tl.float64) * tl.load(scale_ptr).to(tl.float64)
        tl.atomic_add(sum_ptr + target, value.to(tl.int64), mask=used, sem="relaxed")


def pair_sum_by_kernel(values: Tensor, source: Tensor, target: Tensor, used: Tensor | None, rows: int) -> Tensor:
    """As :func:`~nnunet_ici.instances.pairs.pair_sum`, for float32 values."""
    # Integers per largest value, so that the sum of all entries fits into 63 bits.
    unit = 2.0 ** min(40, 62 - len(source).bit_length())
    largest = torch.linalg.vector_norm(values, torch.inf).clamp(min=torch.finfo(torch.float32).tiny * unit)
    sums = torch.zeros(rows, dtype=torch.int64, device=values.device)
    scale = unit / largest
    with launching(values.device):
        pairs_kernel[(triton.cdiv(len(source), LANES),)](
            values, source, target, source if used is None else used.view(torch.uint8), scale, sums, len(source),
            HAS_USED=used is not None, LANES=LANES,
        )  # fmt: skip
    return sums / scale
