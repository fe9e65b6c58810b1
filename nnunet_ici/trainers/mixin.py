"""What turns an nnU-Net trainer into one of ours: it wraps the host's loss, and logs the terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nnunet_ici.losses.boundary import BoundaryLoss
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.global_losses import make_global_loss
from nnunet_ici.losses.ici import DICILoss
from nnunet_ici.trainers.history import TermHistory

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Host
else:
    _Host = object

__all__ = ["CompoundLossMixin", "InstanceLossMixin"]


class CompoundLossMixin(_Host):
    """Adds terms to the loss of the nnU-Net trainer it is mixed into.

    Planning, sampling, augmentation, network, optimizer and inference stay the host's. Options are class attributes, to
    be set in a subclass: ``class MyTrainer(nnUNetTrainerICI): center_size = 5``. Subclasses say what the terms are
    with :meth:`term_weights` and :meth:`build_compound`.

    Attributes:
        global_weight: weight of the global loss. The sum is that of the deep-supervision scales, as the host weighs
            them.
        global_loss: "nnunet", "dice", "bce", "focal", "dice_focal" or "gdice_focal"; see
            :func:`~nnunet_ici.losses.global_losses.make_global_loss`.
        finest_scale_only: compute the terms for the full-resolution output only.
        epochs: length of the training, or None for the host's.
    """

    global_weight: ClassVar[float] = 1.0
    global_loss: ClassVar[str] = "nnunet"
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
    def term_weights(cls) -> dict[str, float]:
        """The weights of the terms besides the global loss, by name."""
        raise NotImplementedError

    @classmethod
    def logged_terms(cls) -> list[str]:
        """The names of the terms with weight, the global loss first."""
        return [name for name, weight in ({"global": cls.global_weight} | cls.term_weights()).items() if weight]

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        """The loss of one scale.

        Args:
            global_loss: what is computed at each scale besides the terms, called as ``global_loss(net_output,
            target)``. **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
        """
        raise NotImplementedError

    def _wrap(self, host_loss: nn.Module) -> CompoundLoss:
        labels = self.label_manager
        global_loss = make_global_loss(
            self.global_loss, host_loss, regions=labels.has_regions, ignore_label=labels.ignore_label
        )
        return self.build_compound(
            global_loss,
            ignore_label=None if labels.has_regions else labels.ignore_label,
            reference_shape=self.configuration_manager.patch_size,
            finest_only=self.finest_scale_only,
            over_ranks=self.is_ddp,
        )

    def _build_loss(self) -> nn.Module:
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

        loss = super()._build_loss()
        if isinstance(loss, DeepSupervisionWrapper):
            loss.loss = self._compound = self._wrap(loss.loss)
            return loss
        self._compound = self._wrap(loss)
        return self._compound

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if isinstance(self._compound, BoundaryLoss):
            self._compound.set_progress(min(self.current_epoch / max(self.num_epochs - 1, 1), 1))
        self._compound.train()
        self._compound.record.take()

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        super().on_train_epoch_end(train_outputs)
        self._history.add_training(self._compound.record.take())

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._compound.eval()

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        super().on_validation_epoch_end(val_outputs)
        self._history.add_validation(self._compound.record.take())

    @property
    def _draws(self) -> int:
        return self._compound.threshold.draws if isinstance(self._compound, DICILoss) else 0

    def on_epoch_end(self) -> None:
        # Before the host's: that writes the checkpoint and counts the epoch.
        line = self._history.log_epoch(self.current_epoch, self._draws)
        self.print_to_log_file(line)
        super().on_epoch_end()
        if self.local_rank == 0:
            self._history.write(self.output_folder)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        self._history.pad(self.current_epoch)
        if isinstance(self._compound, DICILoss):
            self._compound.threshold.draws = self._history.draws


class InstanceLossMixin(CompoundLossMixin):
    """The instance, predicted and center terms.

    Attributes:
        instance_weight, predicted_weight, center_weight: weights of the terms.
        center_size: edge of the center cubes in voxels at full resolution, odd; smaller scales get smaller ones, 3 at
            least.
        threshold: of the predicted instances: a number, or a range that every call of the loss draws from. Validation
            uses 0.5 in the place of a range.
        threshold_seed: of the draws. Their position is checkpointed; every rank draws the same.
        exclude_other_instances: True for Eq. 5 of the paper, False for Eq. 3.
        inner: the loss of one instance, "dice", "bce", "focal" or "dice_ce".
    """

    instance_weight: ClassVar[float] = 1.0
    predicted_weight: ClassVar[float] = 0.0
    center_weight: ClassVar[float] = 1.0
    center_size: ClassVar[int | Sequence[int]] = 7
    threshold: ClassVar[float | Sequence[float]] = (0.1, 0.9)
    threshold_seed: ClassVar[int] = 0
    exclude_other_instances: ClassVar[bool] = True
    inner: ClassVar[str] = "dice"

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"instance": cls.instance_weight, "predicted": cls.predicted_weight, "center": cls.center_weight}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return DICILoss(
            global_loss,
            self.global_weight,
            self.instance_weight,
            self.predicted_weight,
            self.center_weight,
            size=self.center_size,
            threshold=self.threshold,
            exclude_other_instances=self.exclude_other_instances,
            inner=self.inner,
            seed=self.threshold_seed,
            **options,
        )
