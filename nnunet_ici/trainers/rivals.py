"""Trainers with the losses that ICI is compared with."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ici.losses import (
    BlobLoss,
    BoundaryLoss,
    CCDiceCELoss,
    DilatedBalancedCELoss,
    InverseWeightingLoss,
    RegionWiseLoss,
)
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.trainers.mixin import CompoundLossMixin

__all__ = [
    "nnUNetTrainerBlob",
    "nnUNetTrainerBoundary",
    "nnUNetTrainerCCDiceCE",
    "nnUNetTrainerDBCE",
    "nnUNetTrainerDiceDBCE",
    "nnUNetTrainerIW",
    "nnUNetTrainerRRW",
]


class nnUNetTrainerBlob(CompoundLossMixin, nnUNetTrainer):
    """2 x nnU-Net's own loss + blob loss. Source: Kofler et al., 2022, alpha = 2, beta = 1.

    Attributes:
        global_weight: alpha.
        term_weight: beta.
        inner: the loss of one instance, "dice", "bce", "focal" or "dice_ce".
    """

    global_weight = 2.0
    term_weight: ClassVar[float] = 1.0
    inner: ClassVar[str] = "dice"

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"blob": cls.term_weight}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return BlobLoss(global_loss, self.global_weight, self.term_weight, inner=self.inner, **options)


class nnUNetTrainerCCDiceCE(CompoundLossMixin, nnUNetTrainer):
    """nnU-Net's own loss + Dice and cross-entropy in the Voronoi region of each lesion. Source: Bouteille et al.,
    2025."""

    term_weight: ClassVar[float] = 1.0

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"cc_dice_ce": cls.term_weight}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return CCDiceCELoss(global_loss, self.global_weight, self.term_weight, **options)


class nnUNetTrainerRRW(CompoundLossMixin, nnUNetTrainer):
    """Region-wise loss with rectified maps, alone. Source: Valverde & Tohka, 2023."""

    global_weight = 0.0
    term_weight: ClassVar[float] = 1.0

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"region_wise": cls.term_weight}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return RegionWiseLoss(global_loss, self.global_weight, self.term_weight, **options)


class nnUNetTrainerBoundary(CompoundLossMixin, nnUNetTrainer):
    """nnU-Net's own loss, which fades out while boundary loss fades in. Source: Kervadec et al., 2019."""

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"boundary": 1.0}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return BoundaryLoss(global_loss, **options)


class nnUNetTrainerDBCE(CompoundLossMixin, nnUNetTrainer):
    """Dilated balanced cross-entropy, alone. Source: Hosseini & Baghshah, 2024.

    Attributes:
        radius: of the ball that classes are dilated by, in voxels.
    """

    global_weight = 0.0
    term_weight: ClassVar[float] = 1.0
    radius: ClassVar[int] = 3

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"dbce": cls.term_weight}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return DilatedBalancedCELoss(global_loss, self.global_weight, self.term_weight, radius=self.radius, **options)


class nnUNetTrainerDiceDBCE(nnUNetTrainerDBCE):
    """nnU-Net's Dice + dilated balanced cross-entropy in the place of its cross-entropy."""

    global_weight = 1.0
    global_loss = "dice"


class nnUNetTrainerIW(CompoundLossMixin, nnUNetTrainer):
    """Inverse weighting of the label's components in the cross-entropy, alone. Source: Shirokikh et al., 2020."""

    global_weight = 0.0
    term_weight: ClassVar[float] = 1.0

    @classmethod
    def term_weights(cls) -> dict[str, float]:
        return {"inverse_weighting": cls.term_weight}

    def build_compound(self, global_loss: GlobalLoss, **options: Any) -> CompoundLoss:
        return InverseWeightingLoss(global_loss, self.global_weight, self.term_weight, **options)
