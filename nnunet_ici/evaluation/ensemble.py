"""The ensemble of several models' predictions, made by nnU-Net itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_ici.evaluation.folders import Case, Predictions, find_above, list_cases
from nnunet_ici.evaluation.grids import probability_grid
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.geometry import reorient, turn_between

__all__ = ["ENSEMBLE", "check_members", "make_ensemble", "probability_path"]

# Its name in the tables, and of its folder.
ENSEMBLE = "ensemble"
# What nnU-Net's ensembling wants of each case besides the label map.
ENDINGS = (".npz", ".pkl")
# Its descriptions of the data set and of the network, beside the predictions or in the trainer's folder.
DESCRIPTIONS = ("dataset.json", "plans.json")


def probability_path(prediction: Path, file_ending: str) -> Path:
    """Where nnU-Net writes the probabilities of a predicted label map."""
    return prediction.with_name(prediction.name.removesuffix(file_ending) + ".npz")


def check_members(cases: Sequence[Case], file_ending: str) -> list[str]:
    """What is missing for an ensemble of all models, one sentence each; nothing where it can be made."""
    if len(cases[0].predictions) < 2:
        return [f"--ensemble needs two models. Got: {', '.join(cases[0].predictions)}"]
    problems = []
    for case in cases:
        for model, path in case.predictions.items():
            if path is None:
                problems.append(f"{model}: no ensemble without a prediction for case {case.name}. Got: no such file")
                continue
            for ending in ENDINGS:
                wanted = probability_path(path, file_ending).with_suffix(ending)
                if not wanted.is_file():
                    problems.append(
                        f"{model}: no ensemble without the probabilities of case {case.name} (--save_probabilities, "
                        f"--npz). Expected: {wanted}. Got: no such file"
                    )
    first = next((path for path in cases[0].predictions.values() if path is not None), None)
    if first is not None:
        problems += [
            f"no ensemble without nnU-Net's {name}. Expected: {first.parent / name}, or further up. Got: no such file"
            for name in DESCRIPTIONS
            if find_above(first, name) is None
        ]
    return problems


def make_ensemble(cases: Sequence[Case], target: Path, file_ending: str, processes: int) -> Predictions:
    """The mean of all models' probabilities, by nnU-Net's ``ensemble_folders`` (``nnUNetv2_ensemble``).

    nnU-Net adds arrays by index. So probabilities whose axes run otherwise than those of the first model are turned.

    Args:
        cases: with a prediction of each model, for which :func:`check_members` found nothing missing.
        target: folder of the result, label maps and probabilities; made here.
        file_ending: of the label maps.
        processes: number of nnU-Net's workers.

    Returns:
        The ensemble's predictions.
    """
    from nnunetv2.ensembling.ensemble import ensemble_folders

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".members_", dir=target.parent) as temporary:
        # One folder a member: the files of a cross-validation are spread over its folds.
        members = []
        for at, model in enumerate(cases[0].predictions):
            member = Path(temporary) / str(at)
            member.mkdir()
            for case in cases:
                path = case.predictions[model]
                first = next(iter(case.predictions.values()))
                assert path is not None and first is not None  # checked by check_members
                for ending in ENDINGS:
                    source = probability_path(path, file_ending).with_suffix(ending).resolve()
                    (member / f"{case.name}{ending}").symlink_to(source)
                if at:
                    _turn_like(first, path, member / f"{case.name}{ENDINGS[0]}")
                for name in DESCRIPTIONS:
                    description = find_above(path, name)
                    if description is not None and not (member / name).exists():
                        shutil.copyfile(description, member / name)
            members.append(str(member))
        ensemble_folders(members, str(target), True, processes)
    return Predictions(list_cases(target, file_ending), target)


def _turn_like(first: Path, own: Path, link: Path) -> None:
    """Replace a link to probabilities by a turned copy, where their axes run otherwise than those of the first model.

    Args:
        first: the first model's label map.
        own: the label map beside the probabilities.
        link: to the probabilities.
    """
    own_grid, first_grid = (probability_grid(read_label_map(path)) for path in (own, first))
    turn = turn_between(own_grid, first_grid, "the first model")
    if turn is not None:
        probabilities = reorient(np.load(link)["probabilities"], turn)
        link.unlink()
        np.savez(link, probabilities=probabilities)
