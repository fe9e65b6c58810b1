"""The cases of a grid search: their files, and the scores of all settings on one case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.folders import list_cases
from nnunet_ici.evaluation.grids import read_probabilities_for
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.probabilities import plain_masks, probability_of
from nnunet_ici.postprocessing.rule import Setting
from nnunet_ici.postprocessing.sweep import score_mask, sweep_case

__all__ = ["CaseFiles", "CaseScores", "find_files", "score_files"]

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        name: name of the case.
        label: path of the ground truth.
        probabilities: path of CASE.npz.
        prediction: path of the label map beside the probabilities; None if there is none.
    """

    name: str
    label: Path
    probabilities: Path
    prediction: Path | None


@dataclass(frozen=True, eq=False)
class CaseScores:
    """The scores of one case and class, with the columns ``STATISTICS``.

    Attributes:
        lesions: number of instances in the ground truth.
        plain: float64 (4,), scores of nnU-Net's own mask.
        scores: float64 (settings, 4), scores of all settings.
        turned: whether the prediction was turned to the axes of its ground truth.
    """

    lesions: int
    plain: Scores
    scores: Scores
    turned: bool


def score_files(files: CaseFiles, scheme: LabelScheme, settings: Sequence[Setting]) -> dict[str, CaseScores] | str:
    """Score all settings on all classes of a case.

    Returns:
        The scores by class, or one sentence on what is wrong with the files.
    """
    try:
        label_map = read_label_map(files.label, scheme)
        label = label_map.array
        probabilities, turned = read_probabilities_for(label_map, files.probabilities, scheme, files.prediction)
    except ValueError as error:
        return str(error)
    plain = plain_masks(probabilities, scheme)
    voxel_mm3 = label_map.grid.voxel_mm3
    counts = None if scheme.ignore is None else label != scheme.ignore
    results = {}
    for name in scheme.classes:
        mask = scheme.masks(name, label, np.zeros_like(label))[0]
        results[name] = CaseScores(
            lesions=match_instances(mask, mask).label_instances,
            plain=score_mask(mask, plain[name] if counts is None else plain[name] & counts),
            scores=sweep_case(probability_of(probabilities, scheme, name), mask, settings, voxel_mm3, counts),
            turned=turned,
        )
    return results


def find_files(
    label_folder: Path, probability_folders: Sequence[Path], file_ending: str
) -> tuple[list[CaseFiles], list[str]]:
    """Pair the probabilities in all folders with the ground truth, by case name.

    Returns:
        The cases, sorted by name, and the problems, one sentence each.
    """
    problems = []
    labels = list_cases(label_folder, file_ending)
    files: dict[str, CaseFiles] = {}
    for folder in dict.fromkeys(probability_folders):
        found = list_cases(folder, ".npz")
        if not found:
            problems.append(
                f"{folder} holds no probabilities. Expected: *.npz from nnUNetv2_train --npz, nnUNetv2_predict "
                f"--save_probabilities or nnUNetv2_ensemble --save_npz. Got: {sum(1 for _ in folder.iterdir())} "
                "other files"
            )
        for name, path in found.items():
            if name in files:
                problems.append(
                    f"case {name} has two files of probabilities. Expected: one. Got: {files[name].probabilities} "
                    f"and {path}"
                )
            elif name not in labels:
                expected = label_folder / f"{name}{file_ending}"
                problems.append(f"{path} has no ground truth. Expected: {expected}. Got: no such file")
            else:
                beside = folder / f"{name}{file_ending}"
                files[name] = CaseFiles(name, labels[name], path, beside if beside.is_file() else None)
    return [files[name] for name in sorted(files)], problems
