"""Instance-aware losses, and the losses that they are compared with.

Each file defines one loss, as a function of probabilities or logits and as a module. The compound losses take the
network output and target that nnU-Net passes to a loss.
"""

from nnunet_ici.losses.boundary import BoundaryLoss, boundary_loss
from nnunet_ici.losses.catmil import CATMILLoss, cat_loss, mil_loss
from nnunet_ici.losses.cc_dice_ce import CCDiceCELoss, cc_dice_ce_loss
from nnunet_ici.losses.compound import CountedLoss
from nnunet_ici.losses.dilated_ce import DilatedBalancedCELoss, dilated_balanced_ce_loss
from nnunet_ici.losses.family import (
    FalseInstanceRateLoss,
    InstanceFamilyLoss,
    InstanceProximityLoss,
    false_instance_rate_loss,
    instance_proximity_loss,
)
from nnunet_ici.losses.functional import (
    blob_loss,
    center_loss,
    instance_loss,
    lesionwise_loss,
    pq_loss,
    predicted_instance_loss,
)
from nnunet_ici.losses.ici import BlobLoss, DICILoss, ICILoss, LesionWiseLoss, PQLoss
from nnunet_ici.losses.inverse_weighting import InverseWeightingLoss, inverse_weighting_loss
from nnunet_ici.losses.region_wise import RegionWiseLoss, region_wise_loss
from nnunet_ici.losses.term import CenterLoss, InstanceLoss, LesionWiseTerm, PQTerm, PredictedInstanceLoss

__all__ = [
    "BlobLoss",
    "BoundaryLoss",
    "CATMILLoss",
    "CCDiceCELoss",
    "CenterLoss",
    "CountedLoss",
    "DICILoss",
    "DilatedBalancedCELoss",
    "FalseInstanceRateLoss",
    "ICILoss",
    "InstanceFamilyLoss",
    "InstanceLoss",
    "InstanceProximityLoss",
    "InverseWeightingLoss",
    "LesionWiseLoss",
    "LesionWiseTerm",
    "PQLoss",
    "PQTerm",
    "PredictedInstanceLoss",
    "RegionWiseLoss",
    "blob_loss",
    "boundary_loss",
    "cat_loss",
    "cc_dice_ce_loss",
    "center_loss",
    "dilated_balanced_ce_loss",
    "false_instance_rate_loss",
    "instance_loss",
    "instance_proximity_loss",
    "inverse_weighting_loss",
    "lesionwise_loss",
    "mil_loss",
    "pq_loss",
    "predicted_instance_loss",
    "region_wise_loss",
]
