"""The data sets of the study, their small plans, and the sets of trainers that are compared on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
SETS = {
    "reduced": ("nnUNetTrainer", "nnUNetTrainerDual", "nnUNetTrainerICI"),
    "main": (
        "nnUNetTrainer",
        "nnUNetTrainerDual",
        "nnUNetTrainerICI",
        "nnUNetTrainerDICI",
        "nnUNetTrainerBlob",
        "nnUNetTrainerCCDiceCE",
    ),
    "rivals": (
        "nnUNetTrainerRRW",
        "nnUNetTrainerDBCE",
        "nnUNetTrainerICI_g0p25_i0p5_c0p25",
        "nnUNetTrainerICI_tau0p5",
        "nnUNetTrainerDual_tau0p5",
        "nnUNetTrainerPublishedICI",
    ),
    # What the defaults are to be set by: weights whose sum is that of Dice + CE, ranges of tau, sizes, scales.
    "defaults": (
        "nnUNetTrainerICI_g0p333_i0p333_c0p333",
        "nnUNetTrainerDual_g0p333_i0p333_p0p333",
        "nnUNetTrainerICITau3to7",
        "nnUNetTrainerDualTau3to7",
        "nnUNetTrainerICI_size3",
        "nnUNetTrainerICI_size5",
        "nnUNetTrainerICI_size11",
        "nnUNetTrainerICI_finest",
        "nnUNetTrainerDual_finest",
    ),
}


@dataclass(frozen=True)
class Data:
    """A data set of the study, and the plan for it.

    Attributes:
        dataset: its name in nnU-Net.
        configuration: of nnU-Net.
        source: where its files come from.
        patch_size, features, batch_size: of the small plans.
    """

    dataset: str
    configuration: str
    source: Path
    patch_size: tuple[int, ...]
    features: tuple[int, ...]
    batch_size: int


DATA = {
    "nuclei": Data("Dataset200_Nuclei", "2d", SHARED / "nuclei", (64, 64), (8, 16, 32), 4),
    "implants2d": Data("Dataset300_Implants", "2d", SHARED / "ms-lesions" / "masks", (64, 64), (8, 16, 32), 4),
    "implants": Data(
        "Dataset300_Implants", "3d_fullres", SHARED / "ms-lesions" / "masks", (48, 48, 48), (8, 16, 32), 2
    ),
    "atlas": Data("Dataset100_ATLAS", "3d_fullres", Path(), (48, 48, 48), (8, 16, 32), 2),
}
