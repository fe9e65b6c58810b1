"""Dilated balanced cross-entropy: a class is weighed together with its surroundings."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.dilation import dilate
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.problems import check_problem, class_masks, mean_over_problems
from nnunet_ici.losses.weighted_ce import weighted_cross_entropy

__all__ = ["DilatedBalancedCELoss", "dilated_balanced_ce_loss", "dilated_weights"]

RADIUS = 3


@torch.no_grad()
def dilated_weights(label: Tensor, mask: Tensor | None, classes: int, radius: int = RADIUS) -> Tensor:
    """The weight of every voxel: the largest of V / (C |D_c|) over the dilated classes D_c of its image that it lies
    in.

    Args:
        label: int64 (B, *spatial).
        mask: bool (B, *spatial), True = counts.
        classes: C.
        radius: of the ball that classes are dilated by, in voxels.

    Returns:
        float32 (B, *spatial), 0 for ignored voxels. V and |D_c| count no ignored voxels; an absent class has no D_c.
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
    logits: Tensor, label: Tensor, mask: Tensor | None = None, *, radius: int = RADIUS
) -> Tensor:
    r"""Cross-entropy balanced by the inverse frequency of dilated classes.

    .. math::
        L = \frac{\sum_v w(v)\, CE(v)}{\sum_v w(v)}, \quad w(v) = \max_{c:\, v \in D_c} \frac{V}{C |D_c|}

    with D_c the voxels within ``radius`` of class c in their image.

    Source: Hosseini & Baghshah, dilated balanced cross-entropy, 2024, of which the abstract only was at hand: inverse
    frequency of the dilated area, for the class together with its surroundings. The maximum where dilated classes
    overlap, the normalisation and the default radius are our reading.

    Args:
        logits: (B, C, *spatial), 2D or 3D, for a softmax.
        label: int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), True = counts.
        radius: in voxels, 0 or more.

    Returns:
        A scalar; 0 where nothing counts.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or radius.

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
    check_problem(logits, label, mask)
    check_radius(radius)
    return weighted_cross_entropy(logits, label, dilated_weights(label, mask, logits.shape[1], radius))


def check_radius(radius: int) -> None:
    """Raise ValueError unless ``radius`` is an integer, 0 or more."""
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise ValueError(f"radius must be an integer, 0 or more. Got: {radius!r}")


class DilatedBalancedCELoss(CompoundLoss):
    """Dilated balanced cross-entropy, alone unless a global loss, such as Dice, is given a weight.

    Args:
        global_loss: called as ``global_loss(net_output, target)``, or None.
        global_weight: its weight.
        dbce_weight: that of :func:`dilated_balanced_ce_loss`. Of regions each is a softmax over two classes.
        radius: in voxels.
        **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = 0.0,
        dbce_weight: float = 1.0,
        *,
        radius: int = RADIUS,
        **options: Any,
    ) -> None:
        check_radius(radius)
        super().__init__(global_loss, global_weight, {"dbce": dbce_weight}, **options)
        self.radius = radius

    def compute_terms(self, net_output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], None]:
        loss = partial(dilated_balanced_ce_loss, radius=self.radius)
        return {"dbce": mean_over_problems(loss, net_output, target, self.ignore_label)}, None
