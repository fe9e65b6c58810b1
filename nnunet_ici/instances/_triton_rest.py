"""Sums over instances that the kernels have labelled, in plain torch: for when a later kernel fails.

The kernels number instances in another order than :class:`~nnunet_ici.instances.table.TableInstances`, so what is left
of a step is computed with their ids. A gradient is that of these sums, by autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_ici.instances.segments import segment_sum

__all__ = ["sum_parts"]


def sum_parts(values: Tensor, bits: Tensor, parent: Tensor, labels: int, preds: int) -> tuple[Tensor, ...]:
    """Sum a voxel map over label instances, their overlaps, predicted instances and their parts off the label.

    Args:
        values: floating point, N * S elements in any shape.
        bits: uint8 (N, S): 1 on the label, 2 in the prediction.
        parent: int32 (2, N, S), numbered; anything off the mask.
        labels: Z.
        preds: M.

    Returns:
        Four float64 tensors (Z,), (Z,), (M,) and (M,), differentiable.
    """
    label, pred = _ids(bits & 1, parent[0]), _ids(bits & 2, parent[1])
    parts = (
        (label, labels),
        (torch.where(pred > 0, label, 0), labels),
        (pred, preds),
        (torch.where(label > 0, 0, pred), preds),
    )
    flat = values.reshape(-1).double()
    return tuple(segment_sum(flat, ids, count + 1)[1:] for ids, count in parts)


def _ids(mask: Tensor, parent: Tensor) -> Tensor:
    """int64 (N * S,): the instance of each voxel, 0 off the mask. A root holds -id, every other voxel its root."""
    root = torch.where(mask != 0, parent, 0).long()
    at_root = parent.gather(1, root.clamp(min=0)).long()
    return torch.where(mask != 0, -torch.where(root < 0, root, at_root), 0).reshape(-1)
