"""Sums over segments and look-ups, differentiable and the same at every run, on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["flat_nonzero", "segment_sum", "take", "widest_float"]


def segment_sum(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """Sum values over the segments they belong to.

    On CUDA, atomic additions of floating-point numbers come out differently at every run. There the sums are of
    integers, in a unit as small as the number and the size of the values allow: about 2^-44 of the largest one for
    100,000 values.

    Args:
        values: (K, ...), integer or floating point.
        segments: int (K,), each in 0..count - 1.
        count: number of segments.

    Returns:
        (count, ...), the dtype of ``values``, differentiable; 0 for an empty segment.
    """
    sums: Tensor = _SegmentSum.apply(values, segments, count)
    return sums


def take(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` along the first axis; its gradient is a :func:`segment_sum`.

    Args:
        values: (I, ...).
        index: int (K,), each in 0..I - 1.

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
    unit = 2.0 ** (62 - len(values).bit_length()) / largest
    sums = zeros.to(torch.int64).index_add(0, segments, (values.double() * unit).round().to(torch.int64))
    return (sums.double() / unit).to(values.dtype)


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype of sums over many voxels: float64, or float32 on MPS, which has no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def flat_nonzero(mask: Tensor) -> Tensor:
    """int64 (K,): the flat indices of the True elements, ascending."""
    if mask.device.type == "cpu":  # several times faster than torch.nonzero there
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask.reshape(-1)).squeeze(1)
