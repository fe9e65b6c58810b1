"""The comparisons of the study: datasets with their small plans, and rows of trainers with their seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("STUDY_DATA", ROOT.parent / "shared" / "data"))
BASELINE = "nnUNetTrainer"


@dataclass(frozen=True)
class Data:
    """A dataset of the study, with the settings of its network and its training.

    Attributes:
        title: heading in the report.
        dataset: name in nnU-Net.
        configuration: name of nnU-Net's configuration.
        source: folder of the original files; unused for synthetic data.
        train: number of cases for training and validation.
        test: number of test cases.
        patch_size, features, batch_size: settings of the small plans.
        epochs, iterations: number of epochs, and number of iterations per epoch.
        spacing_mm: voxel spacing of synthetic data.
    """

    title: str
    dataset: str
    configuration: str
    source: Path
    train: int
    test: int
    patch_size: tuple[int, ...]
    features: tuple[int, ...]
    batch_size: int
    epochs: int = 20
    iterations: int = 250
    spacing_mm: float = 1.0


@dataclass(frozen=True)
class Row:
    """A comparison of trainers on one dataset.

    Attributes:
        data: key of :data:`DATA`.
        trainers: names of the trainers, with the baseline first.
        seeds: number of seeds, starting at 0.
    """

    data: str
    trainers: tuple[str, ...]
    seeds: int


_MASKS = SHARED / "ms-lesions" / "masks"
_SLICES, _CUBE, _SMALL = (64, 64), (32, 32, 32), (8, 16, 32)
_IMPLANTS2D = Data(
    "Implanted MS lesions: 3D volumes, nnU-Net's 2d", "Dataset300_Implants", "2d", _MASKS, 24, 9, _SLICES, _SMALL, 4
)
_NUCLEI = Data("Nuclei: real, 2D", "Dataset200_Nuclei", "2d", SHARED / "nuclei", 160, 100, _SLICES, _SMALL, 4)
_IMPLANTS3D = replace(
    _IMPLANTS2D,
    title="Implanted MS lesions: nnU-Net's 3d_fullres",
    configuration="3d_fullres",
    patch_size=_CUBE,
    batch_size=2,
)
_ATLAS3D = Data(
    "Synthetic ATLAS: nnU-Net's 3d_fullres at 4 mm",
    "Dataset100_ATLAS",
    "3d_fullres",
    Path(),
    40,
    20,
    _CUBE,
    _SMALL,
    2,
    spacing_mm=4,
)
DATA = {
    "implants2d": _IMPLANTS2D,
    "implants2d_wide": replace(
        _IMPLANTS2D,
        title="Implanted MS lesions: nnU-Net's 2d, longer and wider",
        patch_size=(128, 128),
        features=(16, 32, 64, 128),
        epochs=60,
    ),
    "implants3d": _IMPLANTS3D,
    "atlas3d": _ATLAS3D,
    "nuclei": _NUCLEI,
    # The full study, for a GPU: larger patches, all images, and nnU-Net's own number of epochs.
    "nuclei_full": replace(_NUCLEI, title="Nuclei, full study", dataset="Dataset201_Nuclei", train=320, epochs=1000),
    "implants3d_full": replace(
        _IMPLANTS3D,
        title="Implanted MS lesions in 3D, full study",
        dataset="Dataset301_Implants",
        train=60,
        test=18,
        patch_size=(96, 96, 96),
        features=(16, 32, 64, 128),
        epochs=1000,
    ),
    "atlas3d_full": replace(
        _ATLAS3D,
        title="Synthetic ATLAS at 2 mm, full study",
        dataset="Dataset101_ATLAS",
        train=60,
        patch_size=(64, 64, 64),
        features=(16, 32, 64, 128),
        epochs=1000,
        spacing_mm=2,
    ),
}

_ICI, _DICI, _LESION_WISE, _PQ, _CC_DICE_CE = (
    f"nnUNetTrainer{name}" for name in ("ICI", "DICI", "LesionWise", "PQ", "CCDiceCE")
)
_OURS_AND_RIVALS = (BASELINE, _ICI, _DICI, _LESION_WISE, _PQ, _CC_DICE_CE)
_FULL = (
    *_OURS_AND_RIVALS,
    "nnUNetTrainerDual",
    "nnUNetTrainerBlob",
    "nnUNetTrainerCATMIL",
    "nnUNetTrainerRRW",
    "nnUNetTrainerDBCE",
    "nnUNetTrainerPublishedICI",
    "nnUNetTrainerICI_g0p25_i0p5_c0p25",
    "nnUNetTrainerICI_tau0p5",
    "nnUNetTrainerICITau3to7",
    "nnUNetTrainerICI_size3",
    "nnUNetTrainerICI_size11",
    "nnUNetTrainerICI_finest",
)
ROWS = {
    "implants2d": Row(
        "implants2d",
        (BASELINE, _LESION_WISE, _PQ, _ICI, _DICI, "nnUNetTrainerBlob", _CC_DICE_CE, "nnUNetTrainerCATMIL"),
        5,
    ),
    "options": Row(
        "implants2d",
        (
            BASELINE,
            "nnUNetTrainerICI_i0p25_c0p25",
            "nnUNetTrainerICI_tau0p5",
            "nnUNetTrainerLesionWise_f0p5",
            "nnUNetTrainerLesionWise_w0p5",
        ),
        3,
    ),
    "pq_options": Row(
        "implants2d",
        (BASELINE, _PQ, "nnUNetTrainerPQ_f2", "nnUNetTrainerPQ_w0p5", "nnUNetTrainerPQ_f0p5", "nnUNetTrainerPQ_tau0p5"),
        5,
    ),
    "implants3d": Row("implants3d", _OURS_AND_RIVALS, 3),
    "atlas3d": Row("atlas3d", _OURS_AND_RIVALS, 3),
    "nuclei": Row("nuclei", (BASELINE, _LESION_WISE, _PQ), 3),
    "wide": Row("implants2d_wide", (BASELINE, _ICI, _LESION_WISE, _PQ), 1),
    **{data: Row(data, _FULL, 3) for data in DATA if data.endswith("_full")},
}


def jobs_of(rows: list[Row]) -> Iterator[tuple[str, str, int]]:
    """The runs of several rows: dataset, trainer and seed.

    The runs are sorted by seed and then by row, so that complete pairs of trainers exist early. A run in several rows
    is listed once.

    Example:
        >>> a, b = Row("x", ("nnUNetTrainer", "A"), 2), Row("x", ("nnUNetTrainer", "B"), 1)
        >>> [f"{trainer} {seed}" for _, trainer, seed in jobs_of([a, b])]
        ['nnUNetTrainer 0', 'A 0', 'B 0', 'nnUNetTrainer 1', 'A 1']
    """
    jobs = {
        (row.data, trainer, seed): None
        for seed in range(max(row.seeds for row in rows))
        for row in rows
        if seed < row.seeds
        for trainer in row.trainers
    }
    yield from jobs
