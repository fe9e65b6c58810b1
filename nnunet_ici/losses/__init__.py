"""Instance-aware losses: the terms on probabilities, and the compounds on what nnU-Net hands to a loss."""

from nnunet_ici.losses.center import CenterLoss, center_loss
from nnunet_ici.losses.compound import DICILoss, ICILoss
from nnunet_ici.losses.instance import InstanceLoss, instance_loss
from nnunet_ici.losses.predicted import PredictedInstanceLoss, predicted_instance_loss

__all__ = [
    "CenterLoss",
    "DICILoss",
    "ICILoss",
    "InstanceLoss",
    "PredictedInstanceLoss",
    "center_loss",
    "instance_loss",
    "predicted_instance_loss",
]
