"""Region-wise loss with rectified maps.

Probability outside a region has the same cost everywhere; probability inside is rewarded more towards the middle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_ici.instances.distance import distance_to
from nnunet_ici.losses.over_classes import OverClassesLoss, check_logits, class_masks

__all__ = ["RegionWiseLoss", "map_loss", "rectified_map", "region_wise_loss"]


def map_loss(logits: Tensor, maps: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of softmax times map over classes and voxels.

    Args:
        logits: softmax logits, (B, C, *spatial).
        maps: same shape as ``logits``.
        mask: bool (B, *spatial), False for ignored voxels, or None.
    """
    product = torch.softmax(logits, 1) * maps
    if mask is None:
        return product.sum() / max(product.numel(), 1)
    # A NaN at an ignored voxel must also propagate.
    return torch.where(mask[:, None], product, 0 * product).sum() / (mask.sum() * logits.shape[1]).clamp(min=1)


@torch.no_grad()
def rectified_map(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """The map z: -d / max(d) inside a class, +1 outside, where d is the distance to the nearest voxel outside.

    Args:
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels, which lie outside every class.
        classes: number of classes C, with the background.

    Returns:
        float32 (B, C, *spatial). The map of a class that fills its image is -1 everywhere.
    """
    masks = class_masks(label, mask, classes)
    distance = distance_to(~masks.flatten(0, 1)).reshape(masks.shape)
    largest = distance.flatten(2).amax(2).reshape(*masks.shape[:2], *[1] * (label.ndim - 1))
    inside = torch.where(largest.isinf(), -1.0, -distance / largest.clamp(min=1))
    return torch.where(masks, inside, 1.0)


@torch.compiler.disable
def region_wise_loss(logits: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Region-wise loss with rectified maps.

    .. math:: L = \mathrm{mean}_{v, c}\; \mathrm{softmax}_c(v)\, z_c(v)

    For each image and class, including background, z is -d / max(d) inside the class and +1 outside, where d is the
    exact Euclidean distance in voxels to the nearest voxel outside. The loss is minimal, and negative, for a prediction
    that equals the label.

    Source: Valverde & Tohka, Region-wise loss for biomedical image segmentation, 2023.

    Args:
        logits: softmax logits, floating point (B, C, *spatial), 2D or 3D.
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels.

    Returns:
        A scalar in [-1, 1]; 0 if every voxel is ignored.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> label[0, 2:5, 2:5] = 1
        >>> logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> loss = region_wise_loss(logits, label)
        >>> loss.backward()
        >>> bool(logits.grad[0, 1, 3, 3] < 0), bool(logits.grad[0, 1, 7, 7] > 0)
        (True, True)
    """
    check_logits(logits, label, mask)
    return map_loss(logits, rectified_map(label, mask, logits.shape[1]), mask)


class RegionWiseLoss(OverClassesLoss):
    """Module form of :func:`region_wise_loss`.

    The arguments are those of :class:`~nnunet_ici.losses.over_classes.OverClassesLoss`.
    """

    name, function = "region_wise", staticmethod(region_wise_loss)
