"""The instance term of the ICI loss: a Dice for every label instance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances, InstanceTerm, term_of
from nnunet_ici.losses.fused import FusedSettings
from nnunet_ici.losses.inner import check_inner, has_dice, has_entropy

__all__ = ["InstanceLoss", "instance_loss", "instance_term"]


def instance_term(
    found: FoundInstances, exclude_other_instances: bool = True, smooth: float = 1e-5, inner: str = "dice"
) -> Tensor:
    """:func:`instance_loss` on instances already found."""
    loss = torch.zeros_like(found.table.label_size, dtype=found.sums.dtype)
    if has_dice(inner):
        loss = loss + _dice(found, exclude_other_instances, smooth)
    if has_entropy(inner):
        loss = loss + _mean_entropy(found, inner)
    return found.mean_over_instances(loss, found.table.label_image)


def _mean_entropy(found: FoundInstances, inner: str) -> Tensor:
    """(Z,): the mean over the label instance and the wrong voxels of the predicted instances that touch it."""
    table, sums = found.table, found.entropy_sums(inner)
    outside = table.cell_label == 0
    wrong = _over_touching(found, table.sum_by_pred(torch.where(outside, sums, 0)))
    wrong_size = _over_touching(found, table.sum_by_pred(torch.where(outside, table.cell_size, 0)))
    return (table.sum_by_label(sums) + wrong) / (table.label_size + wrong_size)


def _dice(found: FoundInstances, exclude_other_instances: bool, smooth: float) -> Tensor:
    """(Z,): the Dice loss of each label instance."""
    table = found.table
    inside = table.sum_by_label(found.sums)
    if exclude_other_instances:
        outside_label = torch.where(table.cell_label == 0, found.sums, 0)
        wrong = _over_touching(found, table.sum_by_pred(outside_label))
    else:
        hit_inside = table.sum_by_label(torch.where(table.cell_pred > 0, found.sums, 0))
        wrong = _over_touching(found, table.sum_by_pred(found.sums)) - hit_inside
    dice = (2 * inside + smooth) / (inside + wrong + table.label_size + smooth)
    return 1 - dice


def _over_touching(found: FoundInstances, per_pred: Tensor) -> Tensor:
    """(Z,): for each label instance the sum of values (M,) over the predicted instances that touch it."""
    table = found.table
    per_label = per_pred.new_zeros(len(table.label_image))
    return per_label.index_add(0, table.pair_label - 1, per_pred.index_select(0, table.pair_pred - 1))


@torch.compiler.disable
def instance_loss(
    prob: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    threshold: float = 0.5,
    exclude_other_instances: bool = True,
    smooth: float = 1e-5,
    inner: str = "dice",
) -> Tensor:
    r"""Dice loss of each label instance G_n against the predicted instances P_m that touch it, averaged.

    .. math::
        L = \frac{1}{Z} \sum_n \left[ 1 - \frac{2 I_n + \epsilon}{I_n + FP_n + |G_n| + \epsilon} \right]

    with I_n the sum of p over G_n and FP_n that over the touching P_m, off the label (Eq. 5; the default) or
    off G_n (Eq. 3). Z counts the instances of the mini-batch, for each class; classes are averaged.

    Source: Rachmadi et al., MIDL 2023 (PMLR 227:286-300), Eq. 3, Eq. 5 and Algorithm 1. On binary predictions the
    values are the paper's. On probabilities the published code sums p only where the prediction is cut out, so that a
    missed instance gets no gradient, or binarises p, so that nothing does; here I_n runs over all of G_n. Components
    are labelled to convergence.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts.
        threshold: P_m are the components of ``prob >= threshold``.
        exclude_other_instances: Eq. 5, which does not punish a P_m for what it covers of other label instances; False:
            Eq. 3.
        smooth: eps.
        inner: "dice"; or "bce", "focal" (gamma 2) or "dice_ce" (their sum, with the plain one), of which the
            cross-entropy is a mean over the same voxels: G_n, and those of the touching P_m off the label (Appendix J).

    Returns:
        A scalar, in [0, 1] for the Dice; without label instances 0, with a live graph (the authors' code adds a Dice
        against an empty label there; Eq. 3 does not).

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or inner loss.
        NotImplementedError: for Eq. 3 with another inner loss than Dice.

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
    check_inner(inner, exclude_other_instances)
    settings = FusedSettings(exclude_other_instances, smooth, center=False)
    term = partial(instance_term, exclude_other_instances=exclude_other_instances, smooth=smooth, inner=inner)
    return term_of("instance", settings if inner == "dice" else None, term, prob, target, mask, threshold)


class InstanceLoss(InstanceTerm):
    """The module of :func:`instance_loss`.

    Args:
        exclude_other_instances: True for Eq. 5, False for Eq. 3.
        smooth: eps.
        threshold: a number, or a (low, high) range drawn from at each call in training mode (0.5 in evaluation mode).
        seed: of the draws.
        inner: the loss of one instance.
    """

    def __init__(
        self,
        exclude_other_instances: bool = True,
        smooth: float = 1e-5,
        threshold: float | Sequence[float] = 0.5,
        seed: int = 0,
        inner: str = "dice",
    ) -> None:
        check_inner(inner, exclude_other_instances)
        super().__init__(smooth, threshold, seed)
        self.exclude_other_instances = exclude_other_instances
        self.inner = inner

    def loss(self, prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float) -> Tensor:
        return instance_loss(
            prob,
            target,
            mask,
            threshold=threshold,
            exclude_other_instances=self.exclude_other_instances,
            smooth=self.smooth,
            inner=self.inner,
        )
