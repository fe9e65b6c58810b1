"""Inverse weighting: voxels of the cross-entropy weighted by the inverse size of their component of the label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_ici.instances import label_components
from nnunet_ici.instances.segments import flat_nonzero
from nnunet_ici.losses.over_classes import OverClassesLoss, check_logits, class_masks

__all__ = ["InverseWeightingLoss", "inverse_weighting_loss", "inverse_weights"]

LIMITS = (1.0, 2e5)  # of the weights


@torch.no_grad()
def inverse_weights(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """Weight of every voxel: V / ((K + 1) |L_k|) for the component L_k that contains it, clipped to :data:`LIMITS`.

    Args:
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels.
        classes: number of classes C, with the background.

    Returns:
        float32 (B, *spatial), 0 for ignored voxels. K is the number of components of all foreground classes in the
        image; the background counts as one more. V is the number of voxels of the image that are not ignored.
    """
    masks = class_masks(label, mask, classes)
    ids, counts = label_components(masks[:, 1:].flatten(0, 1))
    batch, size = len(label), label[:1].numel()
    counted = masks.any(1)
    voxels = counted.flatten(1).sum(1)
    share = voxels / (counts.reshape(batch, classes - 1).sum(1) + 1)  # total weight of each part of an image
    background = masks[:, 0].flatten(1).sum(1).clamp(min=1)
    weight = (share / background).to(torch.float32).clamp(*LIMITS)[:, None] * counted.flatten(1)

    # The component of each foreground voxel, numbered over all images.
    at = flat_nonzero(ids > 0)
    channel = torch.div(at, size, rounding_mode="floor")
    component = ids.reshape(-1)[at] - 1 + (counts.cumsum(0) - counts)[channel]
    sample = torch.div(channel, classes - 1, rounding_mode="floor")
    by_component = share[sample] / torch.bincount(component)[component]
    weight.reshape(-1)[sample * size + at - channel * size] = by_component.to(torch.float32).clamp(*LIMITS)
    return weight.reshape(label.shape)


@torch.compiler.disable
def inverse_weighting_loss(logits: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Cross-entropy weighted by the inverse size of the label components.

    .. math:: L = \mathrm{mean}_v\; w(v)\, CE(v), \quad w(v) = \frac{\sum_k |L_k|}{(K + 1)\, |L_{k(v)}|}

    where k runs over the K foreground components of an image and its background. Each of these K + 1 parts would have
    the same total weight, but the weights are clipped to [1, 2e5]. The background, whose weight is mostly below 1,
    thereby gains weight.

    Source: Shirokikh et al., Universal loss reweighting to balance lesion size inequality, MICCAI 2020; the limits and
    the plain mean follow the authors' code (neuro-ml/inverse_weighting), which is binary.

    Args:
        logits: softmax logits, floating point (B, C, *spatial), 2D or 3D.
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels.

    Returns:
        A scalar; 0 if every voxel is ignored.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 10, 10, dtype=torch.int64)
        >>> label[0, 0, 0] = label[0, 4:8, 4:8] = 1  # 1 voxel, 16 voxels
        >>> logits = torch.zeros(1, 2, 10, 10, requires_grad=True)
        >>> inverse_weighting_loss(logits, label).backward()
        >>> round((logits.grad[0, 1, 0, 0] / logits.grad[0, 1, 5, 5]).item(), 3)
        16.0
    """
    check_logits(logits, label, mask)
    weighted = inverse_weights(label, mask, logits.shape[1]) * F.cross_entropy(logits, label, reduction="none")
    return weighted.sum() / max(weighted.numel(), 1) if mask is None else weighted.sum() / mask.sum().clamp(min=1)


class InverseWeightingLoss(OverClassesLoss):
    """Module form of :func:`inverse_weighting_loss`.

    The arguments are those of :class:`~nnunet_ici.losses.over_classes.OverClassesLoss`.
    """

    name, function = "inverse_weighting", staticmethod(inverse_weighting_loss)
