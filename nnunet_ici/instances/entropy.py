"""Voxel-wise cross-entropies for the loss of a single instance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["entropy"]

FOCAL_GAMMA = 2.0  # Lin et al., 2017


def entropy(prob: Tensor, target: Tensor, inner: str) -> Tensor:
    """Binary cross-entropy of every voxel.

    Args:
        prob: floating point, any shape, in [0, 1].
        target: bool, same shape as ``prob``.
        inner: "focal" for the focal loss (1 - p_t)^2 * CE of Lin et al. (2017); anything else for the cross-entropy.

    Returns:
        Same shape and dtype as ``prob``; at most 100, because torch clamps the logarithm. NaN is replaced by 0.5 here,
        because torch raises an error for it on the CPU and fails a device-side assertion on CUDA. The losses propagate
        NaN through ``0 * sum(p)``.
    """
    plain = F.binary_cross_entropy(prob.nan_to_num(nan=0.5), target.to(prob.dtype), reduction="none")
    if inner != "focal":
        return plain
    return torch.where(target, 1 - prob, prob) ** FOCAL_GAMMA * plain
