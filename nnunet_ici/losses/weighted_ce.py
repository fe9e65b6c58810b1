"""A cross-entropy in which every voxel has a weight."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_ici.instances.segments import widest_float

__all__ = ["weighted_cross_entropy"]


def weighted_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """sum(weight * CE) / sum(weight), a scalar.

    Args:
        logits: (B, C, *spatial).
        label: int64 (B, *spatial).
        weight: float (B, *spatial), 0 for ignored voxels; 0 everywhere gives 0 with a live graph.
    """
    entropy = F.cross_entropy(logits, label, reduction="none")
    total = weight.sum(dtype=widest_float(weight.device))
    return (entropy * weight).sum() / total.clamp(min=torch.finfo(torch.float32).tiny).to(entropy.dtype)
