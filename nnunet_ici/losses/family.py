"""The instance-level family of Rachmadi et al. (2024): false instance rate and instance proximity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.losses.compound import GlobalLoss
from nnunet_ici.losses.ici import InstanceCompoundLoss
from nnunet_ici.losses.term import Term, value_of
from nnunet_ici.settings import FIXED_THRESHOLD, LOSSES

__all__ = [
    "FalseInstanceRateLoss",
    "InstanceFamilyLoss",
    "InstanceProximityLoss",
    "false_instance_rate_loss",
    "instance_proximity_loss",
]

WEIGHTS = LOSSES["nnUNetTrainerInstanceFamily"].weights


@torch.compiler.disable
def false_instance_rate_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Rates of missed label instances G_n and of false predicted instances P_m in an image, averaged over the images.

    .. math::
        L = \frac{1}{Z} \sum_{n\ \mathrm{missed}} \left( 1 - \mathrm{mean}_{G_n}\, p \right)
            + \frac{f}{M} \sum_{m\ \mathrm{false}} \mathrm{mean}_{P_m}\, p

    where Z and M are the numbers of label and predicted instances of the image. An instance is missed or false if it
    touches none of the other side. Each class is treated separately, then the classes are averaged.

    Source: Rachmadi, Byra & Skibbe, A new family of instance-level loss functions, Computers in Biology and Medicine
    174:108414, 2024, and the authors' code (BrainImageAnalysis/instance-loss). On binary predictions the values equal
    the published ones, which have no gradient. The mean probabilities and the weight f are ours.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        threshold: threshold of the predicted instances P_m, the components of ``prob >= threshold``.
        **settings: ``false_weight`` (f, default 1) and ``rates`` of :class:`~nnunet_ici.settings.TermSettings`.
            ``rates=False`` gives numbers: Z = M = 1 in the formula. The published code returns either.

    Returns:
        A scalar, in [0, 1 + f] for rates. An image without instances counts as 0.

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1, 1] = target[0, 0, 5, 5] = True
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 1, 1] = prob[0, 0, 3, 7] = prob[0, 0, 7, 0] = 1  # one of two found, two of three false
        >>> round(false_instance_rate_loss(prob, target).item(), 3)  # 1 / 2 + 2 / 3
        1.167
        >>> false_instance_rate_loss(prob, target, rates=False).item()
        3.0
    """
    return value_of("false_rate", prob, target, mask, threshold, settings)


@torch.compiler.disable
def instance_proximity_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Squared difference of the distance-weighted losses of label and predicted instances, averaged over the images.

    .. math::
        L = A^2 + B^2 - 2 A' B', \quad A = \sum_n \min_m d(n, m)\, L_n, \quad B = \sum_m \min_n d(n, m)\, L_m

    where L_n and L_m are the losses of :func:`~nnunet_ici.losses.instance_loss` and
    :func:`~nnunet_ici.losses.predicted_instance_loss`, and d is the distance-IoU between the bounding boxes of a label
    and a predicted instance. The boxes are widened on each side by their own extent and clipped to the image. A' and B'
    are A and B of the binary prediction, without gradient. Each class is treated separately, then the classes are
    averaged.

    Source: as :func:`false_instance_rate_loss`. On binary predictions L is the published (A - B)^2. On probabilities
    the gradient of the product 2 A B would push missed instances down and false ones up; without it every missed
    instance is pulled up and every false one pushed down. The published code leaves out predicted instances beyond 50,
    or 50 times the label instances; here all are compared.

    Args:
        prob, target, mask, threshold: as for :func:`false_instance_rate_loss`.
        **settings: ``exclude_other_instances`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`.

    Returns:
        A scalar. It grows with the square of the number of instances, and can be negative on probabilities. An image
        without instances counts as 0. If only one side has instances, a box of two voxels per axis in the middle of the
        image stands for the other side, as in the published code.

    Raises:
        TypeError, ValueError: as :func:`false_instance_rate_loss`.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
        >>> target[0, 0, 3, 3] = target[0, 0, 12, 3] = True
        >>> prob = torch.full((1, 1, 16, 16), 0.1)
        >>> prob[0, 0, 3, 12] = 0.9  # two missed, one false
        >>> _ = prob.requires_grad_()
        >>> instance_proximity_loss(prob, target).backward()
        >>> bool(prob.grad[0, 0, 3, 3] < 0), bool(prob.grad[0, 0, 12, 3] < 0), bool(prob.grad[0, 0, 3, 12] > 0)
        (True, True, True)
    """
    return value_of("proximity", prob, target, mask, threshold, settings)


class FalseInstanceRateLoss(Term):
    """As :func:`false_instance_rate_loss`."""

    name = "false_rate"


class InstanceProximityLoss(Term):
    """As :func:`instance_proximity_loss`."""

    name = "proximity"


class InstanceFamilyLoss(InstanceCompoundLoss):
    r"""The DICI loss plus :func:`false_instance_rate_loss` and :func:`instance_proximity_loss`.

    .. math:: L = g L_{global} + i L_{instance} + p L_{predicted} + c L_{center} + r L_{rate} + d L_{proximity}

    Source: as :func:`false_instance_rate_loss`. The weights are ours. That of the proximity is small because the square
    grows with the number of instances.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        instance_weight: i.
        predicted_weight: p.
        center_weight: c.
        false_rate_weight: r.
        proximity_weight: d.
        **options: further arguments of :class:`~nnunet_ici.losses.ici.InstanceCompoundLoss`, with the settings of the
            terms.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = WEIGHTS["global_weight"],
        instance_weight: float = WEIGHTS["instance_weight"],
        predicted_weight: float = WEIGHTS["predicted_weight"],
        center_weight: float = WEIGHTS["center_weight"],
        false_rate_weight: float = WEIGHTS["false_rate_weight"],
        proximity_weight: float = WEIGHTS["proximity_weight"],
        **options: Any,
    ) -> None:
        weights = {
            "instance": instance_weight,
            "predicted": predicted_weight,
            "center": center_weight,
            "false_rate": false_rate_weight,
            "proximity": proximity_weight,
        }
        super().__init__(global_loss, global_weight, weights, **options)
