"""Inverse weighting: every component of the label weighs the same in the cross-entropy, whatever its size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances import label_components
from nnunet_ici.instances.table import flat_nonzero
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.problems import check_problem, class_masks, mean_over_problems
from nnunet_ici.losses.weighted_ce import weighted_cross_entropy

__all__ = ["InverseWeightingLoss", "inverse_weighting_loss", "inverse_weights"]


@torch.no_grad()
def inverse_weights(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """The weight of every voxel: V / ((K + 1) |L_k|) for the component L_k it lies in.

    Args:
        label: int64 (B, *spatial).
        mask: bool (B, *spatial), True = counts.
        classes: C.

    Returns:
        float32 (B, *spatial), 0 for ignored voxels. K components of all foreground classes of the image, and the
        background as one more; V voxels in all, of those that count.
    """
    masks = class_masks(label, mask, classes)
    ids, counts = label_components(masks[:, 1:].flatten(0, 1))
    batch, size = len(label), label[:1].numel()
    counted = masks.any(1)
    voxels = counted.flatten(1).sum(1)
    share = voxels / (counts.reshape(batch, classes - 1).sum(1) + 1)  # of each part of an image
    background = masks[:, 0].flatten(1).sum(1).clamp(min=1)
    weight = (share / background).to(torch.float32)[:, None].expand(batch, size) * counted.flatten(1)

    # Components, counted on from image to image, at the foreground voxels only.
    at = flat_nonzero(ids > 0)
    channel = torch.div(at, size, rounding_mode="floor")
    component = ids.reshape(-1)[at] - 1 + (counts.cumsum(0) - counts)[channel]
    sample = torch.div(channel, classes - 1, rounding_mode="floor")
    by_component = share[sample] / torch.bincount(component)[component]
    weight.reshape(-1)[sample * size + at - channel * size] = by_component.to(torch.float32)
    return weight.reshape(label.shape)


@torch.compiler.disable
def inverse_weighting_loss(logits: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Cross-entropy weighted by the inverse size of the components of the label.

    .. math:: L = \frac{\sum_v w(v)\, CE(v)}{\sum_v w(v)}, \quad w(v) = \frac{\sum_k |L_k|}{(K + 1)\, |L_{k(v)}|}

    over the K components of the foreground of an image and its background as one more, so that each of the K + 1 weighs
    the same.

    Source: Shirokikh et al., Universal loss reweighting to balance lesion size inequality, MICCAI 2020.

    Args:
        logits: (B, C, *spatial), 2D or 3D, for a softmax.
        label: int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), True = counts.

    Returns:
        A scalar; 0 where nothing counts.

    Raises:
        TypeError, ValueError: for a wrong dtype or shape.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 10, 10, dtype=torch.int64)
        >>> label[0, 0, 0] = label[0, 4:8, 4:8] = 1  # 1 voxel, 16 voxels
        >>> logits = torch.zeros(1, 2, 10, 10, requires_grad=True)
        >>> inverse_weighting_loss(logits, label).backward()
        >>> round((logits.grad[0, 1, 0, 0] / logits.grad[0, 1, 5, 5]).item(), 3)
        16.0
    """
    check_problem(logits, label, mask)
    return weighted_cross_entropy(logits, label, inverse_weights(label, mask, logits.shape[1]))


class InverseWeightingLoss(CompoundLoss):
    """Inverse weighting, alone unless a global loss is given a weight.

    Args:
        global_loss: called as ``global_loss(net_output, target)``, or None.
        global_weight: its weight.
        inverse_weight: that of :func:`inverse_weighting_loss`. Of regions each is a softmax over two classes.
        **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = 0.0,
        inverse_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"inverse_weighting": inverse_weight}, **options)

    def compute_terms(self, net_output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], None]:
        value = mean_over_problems(inverse_weighting_loss, net_output, target, self.ignore_label)
        return {"inverse_weighting": value}, None
