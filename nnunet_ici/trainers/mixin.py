"""What turns an nnU-Net trainer into an instance-aware one: it wraps the host's loss, and logs the terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nnunet_ici.losses.ici import DICILoss, InstanceCompoundLoss
from nnunet_ici.trainers.history import TermHistory

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Host
else:
    _Host = object

__all__ = ["InstanceLossMixin"]


class InstanceLossMixin(_Host):
    """Adds instance terms to the loss of the nnU-Net trainer it is mixed into.

    Planning, sampling, augmentation, network, optimizer and inference stay the host's. Options are class attributes, to
    be set in a subclass: ``class MyTrainer(nnUNetTrainerICI): center_size = 5``.

    Attributes:
        global_weight, instance_weight, predicted_weight, center_weight: weights of the terms. The sum is that of the
            deep-supervision scales, as the host weighs them.
        center_size: edge of the center cubes in voxels at full resolution, odd; smaller scales get smaller ones, 3 at
            least.
        threshold: of the predicted instances: a number, or a range that every call of the loss draws from. Validation
            uses 0.5 in the place of a range.
        threshold_seed: of the draws. Their position is checkpointed; every rank draws the same.
        exclude_other_instances: True for Eq. 5 of the paper, False for Eq. 3.
        finest_scale_only: compute the terms for the full-resolution output only.
        epochs: length of the training, or None for the host's.
    """

    global_weight: ClassVar[float] = 1.0
    instance_weight: ClassVar[float] = 1.0
    predicted_weight: ClassVar[float] = 0.0
    center_weight: ClassVar[float] = 1.0
    center_size: ClassVar[int | Sequence[int]] = 7
    threshold: ClassVar[float | Sequence[float]] = (0.1, 0.9)
    threshold_seed: ClassVar[int] = 0
    exclude_other_instances: ClassVar[bool] = True
    finest_scale_only: ClassVar[bool] = False
    epochs: ClassVar[int | None] = None

    # nnU-Net reads the names of these parameters and stores them in its checkpoints: no others may be added.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.epochs is not None:
            self.num_epochs = self.epochs
        self._history = TermHistory(self.logger, self.logged_terms())

    @classmethod
    def logged_terms(cls) -> list[str]:
        """The names of the terms with weight, the global loss first."""
        weights = {
            "global": cls.global_weight,
            "instance": cls.instance_weight,
            "predicted": cls.predicted_weight,
            "center": cls.center_weight,
        }
        return [name for name, weight in weights.items() if weight]

    def build_instance_loss(self, global_loss: nn.Module) -> InstanceCompoundLoss:
        """The loss of one scale around the host's.

        Args:
            global_loss: what the host computes at each scale, called as ``global_loss(net_output, target)``.
        """
        return DICILoss(
            global_loss,
            self.global_weight,
            self.instance_weight,
            self.predicted_weight,
            self.center_weight,
            size=self.center_size,
            threshold=self.threshold,
            exclude_other_instances=self.exclude_other_instances,
            ignore_label=None if self.label_manager.has_regions else self.label_manager.ignore_label,
            reference_shape=self.configuration_manager.patch_size,
            finest_only=self.finest_scale_only,
            seed=self.threshold_seed,
        )

    def _build_loss(self) -> nn.Module:
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

        loss = super()._build_loss()
        if isinstance(loss, DeepSupervisionWrapper):
            loss.loss = self._instance_loss = self.build_instance_loss(loss.loss)
            return loss
        self._instance_loss = self.build_instance_loss(loss)
        return self._instance_loss

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._instance_loss.train()
        self._instance_loss.record.take()

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        super().on_train_epoch_end(train_outputs)
        self._history.add_training(self._instance_loss.record.take())

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._instance_loss.eval()

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        super().on_validation_epoch_end(val_outputs)
        self._history.add_validation(self._instance_loss.record.take())

    def on_epoch_end(self) -> None:
        # Before the host's: that writes the checkpoint and counts the epoch.
        line = self._history.log_epoch(self.current_epoch, self._instance_loss.threshold.draws)
        self.print_to_log_file(line)
        super().on_epoch_end()
        if self.local_rank == 0:
            self._history.write(self.output_folder)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        self._history.pad(self.current_epoch)
        self._instance_loss.threshold.draws = self._history.draws
