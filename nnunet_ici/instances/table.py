"""Tables of the instances of a mini-batch: one row for each instance that an image may have, zero where there is none.

Every table has the shape (B, C, K): sample, class, row. On the CPU K is the largest number of instances of an image; in
the kernels it is the number of 2 x 2 (x 2) blocks of an image, because all foreground voxels of such a block belong to
one component. Its size then follows from the shape of the patch, and nothing has to be counted on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnunet_ici.instances.entropy import entropy
from nnunet_ici.instances.kernels import uses_kernels
from nnunet_ici.instances.pairs import pair_sum
from nnunet_ici.instances.segments import segment_sum, take, widest_float
from nnunet_ici.instances.source import Source

__all__ = ["Background", "Cover", "Side", "Table", "find_instances", "is_hit"]


class Side(NamedTuple):
    """Sums over the instances of one side, label or prediction, each (B, C, K).

    A part is, of a label instance, its voxels in any predicted instance; of a predicted instance, its voxels outside
    the label.

    Attributes:
        voxels: number of voxels, integer.
        part_voxels: number of voxels of the part, integer.
        prob: sum of the probability, differentiable.
        part: sum of the probability over the part, differentiable.
        entropy, part_entropy: the same sums of a cross-entropy, or None.
    """

    voxels: Tensor
    part_voxels: Tensor
    prob: Tensor
    part: Tensor
    entropy: Tensor | None = None
    part_entropy: Tensor | None = None


class Cover(NamedTuple):
    """Voxels covered by cubes at the centers of the instances.

    A voxel belongs to the cube with the highest value that contains it. In ascending order these are hit label
    instances, then missed and false instances by their mean probability, then predicted instances that touch a label.

    Attributes:
        label_elsewhere, pred_elsewhere: integer (B, C, K), voxels of each cube outside the cubes of label instances.
        label_inside, pred_inside: integer (B, C, K), voxels of each cube inside the cubes of label instances.
        size: integer (B, C), voxels in cubes of label instances plus voxels in cubes of predicted instances.
    """

    label_elsewhere: Tensor
    label_inside: Tensor
    pred_elsewhere: Tensor
    pred_inside: Tensor
    size: Tensor


class Background(NamedTuple):
    """Sums over the voxels of each image outside the label, without ignored voxels, each (B, C, 1).

    Attributes:
        prob: sum of the probability, differentiable.
        voxels, entropy: number of voxels, integer, and sum of a cross-entropy, differentiable; or None.
    """

    prob: Tensor
    voxels: Tensor | None = None
    entropy: Tensor | None = None


class Table(NamedTuple):
    """The instances of a mini-batch.

    A label and a predicted instance touch if they share a voxel.

    Attributes:
        label: sums over label instances, (B, C, K).
        pred: sums over predicted instances, (B, C, K'); K' may differ from K.
        pair_label: integer (T,), row of the label instance of each touching pair in a flat table (B * C * K).
        pair_pred: integer (T,), row of the predicted instance of each touching pair, likewise.
        pair_used: bool (T,), False for an unused entry, whose rows are 0; None if all are used.
        zero: ``0 * sum(p)``, a differentiable scalar. Added to a loss, it keeps the graph alive without instances, and
            propagates a NaN from any voxel.
        cover: center cubes, or None.
        background: sums outside the label, or None.
        nearest: of each label instance, (B, C, K), and of each predicted instance, (B, C, K'), the smallest
            :func:`~nnunet_ici.instances.boxes.distance_iou` to a box of the other side, without gradient; or None.
    """

    label: Side
    pred: Side
    pair_label: Tensor
    pair_pred: Tensor
    pair_used: Tensor | None
    zero: Tensor
    cover: Cover | None = None
    background: Background | None = None
    nearest: tuple[Tensor, Tensor] | None = None

    def over_preds(self, per_pred: Tensor) -> Tensor:
        """(B, C, K): for each label instance, the sum of values (B, C, K') over the predicted instances it touches."""
        return _over(per_pred, self.pair_pred, self.pair_label, self.pair_used, self.label.voxels)

    def over_labels(self, per_label: Tensor) -> Tensor:
        """(B, C, K'): for each predicted instance, the sum of values (B, C, K) over the label instances it touches."""
        return _over(per_label, self.pair_label, self.pair_pred, self.pair_used, self.pred.voxels)


def _over(values: Tensor, source: Tensor, target: Tensor, used: Tensor | None, like: Tensor) -> Tensor:
    if used is None:
        return segment_sum(take(values.reshape(-1), source), target, like.numel()).reshape(like.shape)
    return pair_sum(values.reshape(-1), source, target, used, like.numel()).reshape(like.shape)


def is_hit(table: Table) -> tuple[Tensor, Tensor]:
    """bool (B, C, K) and (B, C, K'): whether each label and each predicted instance touches one of the other side."""
    return table.label.part_voxels > 0, table.pred.part_voxels < table.pred.voxels


def find_instances(
    source: Source,
    threshold: float | Tensor,
    *,
    inner: str = "dice",
    halves: Sequence[int] | None = None,
    background: bool = False,
    boxes: bool = False,
) -> Table:
    """Find the instances of label and prediction, with differentiable sums of the probability over them.

    Args:
        source: probabilities or logits, and a target.
        threshold: threshold of the predicted instances, the components of ``p >= threshold``, a number or a scalar
            tensor; above 1 there are none.
        inner: "dice" for sums of the probability only; otherwise sums of a cross-entropy as well, see
            :func:`~nnunet_ici.instances.entropy.entropy`.
        halves: half width of the center cubes along each spatial axis, or None for no cubes.
        background: whether to sum over the voxels outside the label, too.
        boxes: whether to compare the bounding boxes of the instances. This is done in plain torch on every device, and
            reads back.

    Returns:
        The tables, from the Triton kernels if :func:`~nnunet_ici.instances.kernels.uses_kernels` is True, else from
        plain torch. Values and gradients are deterministic: they do not depend on the order in which a device adds
        numbers.
    """
    if uses_kernels(source.x) and not boxes:
        from nnunet_ici.instances._triton_find import find_by_kernels

        table = find_by_kernels(source, threshold, inner, halves)
    else:
        from nnunet_ici.instances.cells import find_in_torch

        table = find_in_torch(source, threshold, inner, halves, boxes)
    return table._replace(background=_sum_background(source, inner)) if background else table


def _sum_background(source: Source, inner: str) -> Background:
    outside = ~source.label if source.counted is None else ~source.label & source.counted

    def over_outside(values: Tensor) -> Tensor:
        return torch.where(outside, values, 0).flatten(2).sum(2, keepdim=True, dtype=widest_float(values.device))

    of_prob = over_outside(source.prob)
    if inner == "dice":
        return Background(of_prob)
    voxels = outside.flatten(2).sum(2, keepdim=True)
    return Background(of_prob, voxels, over_outside(entropy(source.prob, source.label, inner)))
