"""The terms over instances, as formulas on tables: what every instance costs, and what the costs are divided by.

A formula maps a :class:`~nnunet_ici.instances.Table` to :class:`Shares`. :func:`total` turns these into a value, for
every term in the same way. Rows without an instance cost nothing: (0 + eps) / (0 + eps) = 1, so their Dice loss is 0.

Notation: p is the probability, y the label. G_n are the label instances, P_m the predicted instances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nnunet_ici.instances.segments import widest_float
from nnunet_ici.instances.source import Source
from nnunet_ici.instances.table import Table, find_instances, is_hit
from nnunet_ici.settings import FIXED_THRESHOLD, TermSettings

__all__ = ["FORMULAS", "Join", "Shares", "count_instances", "count_lesions", "evaluate", "total"]

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
        _images(t, join),
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
        assert t.label.entropy is not None and t.background.entropy is not None and t.background.voxels is not None
        voxels = (t.label.voxels + t.background.voxels).clamp(min=1)
        loss = loss + (t.label.entropy + t.background.entropy) / voxels
    return Shares(used * loss / of_image.clamp(min=1), None, join(_per_class(of_image > 0)).clamp(min=1))


def false_rate(t: Table, s: TermSettings, join: Join) -> Shares:
    """Rachmadi et al. (2024): missed and false instances of each image, as rates or numbers; the mean over the images.

    A missed instance counts by the mean probability that it lacks, a false one by the mean probability that it has.
    """
    costs = []
    for side, hit, weight, sign in zip((t.label, t.pred), is_hit(t), (1, s.false_weight), (-1, 1), strict=True):
        used = side.voxels > 0
        mean = side.prob / side.voxels.clamp(min=1)
        number = used.sum(2, keepdim=True).clamp(min=1) if s.rates else 1
        costs.append(weight * (used & ~hit) * ((1 - mean) if sign < 0 else mean) / number)
    return Shares(costs[0], costs[1], _images(t, join))


def proximity(t: Table, s: TermSettings, join: Join) -> Shares:
    """Rachmadi et al. (2024): (A - B)^2, where A and B sum distance times loss over label and predicted instances; the
    mean over the images.

    The product 2 A B, whose gradient would push missed instances down and false ones up, is 2 A' B' of the binary
    prediction, without gradient.
    """
    soft, hard = _distant_losses(t, s), _distant_losses(_binary(t), s)
    (a, b), (a_hard, b_hard) = (
        [sides[0][k].sum(2, keepdim=True) + sides[1][k].sum(2, keepdim=True) for k in (0, 1)] for sides in (soft, hard)
    )
    label, pred = (x[0] * a + x[1] * b - y[0] * b_hard - y[1] * a_hard for x, y in zip(soft, hard, strict=True))
    return Shares(label, pred, _images(t, join))


def _binary(t: Table) -> Table:
    """The table of the binary prediction: numbers of voxels in place of sums of the probability."""
    overlap, area, outside = (
        voxels.to(t.label.prob.dtype) for voxels in (t.label.part_voxels, t.pred.voxels, t.pred.part_voxels)
    )
    return t._replace(label=t.label._replace(prob=overlap, part=overlap), pred=t.pred._replace(prob=area, part=outside))


def _distant_losses(t: Table, s: TermSettings) -> list[tuple[Tensor, Tensor]]:
    """What the label and the predicted instances add to A and to B of :func:`proximity`.

    An image without predicted instances has an empty one in its middle, with the Dice loss of the whole label, as in
    the published code. The label instances bear its cost in equal parts; likewise without label instances.
    """
    assert t.nearest is not None
    s, voxels = replace(s, inner="dice"), t.pred.voxels.to(t.pred.prob.dtype)
    pred_loss = torch.where(is_hit(t)[1], pred_losses(t, s), t.pred.prob / (voxels + s.smooth))
    inside, size, predicted, area = (
        x.sum(2, keepdim=True) for x in (t.label.prob, t.label.voxels, t.pred.prob, voxels)
    )
    wholes = (dice_loss(inside, torch.zeros_like(inside), size, s.smooth), predicted / (area + s.smooth))
    added = []
    for side, near, loss, whole, others in zip(
        (t.label, t.pred), t.nearest, (label_losses(t, s), pred_loss), wholes, (area, size), strict=True
    ):
        used = side.voxels > 0
        nearest = pad(torch.where(used, near, 2), (0, 1), value=2).amin(2, keepdim=True)  # 2: no distance is larger
        whole = whole * nearest * (others == 0) / used.sum(2, keepdim=True).clamp(min=1)
        added.append((near * loss, used * whole))
    return [added[0], added[1][::-1]]


Formula = Callable[[Table, TermSettings, Join], Shares]
FORMULAS: dict[str, Formula] = {
    "instance": instance,
    "predicted": predicted,
    "center": center,
    "lesionwise": lesionwise,
    "pq": pq,
    "blob": blob,
    "false_rate": false_rate,
    "proximity": proximity,
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


def count_lesions(source: Source) -> Tensor:
    """The lesions of a prediction at 0.5, without gradient.

    Returns:
        Floating point (5,): :func:`count_instances`, and the sum over the label instances of their Dice with all
        predicted instances that touch them (Eq. 3). Divided by the numbers of label and false instances together, it is
        the lesion-wise Dice, :func:`~nnunet_ici.evaluation.metrics.lesion_dice`.
    """
    binary = source.prob.detach() >= FIXED_THRESHOLD
    if source.counted is not None:
        binary = binary & source.counted
    t = find_instances(Source.of_prob(binary.float(), source.label), FIXED_THRESHOLD)
    dice = (t.label.voxels > 0) * (1 - label_losses(t, TermSettings(exclude_other_instances=False)))
    total_dice = dice.sum(dtype=widest_float(dice.device))
    return torch.cat([count_instances(t).to(total_dice.dtype), total_dice[None]])


def evaluate(
    t: Table, names: Sequence[str], s: TermSettings, join: Join, dtype: torch.dtype
) -> tuple[list[Tensor], Tensor]:
    """Value of each term, a scalar of a dtype that is attached to the graph, and :func:`count_instances`."""
    values = [(total(FORMULAS[name](t, s, join), join) + t.zero).to(dtype) for name in names]
    return values, count_instances(t)


def _per_class(x: Tensor) -> Tensor:
    """(B, C, K) -> (C,): sum over the instances of the mini-batch."""
    return x.sum((0, 2), dtype=widest_float(x.device))


def _images(t: Table, join: Join) -> Tensor:
    """(C,): number of images of each class, at least 1."""
    batch, classes, _ = t.label.prob.shape
    return join(t.label.prob.new_full((classes,), batch, dtype=widest_float(t.label.prob.device))).clamp(min=1)
