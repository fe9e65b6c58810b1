"""The losses of the trainers: terms, defaults, and options in the trainer names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnunet_ici.settings.terms import DILATION_RADIUS, RANDOM_THRESHOLD, TERM_SETTINGS, TermSettings

__all__ = ["COMMON_DEFAULTS", "LOSSES", "TrainerLoss"]

# Class attributes of every trainer. With epochs None, the number of epochs is nnU-Net's.
COMMON_DEFAULTS: dict[str, Any] = {
    "global_loss": "nnunet", "finest_scale_only": False, "best_checkpoint": "dice", "epochs": None,
}  # fmt: skip

# Loss arguments whose names differ from the class attributes of the trainers.
_ARGUMENTS = {"center_size": "size", "threshold_seed": "seed"}
_ATTRIBUTES = {argument: attribute for attribute, argument in _ARGUMENTS.items()}
_INTERNAL = ("smooth", "reference_shape")  # settings of terms that are not attributes


@dataclass(frozen=True)
class TrainerLoss:
    """The loss of one of our trainers. Options in its name are those whose attributes it has.

    Attributes:
        summary: description in one line, with the source.
        loss: name of a class in :mod:`nnunet_ici.losses`.
        terms: names of the terms, without the global loss.
        weights: class attributes for weights, with their defaults.
        settings: further class attributes, with their defaults; attributes of :data:`COMMON_DEFAULTS` only if the
            default differs, which a name cannot change.
        fixed: arguments of the loss that are not attributes.
    """

    summary: str
    loss: str
    terms: tuple[str, ...]
    weights: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """All class attributes of the trainer, with their defaults."""
        return self.weights | COMMON_DEFAULTS | self.settings

    def arguments(self, trainer: Any) -> dict[str, Any]:
        """Keyword arguments for the loss.

        Args:
            trainer: object or class with the attributes in :attr:`defaults`.
        """
        attributes = [name for name in self.weights | self.settings if name not in COMMON_DEFAULTS]
        return {_ARGUMENTS.get(name, name): getattr(trainer, name) for name in attributes} | self.fixed

    def weights_of(self, attribute: str) -> list[str]:
        """Attributes of the weights of the terms that read a setting."""
        setting = _ARGUMENTS.get(attribute, attribute)
        terms = [term for term in self.terms if setting in TERM_SETTINGS.get(term, ())]
        return [f"{term}_weight" if f"{term}_weight" in self.weights else "term_weight" for term in terms]


def _of_instances(
    summary: str, loss: str, terms: tuple[str, ...], weights: dict[str, float], *, thresholds: bool = True, **fixed: Any
) -> TrainerLoss:
    """A loss whose settings are those of its terms."""
    settings: dict[str, Any] = {"threshold": RANDOM_THRESHOLD, "threshold_seed": 0} if thresholds else {}
    for setting in dict.fromkeys(name for term in terms for name in TERM_SETTINGS[term] if name not in _INTERNAL):
        settings[_ATTRIBUTES.get(setting, setting)] = getattr(TermSettings, setting)
    return TrainerLoss(summary, loss, terms, weights, settings, fixed)


def _ici(summary: str, loss: str, *terms: str, more: dict[str, float] | None = None, **fixed: Any) -> TrainerLoss:
    """A loss with a weight of 1 for each term, or the weight in ``more``."""
    weights = {"global_weight": 1.0} | {f"{term}_weight": 1.0 for term in terms} | (more or {})
    return _of_instances(summary, loss, terms, weights, **fixed)


def _one_term(summary: str, loss: str, term: str, global_weight: float, **settings: Any) -> TrainerLoss:
    weights = {"global_weight": global_weight, "term_weight": 1.0}
    if term in TERM_SETTINGS:
        return _of_instances(summary, loss, (term,), weights, thresholds=term != "blob")
    return TrainerLoss(summary, loss, (term,), weights, settings)


LOSSES: dict[str, TrainerLoss] = {
    "nnUNetTrainerICI": _ici(
        "global + instance + center term (Rachmadi et al., 2023, Eq. 1)", "ICILoss", "instance", "center"
    ),
    "nnUNetTrainerDICI": _ici(
        "global + instance + predicted + center term (Rachmadi et al., 2023, Eq. 6)",
        "DICILoss", "instance", "predicted", "center",
    ),
    "nnUNetTrainerDual": _ici(
        "global + instance + predicted term (ours)", "DICILoss", "instance", "predicted", center_weight=0.0
    ),
    "nnUNetTrainerLesionWise": _one_term(
        "global + lesion-wise Dice: every lesion counts once (ours)", "LesionWiseLoss", "lesionwise", 1.0
    ),
    "nnUNetTrainerPQ": _one_term(
        "global + panoptic quality with Dice: lesions counted as in the F1 score (ours)", "PQLoss", "pq", 1.0
    ),
    "nnUNetTrainerInstanceFamily": _ici(
        "DICI + false instance rate + instance proximity (Rachmadi et al., 2024)",
        "InstanceFamilyLoss", "instance", "predicted", "center", "false_rate", "proximity",
        more={"proximity_weight": 0.01},
    ),
    "nnUNetTrainerBlob": _one_term("2 x global + blob loss (Kofler et al., 2022)", "BlobLoss", "blob", 2.0),
    "nnUNetTrainerCCDiceCE": _one_term(
        "global + Dice and CE in each Voronoi region (Bouteille et al., 2025)", "CCDiceCELoss", "cc_dice_ce", 1.0
    ),
    "nnUNetTrainerCATMIL": TrainerLoss(
        "global + Tversky weighted by lesion size + most probable voxel of each lesion, finest scale (Luu, 2026)",
        "CATMILLoss",
        ("cat", "mil"),
        {"global_weight": 1.0, "cat_weight": 0.1, "mil_weight": 0.2},
        {"finest_scale_only": True},
    ),
    "nnUNetTrainerRRW": _one_term(
        "region-wise loss, rectified maps (Valverde & Tohka, 2023)", "RegionWiseLoss", "region_wise", 0.0
    ),
    "nnUNetTrainerBoundary": TrainerLoss(
        "global loss, gradually replaced by boundary loss (Kervadec et al., 2019)", "BoundaryLoss", ("boundary",), {}
    ),
    "nnUNetTrainerDBCE": _one_term(
        "dilated balanced cross-entropy (Hosseini & Baghshah, 2024)",
        "DilatedBalancedCELoss", "dbce", 0.0, radius=DILATION_RADIUS,
    ),
    "nnUNetTrainerDiceDBCE": _one_term(
        "Dice + dilated balanced cross-entropy",
        "DilatedBalancedCELoss", "dbce", 1.0, radius=DILATION_RADIUS, global_loss="dice",
    ),
    "nnUNetTrainerIW": _one_term(
        "inverse weighting (Shirokikh et al., 2020)", "InverseWeightingLoss", "inverse_weighting", 0.0
    ),
    "nnUNetTrainerCounted": TrainerLoss(
        "nnU-Net's own loss, with the lesion counts, curves and threshold of the other trainers",
        "CountedLoss", (), {}, {"finest_scale_only": True},
    ),
}  # fmt: skip
