"""Cross-entropies for the loss of a single instance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["entropy"]

FOCAL_GAMMA = 2.0  # Lin et al., 2017


def entropy(prob: Tensor, target: Tensor, inner: str) -> Tensor:
    """The cross-entropy of every voxel.

    Args:
        prob: floating point, in [0, 1].
        target: bool, the same shape.
        inner: "focal" for (1 - p_t)^2 * CE; anything else for the plain cross-entropy.

    Returns:
        The shape and dtype of ``prob``; at most 100, because torch clamps the logarithm. A NaN counts as 0.5 here,
        because torch would raise on the CPU and stop the device on CUDA; the losses add it again as ``0 * sum(p)``.
    """
    plain = F.binary_cross_entropy(prob.nan_to_num(nan=0.5), target.to(prob.dtype), reduction="none")
    if inner != "focal":
        return plain
    return torch.where(target, 1 - prob, prob) ** FOCAL_GAMMA * plain
