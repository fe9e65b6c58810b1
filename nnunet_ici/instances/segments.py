"""Segment sums and gathers that are differentiable and deterministic on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["flat_nonzero", "segment_sum", "take", "widest_float"]


def segment_sum(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """Sum values over segments.

    Atomic additions of floating-point numbers on CUDA are not deterministic. There the values are rounded to integer
    multiples of a unit and added as integers. The unit is 2^-40 of the largest value, or 2^-30 if there are more than
    2^22 values.

    Args:
        values: (K, ...), integer or floating point.
        segments: int (K,), segment of each value, 0..count - 1.
        count: number of segments.

    Returns:
        (count, ...), dtype of ``values``, differentiable; 0 for an empty segment.
    """
    sums: Tensor = _SegmentSum.apply(values, segments, count)
    return sums


def take(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` along the first axis, with a deterministic gradient, see :func:`segment_sum`.

    Args:
        values: (I, ...).
        index: int (K,), 0..I - 1.

    Returns:
        (K, ...), differentiable.
    """
    taken: Tensor = _Take.apply(values, index)
    return taken


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, segments: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(segments)
        return _add(values, segments, count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(values)
        return values.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _add(grad, ctx.saved_tensors[0], ctx.count), None


def _add(values: Tensor, segments: Tensor, count: int) -> Tensor:
    zeros = values.new_zeros((count, *values.shape[1:]))
    if not (values.is_cuda and values.is_floating_point()) or values.numel() == 0:
        return zeros.index_add(0, segments, values)
    largest = values.abs().amax().double().clamp(min=torch.finfo(torch.float64).tiny)
    unit = 2.0 ** (40 if len(values) <= 2**22 else 30) / largest
    sums = zeros.to(torch.int64).index_add(0, segments, (values.double() * unit).round().to(torch.int64))
    return (sums.double() / unit).to(values.dtype)


def widest_float(device: torch.device) -> torch.dtype:
    """dtype for sums over many voxels: float64, or float32 on MPS, which does not support float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def flat_nonzero(mask: Tensor) -> Tensor:
    """int64 (K,): flat indices of the nonzero elements, ascending."""
    if mask.device.type == "cpu":  # NumPy is several times faster than torch.nonzero on the CPU
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask.reshape(-1)).squeeze(1)
