"""The instances of label and prediction, which of them touch, and sums over their parts: what every loss reads."""

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
    """Sums of one voxel map over Z label and M predicted instances, and over the part of each where they meet or not.

    Attributes:
        label: (Z,), over each label instance.
        overlap: (Z,), over its part inside predicted instances.
        pred: (M,), over each predicted instance.
        outside: (M,), over its part off the label.
    """

    label: Tensor
    overlap: Tensor
    pred: Tensor
    outside: Tensor


class Instances(ABC):
    """Label instances 1..Z and predicted instances 1..M of the N = B * F images of a source.

    Subclasses find them and sum over them, in torch or in Triton; what follows from that is here.

    Attributes:
        source: what they were found in.
        label_image: int64 (Z,), the image each label instance lies in.
        pred_image: int64 (M,), the image each predicted instance lies in.
        pair_label: int (T,), the label instance of each touching pair, 1..Z; 0 at a place that holds no pair.
        pair_pred: int (T,), the predicted instance of each touching pair, 1..M; 0 where ``pair_label`` is.
        voxels: int64 numbers of voxels.
        prob: sums of the probability, differentiable, float64 (float32 on MPS).
        zero: ``0 * sum(p)``, a differentiable scalar: it keeps the graph alive where there is no instance, and carries
            a NaN wherever it lies.
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
        """The sums of a voxel map (B, F, *spatial), float32 or float64, with values in [-100, 100]; differentiable."""

    @cached_property
    @abstractmethod
    def label_center(self) -> Tensor:
        """int64 (Z, axes): ``floor(mean + 0.5)`` of the coordinates of each label instance, exactly."""

    @cached_property
    @abstractmethod
    def pred_center(self) -> Tensor:
        """int64 (M, axes): ``floor(mean + 0.5)`` of the coordinates of each predicted instance, exactly."""

    @cached_property
    def label_is_hit(self) -> Tensor:
        """bool (Z,): whether a predicted instance touches the label instance."""
        return self.voxels.overlap > 0

    @cached_property
    def pred_is_hit(self) -> Tensor:
        """bool (M,): whether the predicted instance touches a label instance."""
        return self.voxels.outside < self.voxels.pred

    @property
    def counts(self) -> Tensor:
        """int64 (4,): label, missed, predicted and false instances."""
        missed, false = (~self.label_is_hit).sum(), (~self.pred_is_hit).sum()
        labels, preds = (missed.new_full((), len(hit)) for hit in (self.label_is_hit, self.pred_is_hit))
        return torch.stack([labels, missed, preds, false])

    @property
    def label_cubes(self) -> Cubes:
        """The centers of the label instances."""
        return Cubes(self.label_image, self.label_center)

    @property
    def pred_cubes(self) -> Cubes:
        """The centers of the predicted instances."""
        return Cubes(self.pred_image, self.pred_center)

    def cover_counts(self, order: Tensor, halves: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """How many voxels each center cube covers: :func:`~nnunet_ici.instances.cubes.cover_counts`."""
        return cover_counts(self.source.images, self.label_cubes, self.pred_cubes, order, halves)

    def over_touching_preds(self, per_pred: Tensor) -> Tensor:
        """(Z,): for each label instance the sum of values (M,) over the predicted instances that touch it."""
        return _over_pairs(per_pred, self.pair_pred, self.pair_label, len(self.label_image))

    def over_touching_labels(self, per_label: Tensor) -> Tensor:
        """(M,): for each predicted instance the sum of values (Z,) over the label instances that touch it."""
        return _over_pairs(per_label, self.pair_label, self.pair_pred, len(self.pred_image))


def _over_pairs(values: Tensor, source: Tensor, target: Tensor, count: int) -> Tensor:
    """Sums (count,) by target 1..count of the values of the source instances 1..len(values); 0 is no instance."""
    with_nothing = torch.cat([values.new_zeros(1), values])
    return segment_sum(take(with_nothing, source), target, count + 1)[1:]
