"""The instance term of the ICI loss: one Dice loss per label instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances
from nnunet_ici.losses.term import InstanceTerm, value_of_term
from nnunet_ici.settings import FIXED_THRESHOLD, TermSettings

__all__ = ["InstanceLoss", "instance_loss", "instance_term", "losses_of_labels"]


def instance_term(found: FoundInstances, settings: TermSettings) -> Tensor:
    """:func:`instance_loss`, for instances that were found before."""
    return found.mean_over_labels(losses_of_labels(found, settings))


def losses_of_labels(found: FoundInstances, settings: TermSettings) -> Tensor:
    """(Z,): inner loss of each label instance against the predicted instances that touch it."""
    instances = found.instances
    loss = torch.zeros_like(instances.prob.label)
    if settings.has_dice:
        inside, size = instances.prob.label, instances.voxels.label
        if settings.exclude_other_instances:
            wrong = instances.over_touching_preds(instances.prob.outside)
        else:
            wrong = instances.over_touching_preds(instances.prob.pred) - instances.prob.overlap
        loss = loss + 1 - (2 * inside + settings.smooth) / (inside + wrong + size + settings.smooth)
    if settings.has_entropy:
        entropy = found.entropy_sums(settings.inner)
        wrong, voxels = (
            instances.over_touching_preds(outside) for outside in (entropy.outside, instances.voxels.outside)
        )
        loss = loss + (entropy.label + wrong) / (instances.voxels.label + voxels)
    return loss


@torch.compiler.disable
def instance_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Dice loss of each label instance G_n against the predicted instances P_m that touch it, averaged.

    .. math::
        L = \frac{1}{Z} \sum_n \left[ 1 - \frac{2 I_n + \epsilon}{I_n + FP_n + |G_n| + \epsilon} \right]

    where I_n is the sum of p over G_n. FP_n is the sum of p over the voxels of the touching P_m that lie outside the
    label (Eq. 5, the default) or outside G_n (Eq. 3). Z is the number of label instances in the mini-batch. Each class
    is treated separately, then the classes are averaged.

    Source: Rachmadi et al., MIDL 2023 (PMLR 227:286-300), Eq. 3, Eq. 5 and Algorithm 1. On binary predictions the
    values equal the paper's. On probabilities, the published code either sums p only inside predicted instances, so
    that missed instances get no gradient, or binarizes p, so that there is no gradient at all. Here I_n includes all
    voxels of G_n, and components are labeled until convergence.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        threshold: threshold of the predicted instances P_m, the components of ``prob >= threshold``.
        **settings: ``exclude_other_instances``, ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`.
            A cross-entropy as inner loss is averaged over the same voxels: G_n, and the touching P_m outside the label
            (Appendix J).

    Returns:
        A scalar, in [0, 1] for Dice. Without label instances it is 0 and stays attached to the graph. (The authors'
        code adds a Dice against an empty label in this case; Eq. 3 does not.)

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1:3, 1:3] = target[0, 0, 5:7, 5:7] = True
        >>> logits = torch.full((1, 1, 8, 8), -2.0, requires_grad=True)  # both missed
        >>> loss = instance_loss(logits.sigmoid(), target)
        >>> loss.backward()
        >>> round(loss.item(), 4), bool((logits.grad[target] < 0).all())
        (0.787, True)
    """
    return value_of_term(InstanceLoss, prob, target, mask, threshold, settings)


class InstanceLoss(InstanceTerm):
    """Module form of :func:`instance_loss`; same arguments as :class:`~nnunet_ici.losses.term.InstanceTerm`."""

    name = "instance"
    term = staticmethod(instance_term)
