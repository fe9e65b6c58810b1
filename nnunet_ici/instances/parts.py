"""Instances of label and prediction, the pairs that touch, and sums over them: the input of every instance loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nnunet_ici.instances.cubes import Cubes, cover_counts
from nnunet_ici.instances.segments import segment_sum, take
from nnunet_ici.instances.source import Source

__all__ = ["Instances", "PartSums"]


@dataclass(frozen=True, eq=False)
class PartSums:
    """Sums of one voxel map over Z label instances, M predicted instances, and one part of each.

    Attributes:
        label: (Z,), sum over each label instance.
        overlap: (Z,), sum over the voxels of each label instance that lie in any predicted instance.
        pred: (M,), sum over each predicted instance.
        outside: (M,), sum over the voxels of each predicted instance that lie outside the label.
    """

    label: Tensor
    overlap: Tensor
    pred: Tensor
    outside: Tensor


class Instances(ABC):
    """Label instances 1..Z and predicted instances 1..M of the N = B * F images of a source.

    A label and a predicted instance touch if they share a voxel. Subclasses find the instances and compute the sums, in
    torch or in Triton; this class derives everything else.

    Attributes:
        source: source of the instances.
        label_image: int64 (Z,), index of the image that contains each label instance.
        pred_image: int64 (M,), index of the image that contains each predicted instance.
        pair_label: int (T,), label instance 1..Z of each touching pair; 0 for an unused entry.
        pair_pred: int (T,), predicted instance 1..M of each touching pair; 0 where ``pair_label`` is 0.
        voxels: numbers of voxels, int64.
        prob: sums of the probability, differentiable, float64 (float32 on MPS).
        zero: ``0 * sum(p)``, a differentiable scalar. Added to a loss, it keeps the graph alive without instances, and
            propagates a NaN from any voxel.
    """

    source: Source
    label_image: Tensor
    pred_image: Tensor
    pair_label: Tensor
    pair_pred: Tensor
    voxels: PartSums
    prob: PartSums
    zero: Tensor

    @abstractmethod
    def sums(self, values: Tensor) -> PartSums:
        """Sums of a voxel map.

        Args:
            values: float32 or float64 (B, F, *spatial), in [-100, 100].

        Returns:
            The sums, differentiable, float64 (float32 on MPS).
        """

    @cached_property
    @abstractmethod
    def label_center(self) -> Tensor:
        """int64 (Z, axes): ``floor(mean + 0.5)`` of the voxel coordinates of each label instance, exact."""

    @cached_property
    @abstractmethod
    def pred_center(self) -> Tensor:
        """int64 (M, axes): ``floor(mean + 0.5)`` of the voxel coordinates of each predicted instance, exact."""

    @cached_property
    def label_is_hit(self) -> Tensor:
        """bool (Z,): whether any predicted instance touches the label instance."""
        return self.voxels.overlap > 0

    @cached_property
    def pred_is_hit(self) -> Tensor:
        """bool (M,): whether the predicted instance touches any label instance."""
        return self.voxels.outside < self.voxels.pred

    @property
    def counts(self) -> Tensor:
        """int64 (4,): numbers of label, missed, predicted and false instances."""
        missed, false = (~self.label_is_hit).sum(), (~self.pred_is_hit).sum()
        labels, preds = (missed.new_full((), len(hit)) for hit in (self.label_is_hit, self.pred_is_hit))
        return torch.stack([labels, missed, preds, false])

    @property
    def label_cubes(self) -> Cubes:
        """Images and centers of the label instances."""
        return Cubes(self.label_image, self.label_center)

    @property
    def pred_cubes(self) -> Cubes:
        """Images and centers of the predicted instances."""
        return Cubes(self.pred_image, self.pred_center)

    def cover_counts(self, order: Tensor, halves: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Number of voxels in which each center cube ranks highest, see
        :func:`~nnunet_ici.instances.cubes.cover_counts`."""
        return cover_counts(self.source.images, self.label_cubes, self.pred_cubes, order, halves)

    def over_touching_preds(self, per_pred: Tensor) -> Tensor:
        """(Z,): for each label instance, the sum of values (M,) over the predicted instances that touch it."""
        return _over_pairs(per_pred, self.pair_pred, self.pair_label, len(self.label_image))

    def over_touching_labels(self, per_label: Tensor) -> Tensor:
        """(M,): for each predicted instance, the sum of values (Z,) over the label instances that touch it."""
        return _over_pairs(per_label, self.pair_label, self.pair_pred, len(self.pred_image))


def _over_pairs(values: Tensor, source: Tensor, target: Tensor, count: int) -> Tensor:
    """Sum values over touching pairs.

    Args:
        values: (S,), values of the source instances 1..S.
        source: int (T,), source instance of each pair, 0 for an unused entry.
        target: int (T,), target instance 1..count of each pair, 0 for an unused entry.
        count: number of target instances.

    Returns:
        (count,), sum over the pairs of each target instance.
    """
    with_nothing = torch.cat([values.new_zeros(1), values])
    return segment_sum(take(with_nothing, source), target, count + 1)[1:]
