"""Mixin that turns an nnU-Net trainer into one of ours: it wraps nnU-Net's loss and logs the terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nnunet_ici import losses
from nnunet_ici.instances import KernelStatus, kernel_status
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.global_losses import make_global_loss
from nnunet_ici.postprocessing.network import FINAL, outdated
from nnunet_ici.settings import COMMON_DEFAULTS, LOSSES
from nnunet_ici.trainers.final_validation import choosing_threshold
from nnunet_ici.trainers.history import LESION_MEAN, TermHistory

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Host
else:
    _Host = object

__all__ = ["CompoundLossMixin", "make_trainer"]


class CompoundLossMixin(_Host):
    """Adds terms to the loss of an nnU-Net trainer.

    Planning, sampling, augmentation, network, optimizer, inference and the weights of deep supervision remain
    nnU-Net's. Options are class attributes that a subclass can set: ``class MyTrainer(nnUNetTrainerICI): center_size =
    5``. A trainer has the attributes listed for its loss in :data:`~nnunet_ici.settings.LOSSES`, and these:

    Attributes:
        loss_name: key of the loss in :data:`~nnunet_ici.settings.LOSSES`. A trainer with another loss overrides
            :meth:`term_weights` and :meth:`build_compound` instead.
        global_weight: weight of the global loss.
        global_loss: "nnunet", "dice", "bce", "focal", "dice_focal" or "gdice_focal"; see
            :func:`~nnunet_ici.losses.global_losses.make_global_loss`.
        finest_scale_only: whether to compute the terms for the full-resolution output only.
        best_checkpoint: "dice", or "lesion" if ``checkpoint_best.pth`` follows the exponential mean of the lesion-wise
            Dice of the validation patches, instead of nnU-Net's pseudo Dice.
        epochs: number of training epochs, or None for nnU-Net's default.
    """

    loss_name: ClassVar[str]
    global_weight: ClassVar[float] = 1.0
    global_loss: ClassVar[str] = COMMON_DEFAULTS["global_loss"]
    finest_scale_only: ClassVar[bool] = COMMON_DEFAULTS["finest_scale_only"]
    best_checkpoint: ClassVar[str] = COMMON_DEFAULTS["best_checkpoint"]
    epochs: ClassVar[int | None] = COMMON_DEFAULTS["epochs"]

    # nnU-Net inspects this signature and stores the arguments in its checkpoints, so no parameters may be added.
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
        self._kernels: KernelStatus | None = None
        self._weights_of = FINAL

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        """Weights of the terms, without the global loss, by name."""
        of_one = getattr(cls, "term_weight", 1.0)
        return {term: getattr(cls, f"{term}_weight", of_one) for term in LOSSES[cls.loss_name].terms}

    @classmethod
    def logged_terms(cls) -> list[str]:
        """Names of the terms with a nonzero weight, the global loss first."""
        return [name for name, weight in ({"global": cls.global_weight} | cls.term_weights()).items() if weight]

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        """Build the loss for one scale of deep supervision.

        Args:
            global_loss: global loss, called as ``global_loss(net_output, target)``.
            **options: keyword arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
        """
        chosen = LOSSES[self.loss_name]
        loss: CompoundLoss = getattr(losses, chosen.loss)(global_loss, **chosen.arguments(self), **options)
        return loss

    def _wrap(self, host_loss: nn.Module) -> CompoundLoss:
        labels = self.label_manager
        global_loss = make_global_loss(
            self.global_loss, host_loss, regions=labels.has_regions, ignore_label=labels.ignore_label
        )
        return self.build_compound(
            global_loss,
            ignore_label=None if labels.has_regions else labels.ignore_label,
            regions=labels.has_regions,
            reference_shape=self.configuration_manager.patch_size,
            finest_only=self.finest_scale_only,
            over_ranks=self.is_ddp,
        )

    def _build_loss(self) -> nn.Module:
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

        loss = super()._build_loss()
        if isinstance(loss, DeepSupervisionWrapper):
            loss.loss = self._compound = self._wrap(loss.loss)
            self._compound.set_finest_weight(float(loss.weight_factors[0]))
            return loss
        self._compound = self._wrap(loss)
        return self._compound

    def on_train_start(self) -> None:
        super().on_train_start()
        self._log_kernels()
        if stale := outdated(Path(self.output_folder)):
            self.print_to_log_file(stale)

    def on_train_end(self) -> None:
        super().on_train_end()
        self._weights_of = FINAL

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with choosing_threshold(self, self._weights_of):
            super().perform_actual_validation(save_probabilities)

    def _log_kernels(self) -> None:
        """Log whether Triton kernels or plain torch find the instances on a GPU, first and whenever this changes."""
        status = kernel_status(self.device) if self.device.type == "cuda" else None
        if status != self._kernels:
            self._kernels = status
            self.print_to_log_file(f"Instances on {self.device}: {status}")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._compound.start_epoch(self.current_epoch, self.num_epochs)
        self._compound.train()
        self._compound.record.take()

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        super().on_train_epoch_end(train_outputs)
        self._history.add_training(self._compound.record.take())
        self._log_kernels()

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._compound.eval()

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        super().on_validation_epoch_end(val_outputs)
        self._history.add_validation(self._compound.record.take())

    def on_epoch_end(self) -> None:
        # nnU-Net's method writes the checkpoint and increments the epoch, so the log comes first.
        line = self._history.log_epoch(self.current_epoch, self._compound.draws)
        self.print_to_log_file(line)
        with self._best_by_lesions():
            super().on_epoch_end()
        if self.local_rank == 0:
            self._history.write(self.output_folder)

    @contextmanager
    def _best_by_lesions(self) -> Iterator[None]:
        """With ``best_checkpoint = "lesion"``, nnU-Net compares and stores the lesion-wise Dice as its best value."""
        if self.best_checkpoint != "lesion":
            yield
            return
        before, read = self._best_ema, self.logger.get_value

        def lesions_first(key: str, step: Any) -> Any:
            if key != "ema_fg_dice":
                return read(key, step)
            value = read(LESION_MEAN, step)
            return value if math.isfinite(value) else -math.inf  # no lesion in any patch so far

        self.logger.get_value = lesions_first
        try:
            yield
        finally:
            self.logger.get_value = read
        if self._best_ema != before:
            self.print_to_log_file("checkpoint_best.pth: best exponential mean of the lesion-wise Dice, see above")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(filename_or_checkpoint, str):
            self._weights_of = Path(filename_or_checkpoint).name
        self._history.pad(self.current_epoch)
        self._compound.draws = self._history.draws


def make_trainer(name: str) -> type:
    """Build the trainer for a key of :data:`~nnunet_ici.settings.LOSSES`, a subclass of nnU-Net's ``nnUNetTrainer``."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    chosen = LOSSES[name]
    fixed = {"loss_name": name, "__module__": "nnunet_ici.trainers", "__doc__": f"{chosen.summary}."}
    return type(name, (CompoundLossMixin, nnUNetTrainer), chosen.defaults | fixed)
