"""The dual term of the DICI loss: one Dice loss per predicted instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances
from nnunet_ici.losses.term import InstanceTerm, value_of_term
from nnunet_ici.settings import FIXED_THRESHOLD, TermSettings

__all__ = ["PredictedInstanceLoss", "losses_of_preds", "predicted_instance_loss", "predicted_instance_term"]


def predicted_instance_term(found: FoundInstances, settings: TermSettings) -> Tensor:
    """:func:`predicted_instance_loss`, for instances that were found before."""
    return found.mean_over_preds(losses_of_preds(found, settings))


def losses_of_preds(found: FoundInstances, settings: TermSettings) -> Tensor:
    """(M,): inner loss of each predicted instance against the label instances that it touches.

    For a false instance it is the mean probability, the mean cross-entropy, or their sum, as the inner loss is Dice, a
    cross-entropy, or their sum.
    """
    instances = found.instances
    loss = torch.zeros_like(instances.prob.pred)
    touched = instances.over_touching_labels(instances.voxels.label)
    if settings.has_dice:
        total, outside = instances.prob.pred, instances.prob.outside
        touching = 1 - (2 * (total - outside) + settings.smooth) / (total + touched + settings.smooth)
        loss = loss + torch.where(instances.pred_is_hit, touching, total / instances.voxels.pred)
    if settings.has_entropy:
        entropy = found.entropy_sums(settings.inner)
        sums = instances.over_touching_labels(entropy.label) + entropy.outside
        loss = loss + sums / (touched + instances.voxels.outside)
    return loss


@torch.compiler.disable
def predicted_instance_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Dice loss of each predicted instance P_m against the label instances that touch it, averaged.

    .. math::
        L_m = 1 - \frac{2 \sum_{P_m, y = 1} p + \epsilon}{\sum_{P_m} p + |\bigcup S(m)| + \epsilon}
        \quad\text{or, where no label is touched,}\quad L_m = \mathrm{mean}_{P_m}\, p

    where :math:`|\bigcup S(m)|` is the total size of the label instances that touch P_m, including their voxels outside
    P_m. The mean runs over the predicted instances of the mini-batch. Each class is treated separately, then the
    classes are averaged.

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. The total size of the touched instances follows the authors'
    code (0.654472 on their example blobs). In that code a false instance costs 1 whatever its probability, which gives
    no gradient. The mean probability is also 1 on a binary prediction and does have a gradient, even in images without
    lesions.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        threshold: threshold of the predicted instances P_m, the components of ``prob >= threshold``.
        **settings: ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`. A cross-entropy as inner
            loss is averaged over P_m and all voxels of the touched label instances (Appendix J).

    Returns:
        A scalar, in [0, 1] for Dice. Without predicted instances it is 0 and stays attached to the graph.

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)  # nothing to find
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 2:4, 2:4] = 0.75
        >>> _ = prob.requires_grad_()
        >>> loss = predicted_instance_loss(prob, target)
        >>> loss.backward()
        >>> loss.item(), prob.grad[0, 0, 2, 2].item()
        (0.75, 0.25)
    """
    return value_of_term(PredictedInstanceLoss, prob, target, mask, threshold, settings)


class PredictedInstanceLoss(InstanceTerm):
    """Module form of :func:`predicted_instance_loss`.

    The arguments are those of :class:`~nnunet_ici.losses.term.InstanceTerm`.
    """

    name = "predicted"
    term = staticmethod(predicted_instance_term)
