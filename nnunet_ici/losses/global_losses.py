"""The global loss: nnU-Net's own, or one from Appendix J of the ICI paper."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_ici.losses.compound import GlobalLoss
from nnunet_ici.settings import GLOBAL_LOSSES

__all__ = ["make_global_loss"]


def make_global_loss(name: str, host_loss: nn.Module, *, regions: bool, ignore_label: int | None) -> GlobalLoss:
    """Build a global loss by name.

    Source of the alternatives to nnU-Net's loss: Rachmadi et al., 2023, Appendix J.

    Args:
        name: "nnunet" for ``host_loss`` itself; "dice" for its Dice only; "bce" for the softmax cross-entropy, or for
            regions the binary cross-entropy; "focal", "dice_focal" or "gdice_focal" for MONAI's focal loss (gamma 2),
            or its sum with Dice or generalized Dice, all without the background class.
        host_loss: nnU-Net's DC_and_CE_loss or DC_and_BCE_loss.
        regions: whether targets are regions instead of label maps.
        ignore_label: ignore label of the dataset, or None.

    Returns:
        The loss, called as ``loss(net_output, target)``.

    Raises:
        ValueError: if the name is unknown.
        ImportError: if the loss needs MONAI and MONAI is not installed.
        NotImplementedError: if the loss is MONAI's and there is an ignore label.
    """
    if name not in GLOBAL_LOSSES:
        raise ValueError(f"global_loss must be one of {', '.join(GLOBAL_LOSSES)}. Got: {name!r}")
    if name == "nnunet":
        return host_loss
    if name == "dice":
        dice: Any = copy.copy(host_loss)
        dice.weight_ce = 0
        return cast(GlobalLoss, dice)
    if name == "bce":
        return _CrossEntropy(regions, ignore_label)
    if ignore_label is not None:
        raise NotImplementedError(f"global_loss {name!r} uses MONAI, which has no ignore label. Got: {ignore_label}")
    return _Monai(name, regions)


class _CrossEntropy(nn.Module):
    def __init__(self, regions: bool, ignore_label: int | None) -> None:
        super().__init__()
        self.regions, self.ignore_label = regions, ignore_label

    def forward(self, net_output: Tensor, target: Tensor) -> Tensor:
        if not self.regions:
            entropy = F.cross_entropy(
                net_output,
                target[:, 0].long(),
                ignore_index=-100 if self.ignore_label is None else self.ignore_label,
                reduction="sum",
            )
            counted = target.numel() if self.ignore_label is None else (target != self.ignore_label).sum().clamp(min=1)
            return entropy / counted
        regions = net_output.shape[1]
        entropy = F.binary_cross_entropy_with_logits(
            net_output, target[:, :regions].to(net_output.dtype), reduction="none"
        )
        if self.ignore_label is None:
            return entropy.mean()
        mask = (target[:, regions:] == 0).to(entropy.dtype)
        return (entropy * mask).sum() / (mask.sum() * regions).clamp(min=1)


class _Monai(nn.Module):
    def __init__(self, name: str, regions: bool) -> None:
        super().__init__()
        try:
            from monai.losses import DiceFocalLoss, FocalLoss, GeneralizedDiceFocalLoss
        except ImportError as error:
            raise ImportError(f"global_loss {name!r} needs MONAI: pip install 'nnunet-ici[monai]'") from error
        shared: dict[str, Any] = {"to_onehot_y": not regions, "include_background": regions, "gamma": 2.0}
        if name == "focal":
            self.loss = FocalLoss(use_softmax=not regions, **shared)
        else:
            cls = DiceFocalLoss if name == "dice_focal" else GeneralizedDiceFocalLoss
            self.loss = cls(sigmoid=regions, softmax=not regions, **shared)

    def forward(self, net_output: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(net_output.device.type, enabled=False):
            value: Tensor = self.loss(net_output.float(), target.float())
        return value
