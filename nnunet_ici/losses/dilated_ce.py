"""Dilated balanced cross-entropy: classes are balanced by the size of their dilated masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_ici.instances.dilation import dilate
from nnunet_ici.instances.segments import widest_float
from nnunet_ici.losses.over_classes import OverClassesLoss, check_logits, class_masks
from nnunet_ici.settings import DILATION_RADIUS, check_radius

__all__ = ["DilatedBalancedCELoss", "dilated_balanced_ce_loss", "dilated_weights"]


@torch.no_grad()
def dilated_weights(label: Tensor, mask: Tensor | None, classes: int, radius: int = DILATION_RADIUS) -> Tensor:
    """Weight of every voxel: the maximum of V / (C |D_c|) over the dilated classes D_c that contain it.

    Args:
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels.
        classes: number of classes C, with the background.
        radius: radius of the dilation in voxels.

    Returns:
        float32 (B, *spatial), 0 for ignored voxels. V and |D_c|, the numbers of voxels of the image and of D_c, exclude
        ignored voxels. A class that is absent from its image does not contribute.
    """
    masks = class_masks(label, mask, classes)
    dilated = dilate(masks.flatten(0, 1), radius).reshape(masks.shape)
    voxels = label.new_full((len(label), 1), label[0].numel() if len(label) else 0)
    if mask is not None:
        dilated &= mask[:, None]
        voxels = mask.flatten(1).sum(1, keepdim=True)
    size = dilated.flatten(2).sum(2)
    of_class = torch.where(size > 0, voxels / (classes * size.clamp(min=1)), 0.0).to(torch.float32)
    of_class = of_class.reshape(*size.shape, *[1] * (label.ndim - 1))
    return (dilated * of_class).amax(1)


@torch.compiler.disable
def dilated_balanced_ce_loss(
    logits: Tensor, label: Tensor, mask: Tensor | None = None, *, radius: int = DILATION_RADIUS
) -> Tensor:
    r"""Cross-entropy balanced by the inverse frequency of dilated classes.

    .. math::
        L = \frac{\sum_v w(v)\, CE(v)}{\sum_v w(v)}, \quad w(v) = \max_{c:\, v \in D_c} \frac{V}{C |D_c|}

    where V is the number of voxels of the image, C the number of classes, and D_c the set of voxels within ``radius``
    of class c in the same image.

    Source: Hosseini & Baghshah, dilated balanced cross-entropy, 2024. Only the abstract was available. It describes a
    weight by the inverse frequency of the dilated area, assigned to the class together with its surroundings. The
    maximum where dilated classes overlap, the normalization and the default radius are our interpretation.

    Args:
        logits: softmax logits, floating point (B, C, *spatial), 2D or 3D.
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels.
        radius: radius of the dilation in voxels, 0 or more.

    Returns:
        A scalar; 0 if every voxel is ignored.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape or the radius is invalid.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 16, 16, dtype=torch.int64)
        >>> label[0, 3, 3] = 1
        >>> logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
        >>> dilated_balanced_ce_loss(logits, label).backward()
        >>> near, far = logits.grad[0, 1, 3, 5].item(), logits.grad[0, 1, 12, 12].item()
        >>> round(near / far, 2)  # 29 voxels of 256 lie in the dilated class
        8.83
    """
    check_logits(logits, label, mask)
    check_radius(radius)
    weight = dilated_weights(label, mask, logits.shape[1], radius)
    entropy = F.cross_entropy(logits, label, reduction="none")
    total = weight.sum(dtype=widest_float(weight.device)).clamp(min=torch.finfo(torch.float32).tiny)
    return (entropy * weight).sum() / total.to(entropy.dtype)


class DilatedBalancedCELoss(OverClassesLoss):
    """Module form of :func:`dilated_balanced_ce_loss`, with an optional global loss such as Dice.

    Args:
        *weighted: global loss and weights, as for :class:`~nnunet_ici.losses.over_classes.OverClassesLoss`.
        radius: radius of the dilation in voxels, 0 or more.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.

    Raises:
        ValueError: if the radius or a weight is invalid.
    """

    name, function = "dbce", staticmethod(dilated_balanced_ce_loss)

    def __init__(self, *weighted: Any, radius: int = DILATION_RADIUS, **options: Any) -> None:
        check_radius(radius)
        super().__init__(*weighted, **options)
        self.radius = radius

    @property
    def settings(self) -> dict[str, Any]:
        return {"radius": self.radius}
