"""The terms over instances, as formulas on tables: what every instance costs, and what the costs are divided by.

A formula maps a :class:`~nnunet_ici.instances.Table` to :class:`Shares`. :func:`total` turns these into a value, for
every term in the same way. Rows without an instance cost nothing: (0 + eps) / (0 + eps) = 1, so their Dice loss is 0.

Notation: p is the probability, y the label. G_n are the label instances, P_m the predicted instances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnunet_ici.instances.segments import widest_float
from nnunet_ici.instances.table import Table, is_hit
from nnunet_ici.settings import TermSettings

__all__ = ["FORMULAS", "Join", "Shares", "count_instances", "evaluate", "total"]

Join = Callable[[Tensor], Tensor]  # sums a tensor over the ranks of a distributed training; differentiable


class Shares(NamedTuple):
    """What the instances cost in a term.

    Attributes:
        label: cost of each label instance, (B, C, K), or None.
        pred: cost of each predicted instance, (B, C, K'), or None.
        divisor: (C,), joined over the ranks: the term of a class is the sum of its costs over this.
    """

    label: Tensor | None
    pred: Tensor | None
    divisor: Tensor


def dice_loss(true: Tensor, false: Tensor, size: Tensor, eps: float) -> Tensor:
    """One minus the Dice of an instance: sum of p inside it, sum of p outside it, number of voxels."""
    return 1 - (2 * true + eps) / (true + false + size + eps)


def label_losses(t: Table, s: TermSettings) -> Tensor:
    """Loss of each G_n against the P_m that touch it (Rachmadi et al., 2023, Eq. 3; Eq. 5 by default)."""
    loss = torch.zeros_like(t.label.prob)
    if s.has_dice:
        if s.exclude_other_instances:
            false = t.over_preds(t.pred.part)
        else:
            false = t.over_preds(t.pred.prob) - t.label.part
        loss = loss + dice_loss(t.label.prob, false, t.label.voxels, s.smooth)
    if s.has_entropy:
        assert t.label.entropy is not None and t.pred.part_entropy is not None
        false, voxels = t.over_preds(t.pred.part_entropy), t.label.voxels + t.over_preds(t.pred.part_voxels)
        loss = loss + (t.label.entropy + false) / voxels.clamp(min=1)
    return loss


def pred_losses(t: Table, s: TermSettings) -> Tensor:
    """Loss of each P_m against the G_n that touch it (Eq. 6); of a false one the mean probability or cross-entropy."""
    loss = torch.zeros_like(t.pred.prob)
    touched = t.over_labels(t.label.voxels)
    if s.has_dice:
        touching = dice_loss(t.pred.prob - t.pred.part, t.pred.part, touched, s.smooth)
        loss = loss + torch.where(is_hit(t)[1], touching, t.pred.prob / t.pred.voxels.clamp(min=1))
    if s.has_entropy:
        assert t.label.entropy is not None and t.pred.part_entropy is not None
        sums = t.over_labels(t.label.entropy) + t.pred.part_entropy
        loss = loss + sums / (touched + t.pred.part_voxels).clamp(min=1)
    return loss


def false_losses(t: Table, s: TermSettings) -> tuple[Tensor, Tensor]:
    """Loss of each P_m that touches no label, 0 for the others; and whether it is one, 0 or 1."""
    is_false = ((t.pred.voxels > 0) & ~is_hit(t)[1]).to(t.pred.prob.dtype)
    return is_false * pred_losses(t, s), is_false


def instance(t: Table, s: TermSettings, join: Join) -> Shares:
    """Eq. 3 and Eq. 5 of Rachmadi et al.: the mean over the label instances of the mini-batch."""
    return Shares(label_losses(t, s), None, join(_per_class(t.label.voxels > 0)).clamp(min=1))


def predicted(t: Table, s: TermSettings, join: Join) -> Shares:
    """Eq. 6: the mean over the predicted instances of the mini-batch."""
    return Shares(None, pred_losses(t, s), join(_per_class(t.pred.voxels > 0)).clamp(min=1))


def center(t: Table, s: TermSettings, join: Join) -> Shares:
    """Eq. 4: errors between the maps of center cubes, over the sizes of both maps; the mean over the images.

    A cube has the value 0 for a hit label instance, 1 for a predicted instance that touches a label, else the mean p.
    """
    assert t.cover is not None
    label_hit, pred_hit = is_hit(t)
    label = torch.where(label_hit, 0, t.label.prob / t.label.voxels.clamp(min=1))
    pred = torch.where(pred_hit, 1, t.pred.prob / t.pred.voxels.clamp(min=1))
    size = t.cover.size.to(label.dtype)[:, :, None] + s.smooth
    return Shares(
        (t.cover.label_elsewhere * label + t.cover.label_inside * (1 - label)) / size,
        (t.cover.pred_elsewhere * pred + t.cover.pred_inside * (1 - pred)) / size,
        join(label.new_full((label.shape[1],), label.shape[0], dtype=widest_float(label.device))).clamp(min=1),
    )


def lesionwise(t: Table, s: TermSettings, join: Join) -> Shares:
    """Ours: every found, missed and false lesion counts once."""
    false, is_false = false_losses(t, s)
    lesions = join(_per_class(t.label.voxels > 0) + s.false_weight * _per_class(is_false))
    return Shares(label_losses(t, s), s.false_weight * false, torch.where(lesions > 0, lesions, 1))


def pq(t: Table, s: TermSettings, join: Join) -> Shares:
    """Ours, after Kirillov et al. (2019): the quotient of an F1, with 1 - (a + eps) / (b + eps) = (b - a) / (b + eps).

    A class without label instances has the mean over its false instances.
    """
    used, hit = t.label.voxels > 0, is_hit(t)[0]
    false, is_false = false_losses(t, s)
    sums = torch.stack([_per_class(x) for x in (used, hit, is_false, false)])
    labels, hits, false_number, false_sum = join(sums).unbind()
    alone = labels == 0
    weight = torch.where(alone, torch.ones_like(labels), s.false_weight)
    divisor = torch.where(alone, false_number.clamp(min=1), labels + hits + s.false_weight * false_sum + s.smooth)
    costs = used.to(false.dtype) + hit - 2 * used * (1 - label_losses(t, s))
    return Shares(costs, weight[None, :, None] * false, divisor)


def blob(t: Table, s: TermSettings, join: Join) -> Shares:
    """Kofler et al. (2022): each label instance in its image without the others; the mean per image, then over images.

    Only images with an instance count.
    """
    assert t.background is not None
    used = t.label.voxels > 0
    of_image = used.sum(2, keepdim=True)
    loss = torch.zeros_like(t.label.prob)
    if s.has_dice:
        loss = loss + dice_loss(t.label.prob, t.background.prob, t.label.voxels, s.smooth)
    if s.has_entropy:
        assert t.label.entropy is not None and t.background.entropy is not None
        voxels = (t.label.voxels + t.background.voxels).clamp(min=1)
        loss = loss + (t.label.entropy + t.background.entropy) / voxels
    return Shares(used * loss / of_image.clamp(min=1), None, join(_per_class(of_image > 0)).clamp(min=1))


Formula = Callable[[Table, TermSettings, Join], Shares]
FORMULAS: dict[str, Formula] = {
    "instance": instance,
    "predicted": predicted,
    "center": center,
    "lesionwise": lesionwise,
    "pq": pq,
    "blob": blob,
}


def total(shares: Shares, join: Join) -> Tensor:
    """The value of a term, a scalar: costs summed per class over all ranks, divided, averaged over the classes."""
    sums = [_per_class(costs) for costs in (shares.label, shares.pred) if costs is not None]
    return (join(sum(sums[1:], sums[0])) / shares.divisor).mean()


def count_instances(t: Table) -> Tensor:
    """int64 (4,): numbers of label, missed, predicted and false instances."""
    counts = []
    for side, hit in zip((t.label, t.pred), is_hit(t), strict=True):
        used = side.voxels > 0
        counts += [used.sum(), (used & ~hit).sum()]
    return torch.stack(counts)


def evaluate(
    t: Table, names: Sequence[str], s: TermSettings, join: Join, dtype: torch.dtype
) -> tuple[list[Tensor], Tensor]:
    """Value of each term, a scalar of a dtype that is attached to the graph, and :func:`count_instances`."""
    values = [(total(FORMULAS[name](t, s, join), join) + t.zero).to(dtype) for name in names]
    return values, count_instances(t)


def _per_class(x: Tensor) -> Tensor:
    """(B, C, K) -> (C,): sum over the instances of the mini-batch."""
    return x.sum((0, 2), dtype=widest_float(x.device))
