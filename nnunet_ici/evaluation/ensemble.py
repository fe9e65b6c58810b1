"""The ensemble of several models, computed by nnU-Net from their probabilities."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_ici.evaluation.folders import Case, find_above, list_cases
from nnunet_ici.evaluation.grids import probability_grid
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.geometry import reorient, turn_between
from nnunet_ici.parallel import in_parallel

__all__ = ["ENSEMBLE", "check_members", "make_ensemble", "probability_path"]

# Name of the ensemble in the tables, and of its folder.
ENSEMBLE = "ensemble"
# Files that nnU-Net's ensembling needs for each case in addition to the label map.
ENDINGS = (".npz", ".pkl")
# nnU-Net's descriptions of the dataset and the network, beside the predictions or in the trainer's folder.
DESCRIPTIONS = ("dataset.json", "plans.json")


def probability_path(prediction: Path, file_ending: str) -> Path:
    """The path to which nnU-Net writes the probabilities of a predicted label map."""
    return prediction.with_name(prediction.name.removesuffix(file_ending) + ".npz")


def check_members(cases: Sequence[Case], file_ending: str) -> list[str]:
    """The files missing for an ensemble of all models, one sentence each; empty if it can be made."""
    problems, first = [], None
    for case in cases:
        for model, path in case.predictions.items():
            first = first or path
            if path is None:
                problems.append(f"{model}: the ensemble needs a prediction for case {case.name}. Got: no such file")
                continue
            beside = (probability_path(path, file_ending).with_suffix(ending) for ending in ENDINGS)
            problems += [
                f"{model}: the ensemble needs the probabilities of case {case.name} (--save_probabilities, --npz). "
                f"Expected: {wanted}. Got: no such file"
                for wanted in beside
                if not wanted.is_file()
            ]
    return problems + [
        f"the ensemble needs nnU-Net's {name}. Expected: {first.parent / name}, or above. Got: no such file"
        for name in DESCRIPTIONS
        if first is not None and find_above(first, name) is None
    ]


def make_ensemble(cases: Sequence[Case], target: Path, file_ending: str, processes: int) -> dict[str, Path]:
    """Average the probabilities of all models with nnU-Net's ``merge_files``, as ``nnUNetv2_ensemble`` does.

    nnU-Net averages arrays by index and ignores their orientation. Probabilities whose axes differ from those of the
    first model are therefore turned beforehand.

    Args:
        cases: cases for which :func:`check_members` found nothing missing.
        target: new folder for the ensemble's label maps and probabilities.
        file_ending: file ending of the label maps.
        processes: number of processes.

    Returns:
        The path of the ensemble's label map for each case.
    """
    target.mkdir(parents=True)
    first = next(iter(cases[0].predictions.values()))
    descriptions = {name: None if first is None else find_above(first, name) for name in DESCRIPTIONS}
    for name, path in descriptions.items():
        assert path is not None  # checked by check_members
        shutil.copyfile(path, target / name)
    in_parallel(partial(_merge, target=target, file_ending=file_ending), cases, processes, "ensemble")
    return list_cases(target, file_ending)


def _merge(case: Case, target: Path, file_ending: str) -> None:
    from nnunetv2.ensembling.ensemble import merge_files
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(str(target / "plans.json"))
    labels = plans.get_label_manager(json.loads((target / "dataset.json").read_text(encoding="utf-8")))
    paths = [path for path in case.predictions.values() if path is not None]
    with tempfile.TemporaryDirectory(prefix=".members_", dir=target) as temporary:
        members = [_like_first(path, paths[0], file_ending, Path(temporary)) for path in paths]
        merge_files(
            list(map(str, members)),
            str(target / case.name),
            file_ending,
            plans.image_reader_writer_class(),
            labels,
            save_probabilities=True,
        )


def _like_first(own: Path, first: Path, file_ending: str, folder: Path) -> Path:
    """The path of a label map's probabilities, or of a turned copy if their axes differ from the first model's."""
    path = probability_path(own, file_ending)
    own_grid, first_grid = (probability_grid(read_label_map(one)) for one in (own, first))
    turn = turn_between(own_grid, first_grid, "the first model")
    if turn is None:
        return path
    turned = folder / f"{len(list(folder.iterdir()))}.npz"
    np.savez(turned, probabilities=reorient(np.load(path)["probabilities"], turn))
    return turned
