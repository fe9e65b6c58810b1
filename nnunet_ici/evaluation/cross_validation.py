"""The predictions of a cross-validation, collected from nnU-Net's results folder by trainer name."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from nnunet_ici.evaluation.folders import Predictions, list_cases

__all__ = [
    "dataset_folder", "fold_predictions", "folds_with_predictions", "held_out_problems", "read_folds",
    "validation_cases",
]  # fmt: skip

SHOWN = 8  # names in a message


def dataset_folder(parent: Path, dataset: str) -> Path:
    """The folder of a dataset in nnUNet_raw, nnUNet_preprocessed or nnUNet_results.

    Args:
        parent: one of these three folders.
        dataset: number of the dataset, or its full name, DatasetXXX_NAME.

    Raises:
        ValueError: if no folder matches, or more than one does.
    """
    if dataset.isdigit():
        found = sorted(parent.glob(f"Dataset{int(dataset):03d}_*"))
    else:
        found = [path for path in [parent / dataset] if path.is_dir()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found or sorted(parent.glob("Dataset*"))) or "none"
        raise ValueError(
            f"{parent} does not hold this dataset. Expected: one with the number or name {dataset}. Got: {names}"
        )
    return found[0]


def folds_with_predictions(results: Path, trainer: str, plans: str, configuration: str) -> set[str]:
    """The numbers of a trainer's folds that have a validation folder; empty if the trainer has no results."""
    folders = (results / f"{trainer}__{plans}__{configuration}").glob("fold_*/validation")
    return {number for path in folders if (number := path.parent.name[5:]).isdecimal()}


def fold_predictions(
    results: Path, trainer: str, plans: str, configuration: str, file_ending: str, folds: Sequence[str]
) -> Predictions:
    """The validation predictions of the given folds of a trainer.

    Args:
        results: folder of the dataset in nnUNet_results.
        trainer, plans, configuration: names with which nnU-Net was trained.
        file_ending: file ending of the label maps.
        folds: numbers of the folds, or "all" for nnU-Net's fold with all cases.

    Raises:
        ValueError: if the trainer has no results, a fold has no predictions, or a case is in two folds.
    """
    folder = results / f"{trainer}__{plans}__{configuration}"
    if not folder.is_dir():
        others = ", ".join(sorted(path.name for path in results.glob("*__*__*"))) or "none"
        raise ValueError(f"no results of this trainer, plans and configuration. Expected: {folder}. Got: {others}")
    files: dict[str, Path] = {}
    for number in folds:
        validation = folder / f"fold_{number}" / "validation"
        found = list_cases(validation, file_ending) if validation.is_dir() else {}
        if not found:
            raise ValueError(
                f"{validation} holds no predictions. Expected: *{file_ending}, which nnUNetv2_train writes at the end "
                "or with --val; otherwise give -f with folds that all trainers have. Got: none"
            )
        twice = sorted(set(files) & set(found))
        if twice:
            raise ValueError(f"{folder}: cases in two folds. Expected: each in one. Got: {', '.join(twice[:8])}")
        files |= found
    if not files:
        raise ValueError(f"{folder} holds no predictions. Expected: fold_X/validation/*{file_ending}. Got: none")
    return Predictions(dict(sorted(files.items())), folder / "fold_X" / "validation")


def read_folds(path: Path) -> list[list[str]]:
    """The validation cases of each fold in nnU-Net's splits_final.json.

    Raises:
        ValueError: if the file cannot be read, or has another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a splits_final.json of nnU-Net. Got: {error}") from error
    try:
        folds = [fold["val"] for fold in content]
        if folds and all(isinstance(fold, list) and all(type(one) is str for one in fold) for fold in folds):
            return folds
    except (KeyError, TypeError):
        pass
    raise ValueError(
        f'{path} holds no folds. Expected: a list of {{"train": [...], "val": [...]}}. Got: {json.dumps(content)[:80]}'
    )


def validation_cases(splits: Path, folds: Sequence[str]) -> set[str] | None:
    """The validation cases of the given folds in a splits_final.json; None if there is no such file.

    Raises:
        ValueError: if the file cannot be read, lacks one of the folds, or has no case in them.
    """
    if not splits.is_file():
        return None
    try:
        content = read_folds(splits)
        if cases := {case for fold in folds for case in content[int(fold)]}:
            return cases
        raise ValueError("no case to validate")
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{splits} cannot be used. Expected: a list of folds with val, including {', '.join(folds)}. Got: {error}"
        ) from error


def held_out_problems(folder: Path, file_ending: str, splits: Path | None = None) -> list[str]:
    """Reasons why the cases in a folder of predictions were not held out from training, one sentence each.

    Args:
        folder: folder of predictions; only ``fold_X/validation`` is checked.
        file_ending: ending of the files to check.
        splits: a splits_final.json; by default that of the dataset in $nnUNet_preprocessed. Nothing is checked without
            one, nor for a fold that it lacks, because nnU-Net then draws the cases.

    Raises:
        ValueError: if the splits cannot be read.
    """
    fold = folder.resolve().parent
    number = fold.name.removeprefix("fold_")
    if folder.resolve().name != "validation" or number == fold.name:
        return []
    if number == "all":
        return [
            f"{folder}: fold_all was trained on all cases, so none was held out. Expected: fold_0, fold_1, ... "
            "Got: fold_all"
        ]
    preprocessed = os.environ.get("nnUNet_preprocessed")
    if splits is None and preprocessed:
        splits = Path(preprocessed) / fold.parents[1].name / "splits_final.json"
    if splits is None or not splits.is_file() or not number.isdecimal():
        return []
    folds = read_folds(splits)
    if int(number) >= len(folds):
        return []
    foreign = sorted(set(list_cases(folder, file_ending)) - set(folds[int(number)]))
    if not foreign:
        return []
    more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
    return [
        f"{folder} holds cases of other folds, perhaps files of an earlier training. Expected: the validation cases of "
        f"{fold.name} in {splits}. Got also: {', '.join(foreign[:SHOWN])}{more}; delete them"
    ]
