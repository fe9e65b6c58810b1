"""Inverse weighting: every component of the label weighs the same in the cross-entropy, whatever its size."""

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
    """The weight of every voxel: V / ((K + 1) |L_k|) for the component L_k it lies in.

    Args:
        label: int64 (B, *spatial).
        mask: bool (B, *spatial), True = counts.
        classes: C.

    Returns:
        float32 (B, *spatial), 0 for ignored voxels. K is the number of components of all foreground classes of
        the image; the background counts as one more. V is the number of voxels that count.
    """
    masks = class_masks(label, mask, classes)
    ids, counts = label_components(masks[:, 1:].flatten(0, 1))
    batch, size = len(label), label[:1].numel()
    counted = masks.any(1)
    voxels = counted.flatten(1).sum(1)
    share = voxels / (counts.reshape(batch, classes - 1).sum(1) + 1)  # of each part of an image
    background = masks[:, 0].flatten(1).sum(1).clamp(min=1)
    weight = (share / background).to(torch.float32)[:, None].expand(batch, size) * counted.flatten(1)

    # Components, numbered through all images, at the foreground voxels only.
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

    over the K components of the foreground of an image and its background, so that each of these K + 1 weighs the same.

    Source: Shirokikh et al., Universal loss reweighting to balance lesion size inequality, MICCAI 2020.

    Args:
        logits: (B, C, *spatial), 2D or 3D, for a softmax.
        label: int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), True = counts.

    Returns:
        A scalar; 0 where nothing counts.

    Raises:
        TypeError, ValueError: a wrong dtype or shape.

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
    """:func:`inverse_weighting_loss`, alone unless a global loss is given a weight; arguments as of
    :class:`~nnunet_ici.losses.over_classes.OverClassesLoss`."""

    name, function = "inverse_weighting", staticmethod(inverse_weighting_loss)
