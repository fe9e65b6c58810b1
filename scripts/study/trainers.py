"""Trainers that exist only in the study: the published form of the ICI loss, and ICI and Dual with narrower thresholds.

In the published form, the input is a probability map. A missed lesion therefore gets no gradient from the instance
term, and the center map is constant. Components are labeled by SciPy here instead of a fixed number of max-poolings,
because the study compares losses, not labelings.
"""

from __future__ import annotations

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunet_ici.instances import Source
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.trainers import nnUNetTrainerDual, nnUNetTrainerICI
from nnunet_ici.trainers.mixin import CompoundLossMixin
from scripts.benchmarks.published import ici_terms, label_by_scipy

__all__ = ["ABLATIONS", "PublishedICILoss", "nnUNetTrainerPublishedICI"]


class PublishedICILoss(CompoundLoss):
    """The loss ``global + published``, with the published terms of :func:`scripts.benchmarks.published.ici_terms`."""

    def __init__(self, global_loss: GlobalLoss, **options: Any) -> None:
        super().__init__(global_loss, 1.0, {"published": 1.0}, **options)
        self._published = ici_terms(label_by_scipy)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], Tensor | None]:
        return {"published": self._published(source.x, source.target)}, None


class nnUNetTrainerPublishedICI(CompoundLossMixin, nnUNetTrainer):
    """nnU-Net's own loss + the ICI terms as published. One foreground class, no regions, no ignore label."""

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"published": 1.0}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        if self.label_manager.has_regions or options["ignore_label"] is not None:
            raise NotImplementedError("the published terms support neither regions nor an ignore label")
        return PublishedICILoss(global_loss, **options)


class nnUNetTrainerICITau3to7(nnUNetTrainerICI):
    """ICI with thresholds from U(0.3, 0.7)."""

    threshold = (0.3, 0.7)


class nnUNetTrainerDualTau3to7(nnUNetTrainerDual):
    """Dual with thresholds from U(0.3, 0.7)."""

    threshold = (0.3, 0.7)


ABLATIONS = {
    trainer.__name__: trainer
    for trainer in (nnUNetTrainerPublishedICI, nnUNetTrainerICITau3to7, nnUNetTrainerDualTau3to7)
}
