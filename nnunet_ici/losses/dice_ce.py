"""The default global loss: Dice + cross-entropy, as nnU-Net has it."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_ici.instances import Source
from nnunet_ici.settings import SMOOTH

__all__ = ["DiceCELoss", "default_global_loss"]


class DiceCELoss(nn.Module):
    """Cross-entropy minus the mean Dice of the foreground classes of each image, or of its regions.

    Values are those of nnU-Net's ``DC_and_CE_loss`` and ``DC_and_BCE_loss`` with ``batch_dice=False``.

    Args:
        ignore_label: label of ignored voxels in label maps, or None. Regions mark them in an additional channel.
    """

    def __init__(self, ignore_label: int | None = None) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, net_output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of logits and a target as for :class:`~nnunet_ici.losses.compound.CompoundLoss`."""
        source = Source.of_network(net_output, target, self.ignore_label)
        prob, label, x = source.prob, source.label.to(source.prob.dtype), source.x.to(source.prob.dtype)
        counted = torch.ones_like(prob[:, :1]) if source.counted is None else source.counted.to(prob.dtype)
        inside, total = ((prob * y * counted).flatten(2).sum(2) for y in (label, torch.ones_like(label)))
        dice = (2 * inside + SMOOTH) / (total + label.flatten(2).sum(2) + SMOOTH).clamp(min=1e-8)
        if source.by_class:
            entropy = F.binary_cross_entropy_with_logits(x, label, reduction="none") * counted
            # As in nnU-Net: with ignored voxels the sum over the regions, otherwise their mean.
            of_regions = source.classes if source.counted is None else 1
            mean = entropy.sum() / (counted.sum() * of_regions).clamp(min=1e-8)
        else:
            labels = torch.where(counted[:, 0] > 0, target[:, 0], 0).long()
            mean = (F.cross_entropy(x, labels, reduction="none") * counted[:, 0]).sum() / counted.sum().clamp(min=1)
        return mean - dice.mean()


def default_global_loss(ignore_label: int | None) -> nn.Module:
    """nnU-Net's own Dice + cross-entropy where it is installed, else :class:`DiceCELoss`, which equals it."""
    return _Host(ignore_label) if find_spec("nnunetv2") else DiceCELoss(ignore_label)


class _Host(nn.Module):
    """nnU-Net's loss for label maps or regions, as the shapes of the first call demand."""

    def __init__(self, ignore_label: int | None) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, net_output: Tensor, target: Tensor) -> Tensor:
        from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss as SoftDice

        dice = {"batch_dice": False, "smooth": SMOOTH, "ddp": False}
        classes, channels = net_output.shape[1], target.shape[1]
        if channels == 1 and classes > 1:
            loss = DC_and_CE_loss({**dice, "do_bg": False}, {}, ignore_label=self.ignore_label, dice_class=SoftDice)
        else:
            ignores = channels > classes
            loss = DC_and_BCE_loss({}, {**dice, "do_bg": True}, use_ignore_label=ignores, dice_class=SoftDice)
        value: Tensor = loss(net_output, target if channels == 1 else target.to(net_output.dtype))
        return value
