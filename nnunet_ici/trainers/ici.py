"""The trainers. Each is a host of nnU-Net's with the mixin and a set of weights."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ici.trainers.mixin import InstanceLossMixin

__all__ = ["nnUNetTrainerDICI", "nnUNetTrainerDual", "nnUNetTrainerICI"]


class nnUNetTrainerICI(InstanceLossMixin, nnUNetTrainer):
    """nnU-Net's own loss + instance term + center term, weights (1, 1, 1).

    Source: Rachmadi et al., MIDL 2023, Eq. 1.
    """


class nnUNetTrainerDICI(InstanceLossMixin, nnUNetTrainer):
    """nnU-Net's own loss + instance term + predicted term + center term, weights (1, 1, 1, 1).

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6.
    """

    predicted_weight = 1.0


class nnUNetTrainerDual(InstanceLossMixin, nnUNetTrainer):
    """DICI without the center term, weights (1, 1, 1, 0). Ours, not the paper's."""

    predicted_weight = 1.0
    center_weight = 0.0
