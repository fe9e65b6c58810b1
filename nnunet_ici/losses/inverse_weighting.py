"""Inverse weighting: every connected component of the label has the same total weight in the cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_ici.instances import label_components
from nnunet_ici.instances.segments import flat_nonzero
from nnunet_ici.losses.over_classes import OverClassesLoss, check_logits, class_masks
from nnunet_ici.losses.weighted_ce import weighted_cross_entropy

__all__ = ["InverseWeightingLoss", "inverse_weighting_loss", "inverse_weights"]


@torch.no_grad()
def inverse_weights(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """Weight of every voxel: V / ((K + 1) |L_k|) for the component L_k that contains it.

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
    weight = (share / background).to(torch.float32)[:, None].expand(batch, size) * counted.flatten(1)

    # The component of each foreground voxel, numbered over all images.
    at = flat_nonzero(ids > 0)
    channel = torch.div(at, size, rounding_mode="floor")
    component = ids.reshape(-1)[at] - 1 + (counts.cumsum(0) - counts)[channel]
    sample = torch.div(channel, classes - 1, rounding_mode="floor")
    by_component = share[sample] / torch.bincount(component)[component]
    weight.reshape(-1)[sample * size + at - channel * size] = by_component.to(torch.float32)
    return weight.reshape(label.shape)


@torch.compiler.disable
def inverse_weighting_loss(logits: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Cross-entropy weighted by the inverse size of the label components.

    .. math:: L = \frac{\sum_v w(v)\, CE(v)}{\sum_v w(v)}, \quad w(v) = \frac{\sum_k |L_k|}{(K + 1)\, |L_{k(v)}|}

    where k runs over the K foreground components of an image and its background. Each of these K + 1 parts has the same
    total weight.

    Source: Shirokikh et al., Universal loss reweighting to balance lesion size inequality, MICCAI 2020.

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
    return weighted_cross_entropy(logits, label, inverse_weights(label, mask, logits.shape[1]))


class InverseWeightingLoss(OverClassesLoss):
    """Module form of :func:`inverse_weighting_loss`.

    The arguments are those of :class:`~nnunet_ici.losses.over_classes.OverClassesLoss`.
    """

    name, function = "inverse_weighting", staticmethod(inverse_weighting_loss)
