"""Sums in plain torch over instances that the kernels have labeled, as a fallback if a later kernel fails.

The kernels number instances in a different order than :class:`~nnunet_ici.instances.table.TableInstances`, so the
fallback keeps their ids. Autograd computes the gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_ici.instances.segments import segment_sum

__all__ = ["sum_parts"]


def sum_parts(values: Tensor, bits: Tensor, parent: Tensor, labels: int, preds: int) -> tuple[Tensor, ...]:
    """Sum a voxel map over instances and their parts, see :class:`~nnunet_ici.instances.parts.PartSums`.

    Args:
        values: floating point, N * S elements in any shape.
        bits: uint8 (N, S), sum of 1 on the label and 2 in the prediction.
        parent: int32 (2, N, S), numbered by :func:`~nnunet_ici.instances._triton_label.number_roots`; undefined on
            background.
        labels: number of label instances Z.
        preds: number of predicted instances M.

    Returns:
        The four sums in the order of the class, float64 (Z,), (Z,), (M,) and (M,), differentiable.
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
    """int64 (N * S,): instance id of each voxel, 0 on background. A root holds -id, every other voxel its root."""
    root = torch.where(mask != 0, parent, 0).long()
    at_root = parent.gather(1, root.clamp(min=0)).long()
    return torch.where(mask != 0, -torch.where(root < 0, root, at_root), 0).reshape(-1)
