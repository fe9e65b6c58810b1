"""Two losses in which every lesion counts once: lesion-wise Dice and panoptic quality."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nnunet_ici.instances.segments import take
from nnunet_ici.losses.compound import GlobalLoss
from nnunet_ici.losses.found import FoundInstances
from nnunet_ici.losses.instance import losses_of_labels
from nnunet_ici.losses.instance_compound import InstanceCompoundLoss
from nnunet_ici.losses.predicted import losses_of_preds
from nnunet_ici.losses.term import InstanceTerm, value_of_term
from nnunet_ici.settings import FIXED_THRESHOLD, LOSSES, TermSettings

__all__ = [
    "LesionWiseLoss",
    "LesionWiseTerm",
    "PQLoss",
    "PQTerm",
    "lesionwise_loss",
    "lesionwise_parts",
    "pq_loss",
    "pq_parts",
]

WEIGHTS = LOSSES["nnUNetTrainerLesionWise"].weights  # PQ has the same weights


def _false_losses(found: FoundInstances, settings: TermSettings) -> tuple[Tensor, Tensor]:
    """Loss of each predicted instance, 0 if it touches a label, and whether it touches none, 1 or 0; both (M,)."""
    losses = losses_of_preds(found, settings)
    is_false = (~found.instances.pred_is_hit).to(losses.dtype)
    return is_false * losses, is_false


def lesionwise_parts(found: FoundInstances, settings: TermSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Numerators and denominator of the lesion-wise loss.

    Returns:
        Loss of each label instance, (Z,); weighted loss of each predicted instance, (M,), 0 if it touches a label; and
        the divisor of their sum for each class, (C,), which is 0 for a class without instances.
    """
    instances = found.instances
    of_labels = losses_of_labels(found, settings)
    of_false, is_false = _false_losses(found, settings)
    lesions = found.total_by_class(torch.ones_like(of_labels), instances.label_image)
    lesions = lesions + settings.false_weight * found.total_by_class(is_false, instances.pred_image)
    return of_labels, settings.false_weight * of_false, lesions


def lesionwise_term(found: FoundInstances, settings: TermSettings) -> Tensor:
    """:func:`lesionwise_loss`, for instances that were found before."""
    of_labels, of_false, lesions = lesionwise_parts(found, settings)
    total = found.total_by_class(of_labels, found.instances.label_image)
    total = total + found.total_by_class(of_false, found.instances.pred_image)
    return found.over_classes(total / torch.where(lesions > 0, lesions, 1))


def pq_parts(found: FoundInstances, settings: TermSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Numerators and denominator of the PQ loss.

    The loss is written as a quotient with 1 - (a + eps) / (b + eps) = (b - a) / (b + eps).

    Returns:
        Cost of each label instance, (Z,): 2 - 2 Dice if it is hit, 1 - 2 Dice if it is missed; cost of each predicted
        instance, (M,), 0 if it touches a label; and the divisor of their sum for each class, (C,).
    """
    instances = found.instances
    lesions = 1 + instances.label_is_hit.to(instances.prob.label.dtype)
    of_labels = lesions - 2 * (1 - losses_of_labels(found, settings))
    of_false, is_false = _false_losses(found, settings)
    whole, of_label, false, of_pred = (
        found.total_by_class(values, image)
        for values, image in (
            (lesions, instances.label_image),
            (torch.ones_like(lesions), instances.label_image),
            (is_false, instances.pred_image),
            (of_false, instances.pred_image),
        )
    )
    # For a class without label instances, the loss is the mean over its false instances.
    alone = of_label == 0
    weight = torch.full_like(whole, settings.false_weight).masked_fill(alone, 1)
    whole = torch.where(alone, false.clamp(min=1), whole + settings.false_weight * of_pred + settings.smooth)
    of_class = instances.pred_image % found.classes
    return of_labels, take(weight, of_class) * of_false, whole


def pq_term(found: FoundInstances, settings: TermSettings) -> Tensor:
    """:func:`pq_loss`, for instances that were found before."""
    of_labels, of_false, whole = pq_parts(found, settings)
    total = found.total_by_class(of_labels, found.instances.label_image)
    total = total + found.total_by_class(of_false, found.instances.pred_image)
    return found.over_classes(total / whole)


@torch.compiler.disable
def lesionwise_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""One minus the lesion-wise Dice: every found, missed and false lesion counts once, whatever its size.

    .. math::
        L = \frac{\sum_n (1 - D_n) + f \sum_{m\ false} s_m}{Z + f F}

    where D_n is the Dice of label instance G_n (one minus its loss in :func:`~nnunet_ici.losses.instance_loss`), s_m is
    the mean probability of a false instance, a predicted instance P_m that touches no label, and f is ``false_weight``.
    Z and F are the numbers of label and false instances in the mini-batch. Each class is treated separately, then the
    classes are averaged.

    Source: this package. On binary predictions, with f = 1, this is one minus
    :func:`~nnunet_ici.evaluation.brats.lesion_wise_dice`, up to eps. With Eq. 3 of Rachmadi et al., this is the
    lesion-wise Dice of the BraTS challenges since 2023 (the sum of the lesions' Dice divided by TP + FN + FP), without
    their dilation and minimum volume. With Eq. 5, the default, a predicted instance that covers several lesions is not
    penalized, in the Dice of one lesion, for the voxels of the others.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        threshold: threshold of the predicted instances P_m, the components of ``prob >= threshold``.
        **settings: ``exclude_other_instances``, ``inner``, ``false_weight`` and ``smooth`` of
            :class:`~nnunet_ici.settings.TermSettings`. An inner loss other than Dice replaces 1 - D_n for G_n, and s_m
            for P_m.

    Returns:
        A scalar, in [0, 1] for Dice. Without any instance it is 0 and stays attached to the graph.

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1:3, 1:3] = target[0, 0, 5, 5] = True  # four voxels, one voxel
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 1:3, 1:3] = 1  # the large one is found
        >>> prob[0, 0, 1:3, 6] = 0.75  # false
        >>> _ = prob.requires_grad_()
        >>> loss = lesionwise_loss(prob, target)
        >>> loss.backward()
        >>> round(loss.item(), 3)  # (0 + 1 + 0.75) / 3
        0.583
        >>> bool(prob.grad[0, 0, 5, 5] < 0), bool(prob.grad[0, 0, 1, 6] > 0)
        (True, True)
    """
    return value_of_term(LesionWiseTerm, prob, target, mask, threshold, settings)


@torch.compiler.disable
def pq_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""One minus a panoptic quality with Dice: lesions are counted as in the F1 score.

    .. math::
        L = 1 - \frac{2 \sum_n D_n + \epsilon}{Z + H + f \sum_{m\ false} s_m + \epsilon}
        \quad\text{or, where } Z = 0,\quad L = \mathrm{mean}_m\, s_m

    where D_n, s_m, Z and f are defined in :func:`lesionwise_loss`. H is the number of label instances that a predicted
    instance touches; it has no gradient. A false lesion weighs (1 - L) / 2 times as much as a missed one, as in the F1
    score. Sums run over the mini-batch. Each class is treated separately, then the classes are averaged.

    Source: this package, after the panoptic quality of Kirillov et al., CVPR 2019, with Dice instead of IoU.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        threshold: threshold of the predicted instances P_m, the components of ``prob >= threshold``.
        **settings: ``exclude_other_instances``, ``false_weight`` and ``smooth`` of
            :class:`~nnunet_ici.settings.TermSettings`. The inner loss is always Dice, because a quality lies in [0, 1].

    Returns:
        A scalar, in [0, 1] on binary predictions. Without any instance it is 0 and stays attached to the graph. Lesions
        just below the threshold can make it negative, because they count in the numerator but not in H: a single lesion
        with p = 0.49 everywhere gives -0.315 at the threshold 0.5.

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1:3, 1:3] = target[0, 0, 5, 5] = True
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 1:3, 1:3] = 1  # one found, one missed
        >>> round(pq_loss(prob, target).item(), 3)  # 1 - 2 / (2 + 1)
        0.333
        >>> prob[0, 0, 1:3, 6] = 1  # and one false
        >>> round(pq_loss(prob, target).item(), 3)  # 1 - 2 / (2 + 1 + 1)
        0.5
    """
    return value_of_term(PQTerm, prob, target, mask, threshold, settings)


class LesionWiseTerm(InstanceTerm):
    """Module form of :func:`lesionwise_loss`; same arguments as :class:`~nnunet_ici.losses.term.InstanceTerm`."""

    name, term = "lesionwise", staticmethod(lesionwise_term)


class PQTerm(InstanceTerm):
    """Module form of :func:`pq_loss`; same arguments as :class:`~nnunet_ici.losses.term.InstanceTerm`."""

    name, term = "pq", staticmethod(pq_term)


class LesionWiseLoss(InstanceCompoundLoss):
    r"""A global loss plus :func:`lesionwise_loss`.

    .. math:: L = g L_{global} + w L_{lesionwise}

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        term_weight: w.
        **options: further arguments of :class:`~nnunet_ici.losses.instance_compound.InstanceCompoundLoss`, with the
            settings of :func:`lesionwise_loss`.

    Example:
        >>> import torch
        >>> loss = LesionWiseLoss(lambda z, y: torch.nn.functional.cross_entropy(z, y[:, 0].long()), false_weight=0.5)
        >>> target = torch.zeros(1, 1, 16, 16, dtype=torch.int16)
        >>> target[0, 0, 4:6, 4:6] = 1
        >>> logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
        >>> loss(logits, target).backward()
        >>> bool(logits.grad[0, 1, 4, 4] < 0)
        True
    """

    TERMS: ClassVar[tuple[type[InstanceTerm], ...]] = (LesionWiseTerm,)

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = WEIGHTS["global_weight"],
        term_weight: float = WEIGHTS["term_weight"],
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {self.TERMS[0].name: term_weight}, **options)


class PQLoss(LesionWiseLoss):
    r"""A global loss plus :func:`pq_loss`.

    .. math:: L = g L_{global} + w L_{pq}

    The arguments are those of :class:`LesionWiseLoss`, with the settings of :func:`pq_loss`.
    """

    TERMS = (PQTerm,)
