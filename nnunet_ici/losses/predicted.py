"""The dual term of the DICI loss: a Dice for every predicted instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances
from nnunet_ici.losses.term import InstanceTerm, value_of_term
from nnunet_ici.settings import FIXED_THRESHOLD, TermSettings

__all__ = ["PredictedInstanceLoss", "losses_of_preds", "predicted_instance_loss", "predicted_instance_term"]


def predicted_instance_term(found: FoundInstances, settings: TermSettings) -> Tensor:
    """:func:`predicted_instance_loss` on instances already found."""
    return found.mean_over_preds(losses_of_preds(found, settings))


def losses_of_preds(found: FoundInstances, settings: TermSettings) -> Tensor:
    """(M,): the inner loss of each predicted instance and the label instances that it touches. A false one has
    its mean probability, its mean cross-entropy, or their sum."""
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

    with :math:`|\bigcup S(m)|` the size of all label instances that touch P_m, whole. The mean runs over the predicted
    instances of the mini-batch, for each class; classes are averaged.

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. The whole size of the touched instances follows the authors'
    code (0.654472 on their example blobs). There a false instance costs 1 whatever its probability, which teaches
    nothing. Its mean probability is 1 on a binary prediction as well, and has a gradient, also in images without
    labels.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts.
        threshold: P_m are the components of ``prob >= threshold``.
        **settings: ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`. The cross-entropy of an
            inner loss is a mean over P_m and all of the touched label instances (Appendix J).

    Returns:
        A scalar, in [0, 1] for the Dice; without predicted instances 0, with a live graph.

    Raises:
        TypeError, ValueError: a wrong dtype, shape or setting.

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
    """The module of :func:`predicted_instance_loss`; arguments as of :class:`~nnunet_ici.losses.term.InstanceTerm`."""

    name = "predicted"
    term = staticmethod(predicted_instance_term)
