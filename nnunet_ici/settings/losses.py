"""The losses of the trainers: terms, defaults, and options in the trainer names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnunet_ici.settings.terms import DILATION_RADIUS, RANDOM_THRESHOLD, TermSettings

__all__ = ["COMMON_DEFAULTS", "LOSSES", "TrainerLoss"]

# Class attributes of every trainer. With epochs None, the number of epochs is nnU-Net's.
COMMON_DEFAULTS: dict[str, Any] = {
    "global_loss": "nnunet", "finest_scale_only": False, "best_checkpoint": "dice", "epochs": None,
}  # fmt: skip

# Loss arguments whose names differ from the class attributes of the trainers.
_ARGUMENTS = {"center_size": "size", "threshold_seed": "seed"}


@dataclass(frozen=True)
class TrainerLoss:
    """The loss of one of our trainers.

    Attributes:
        summary: description in one line, with the source.
        loss: name of a class in :mod:`nnunet_ici.losses`.
        terms: names of the terms, without the global loss.
        weights: class attributes for weights, with their defaults.
        settings: further class attributes, with their defaults; attributes of :data:`COMMON_DEFAULTS` only if the
            default differs.
        options: options in the trainer name, without those in :data:`~nnunet_ici.settings.options.EVERYWHERE`.
    """

    summary: str
    loss: str
    terms: tuple[str, ...]
    weights: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

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
        return {_ARGUMENTS.get(name, name): getattr(trainer, name) for name in attributes}


_INSTANCES: dict[str, Any] = {
    "threshold": RANDOM_THRESHOLD,
    "threshold_seed": 0,
    "exclude_other_instances": TermSettings.exclude_other_instances,
}
_INNER = {"inner": TermSettings.inner}
_ICI = _INSTANCES | _INNER | {"center_size": TermSettings.size}
_LESION_WISE = _INSTANCES | {"false_weight": TermSettings.false_weight}


def _ici(summary: str, letters: str, predicted_weight: float, center_weight: float) -> TrainerLoss:
    weights = {
        "global_weight": 1.0,
        "instance_weight": 1.0,
        "predicted_weight": predicted_weight,
        "center_weight": center_weight,
    }
    size = ("size",) if "c" in letters else ()
    terms = ("instance", "predicted", "center")
    return TrainerLoss(summary, "DICILoss", terms, weights, _ICI, (*letters, *size, "tau", "eq3", "inner"))


def _one_term(
    summary: str, loss: str, term: str, global_weight: float, options: tuple[str, ...] = (), **settings: Any
) -> TrainerLoss:
    weights = {"global_weight": global_weight, "term_weight": 1.0}
    return TrainerLoss(summary, loss, (term,), weights, settings, ("g", "w", *options))


LOSSES: dict[str, TrainerLoss] = {
    "nnUNetTrainerICI": _ici("global + instance + center term (Rachmadi et al., 2023, Eq. 1)", "gic", 0.0, 1.0),
    "nnUNetTrainerDICI": _ici(
        "global + instance + predicted + center term (Rachmadi et al., 2023, Eq. 6)", "gipc", 1.0, 1.0
    ),
    "nnUNetTrainerDual": _ici("global + instance + predicted term (ours)", "gip", 1.0, 0.0),
    "nnUNetTrainerLesionWise": _one_term(
        "global + lesion-wise Dice: every lesion counts once (ours)",
        "LesionWiseLoss", "lesionwise", 1.0, ("f", "tau", "eq3", "inner"), **_LESION_WISE, **_INNER,
    ),
    "nnUNetTrainerPQ": _one_term(
        "global + panoptic quality with Dice: lesions counted as in the F1 score (ours)",
        "PQLoss", "pq", 1.0, ("f", "tau", "eq3"), **_LESION_WISE,
    ),
    "nnUNetTrainerInstanceFamily": TrainerLoss(
        "DICI + false instance rate + instance proximity (Rachmadi et al., 2024)",
        "InstanceFamilyLoss",
        ("instance", "predicted", "center", "false_rate", "proximity"),
        {
            "global_weight": 1.0, "instance_weight": 1.0, "predicted_weight": 1.0, "center_weight": 1.0,
            "false_rate_weight": 1.0, "proximity_weight": 0.01,
        },
        _ICI | {"false_weight": TermSettings.false_weight, "rates": TermSettings.rates},
        ("g", "i", "p", "c", "r", "d", "f", "numbers", "size", "tau", "eq3", "inner"),
    ),
    "nnUNetTrainerBlob": _one_term(
        "2 x global + blob loss (Kofler et al., 2022)", "BlobLoss", "blob", 2.0, ("inner",), **_INNER
    ),
    "nnUNetTrainerCCDiceCE": _one_term(
        "global + Dice and CE in each Voronoi region (Bouteille et al., 2025)", "CCDiceCELoss", "cc_dice_ce", 1.0
    ),
    "nnUNetTrainerCATMIL": TrainerLoss(
        "global + Tversky weighted by lesion size + most probable voxel of each lesion, finest scale (Luu, 2026)",
        "CATMILLoss",
        ("cat", "mil"),
        {"global_weight": 1.0, "cat_weight": 0.1, "mil_weight": 0.2},
        {"finest_scale_only": True},
        ("g",),
    ),
    "nnUNetTrainerRRW": _one_term(
        "region-wise loss, rectified maps (Valverde & Tohka, 2023)", "RegionWiseLoss", "region_wise", 0.0
    ),
    "nnUNetTrainerBoundary": TrainerLoss(
        "global loss, gradually replaced by boundary loss (Kervadec et al., 2019)", "BoundaryLoss", ("boundary",), {}
    ),
    "nnUNetTrainerDBCE": _one_term(
        "dilated balanced cross-entropy (Hosseini & Baghshah, 2024)",
        "DilatedBalancedCELoss", "dbce", 0.0, ("radius",), radius=DILATION_RADIUS,
    ),
    "nnUNetTrainerDiceDBCE": _one_term(
        "Dice + dilated balanced cross-entropy",
        "DilatedBalancedCELoss", "dbce", 1.0, ("radius",), radius=DILATION_RADIUS, global_loss="dice",
    ),
    "nnUNetTrainerIW": _one_term(
        "inverse weighting (Shirokikh et al., 2020)", "InverseWeightingLoss", "inverse_weighting", 0.0
    ),
    "nnUNetTrainerCounted": TrainerLoss(
        "nnU-Net's own loss, with the lesion counts, curves and threshold of the other trainers",
        "CountedLoss", (), {}, {"finest_scale_only": True},
    ),
}  # fmt: skip
