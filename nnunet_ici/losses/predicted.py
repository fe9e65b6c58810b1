"""The dual term of the DICI loss: a Dice for every predicted instance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances, InstanceTerm, term_of
from nnunet_ici.losses.fused import FusedSettings
from nnunet_ici.losses.inner import check_inner, has_dice, has_entropy

__all__ = ["PredictedInstanceLoss", "predicted_instance_loss", "predicted_instance_term"]


def predicted_instance_term(found: FoundInstances, smooth: float = 1e-5, inner: str = "dice") -> Tensor:
    """:func:`predicted_instance_loss` on instances already found."""
    loss = torch.zeros_like(found.table.pred_size, dtype=found.sums.dtype)
    if has_dice(inner):
        loss = loss + _dice(found, smooth)
    if has_entropy(inner):
        loss = loss + _mean_entropy(found, inner)
    return found.mean_over_instances(loss, found.table.pred_image)


def _over_touched(found: FoundInstances, per_label: Tensor) -> Tensor:
    """(M,): for each predicted instance the sum of values (Z,) over the label instances that it touches."""
    table = found.table
    per_pred = per_label.new_zeros(len(table.pred_image))
    return per_pred.index_add(0, table.pair_pred - 1, per_label.index_select(0, table.pair_label - 1))


def _mean_entropy(found: FoundInstances, inner: str) -> Tensor:
    """(M,): the mean over the predicted instance and all of the label instances that it touches."""
    table, sums = found.table, found.entropy_sums(inner)
    outside = table.cell_label == 0
    wrong = table.sum_by_pred(torch.where(outside, sums, 0))
    wrong_size = table.sum_by_pred(torch.where(outside, table.cell_size, 0))
    touched_size = _over_touched(found, table.label_size)
    return (_over_touched(found, table.sum_by_label(sums)) + wrong) / (touched_size + wrong_size)


def _dice(found: FoundInstances, smooth: float) -> Tensor:
    """(M,): the Dice loss of each predicted instance, or its mean probability."""
    table = found.table
    total = table.sum_by_pred(found.sums)
    true = table.sum_by_pred(torch.where(table.cell_label > 0, found.sums, 0))
    touched_size = _over_touched(found, table.label_size)
    touching = 1 - (2 * true + smooth) / (total + touched_size + smooth)
    return torch.where(table.pred_is_hit, touching, total / table.pred_size)


@torch.compiler.disable
def predicted_instance_loss(
    prob: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    threshold: float = 0.5,
    smooth: float = 1e-5,
    inner: str = "dice",
) -> Tensor:
    r"""Dice loss of each predicted instance P_m against the label instances that touch it, averaged.

    .. math::
        L_m = 1 - \frac{2 \sum_{P_m, y = 1} p + \epsilon}{\sum_{P_m} p + |\bigcup S(m)| + \epsilon}
        \quad\text{or, where no label is touched,}\quad L_m = \mathrm{mean}_{P_m}\, p

    with :math:`|\bigcup S(m)|` the size of all label instances that touch P_m, whole. The mean runs over the predicted
    instances of the mini-batch, for each class; classes are averaged.

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. The whole size of the touched instances follows the authors'
    code (0.654472 on their example blobs). A false instance is 1 there whatever its probability, which teaches nothing;
    its mean probability is 1 on a binary prediction as well, and has a gradient, in label-free images too.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts.
        threshold: P_m are the components of ``prob >= threshold``.
        smooth: eps.
        inner: "dice"; or "bce", "focal" (gamma 2) or "dice_ce" (their sum, with the plain one), of which the
            cross-entropy is a mean over P_m and all of the touched label instances (Appendix J).

    Returns:
        A scalar, in [0, 1] for the Dice; without predicted instances 0, with a live graph.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or inner loss.

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
    check_inner(inner)
    settings = FusedSettings(smooth=smooth, center=False) if inner == "dice" else None
    term = partial(predicted_instance_term, smooth=smooth, inner=inner)
    return term_of("predicted", settings, term, prob, target, mask, threshold)


class PredictedInstanceLoss(InstanceTerm):
    """The module of :func:`predicted_instance_loss`.

    Args:
        smooth: eps.
        threshold: a number, or a (low, high) range drawn from at each call in training mode (0.5 in evaluation mode).
        seed: of the draws.
        inner: the loss of one instance.
    """

    def __init__(
        self, smooth: float = 1e-5, threshold: float | Sequence[float] = 0.5, seed: int = 0, inner: str = "dice"
    ) -> None:
        check_inner(inner)
        super().__init__(smooth, threshold, seed)
        self.inner = inner

    def loss(self, prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float) -> Tensor:
        return predicted_instance_loss(prob, target, mask, threshold=threshold, smooth=self.smooth, inner=self.inner)
