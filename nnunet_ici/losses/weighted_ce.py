"""Cross-entropy with voxel weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_ici.instances.segments import widest_float

__all__ = ["weighted_cross_entropy"]


def weighted_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean of the cross-entropy, sum(weight * CE) / sum(weight).

    Args:
        logits: softmax logits, (B, C, *spatial).
        label: label map, int64 (B, *spatial), 0..C - 1.
        weight: floating point (B, *spatial), 0 for ignored voxels.

    Returns:
        A scalar. If all weights are 0, it is 0 and stays attached to the graph.
    """
    entropy = F.cross_entropy(logits, label, reduction="none")
    total = weight.sum(dtype=widest_float(weight.device))
    return (entropy * weight).sum() / total.clamp(min=torch.finfo(torch.float32).tiny).to(entropy.dtype)
