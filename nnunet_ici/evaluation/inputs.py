"""From the arguments of ``nnunet_ici evaluate`` to cases: which files, which classes, which models."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ici.evaluation.cross_validation import (
    dataset_folder,
    fold_predictions,
    folds_with_predictions,
    validation_cases,
)
from nnunet_ici.evaluation.folders import Case, Predictions, find_cases, find_file_ending, list_cases, pair_cases
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme, find_label_scheme

__all__ = ["Gathered", "gather", "parse_predictions"]


@dataclass
class Gathered:
    """What is to be evaluated.

    Attributes:
        cases: with the files of each.
        scheme: the meaning of the label maps.
        source: where that comes from.
        file_ending: of the label maps.
        problems: one sentence each; with any, the rest is not to be relied on.
    """

    cases: list[Case] = field(default_factory=list)
    scheme: LabelScheme = FOREGROUND
    source: str = ""
    file_ending: str = ""
    problems: list[str] = field(default_factory=list)


def parse_predictions(arguments: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Turn NAME=DIR arguments into folders by model, and say what is wrong with them."""
    folders: dict[str, Path] = {}
    problems = []
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not name or not folder:
            problems.append(f"-pred is malformed. Expected: NAME=DIR. Got: {argument}")
        elif name in folders:
            problems.append(
                "-pred has two folders of one name. Expected: each name once. "
                f"Got: {name}={folders[name]} and {argument}"
            )
        else:
            folders[name] = Path(folder)
    return folders, problems


def gather(args: argparse.Namespace) -> Gathered:
    """Find the files that the arguments name; every problem is collected."""
    folders, problems = parse_predictions(args.pred)
    gathered = Gathered(problems=problems)
    try:
        if args.tr:
            _gather_folds(args, folders, gathered)
        elif args.gt is None:
            problems.append("-gt is missing. Expected: the folder of the ground truth, or -d ID with -tr. Got: neither")
        elif not args.gt.is_dir():
            problems.append(f"{args.gt} cannot be read. Expected: a folder. Got: no such folder")
        elif not folders:
            problems += [] if problems else ["no predictions. Expected: -pred NAME=DIR, or -tr TRAINER. Got: neither"]
        else:
            candidates = (args.gt.resolve().parent, *folders.values())
            gathered.scheme, _, gathered.source = find_label_scheme(candidates, args.dataset_json)
            gathered.file_ending = find_file_ending(args.gt, gathered.scheme.file_ending)
            gathered.cases, found = find_cases(args.gt, folders, gathered.file_ending, args.allow_missing)
            problems += found
    except ValueError as error:
        problems.append(str(error))
    return gathered


def _gather_folds(args: argparse.Namespace, folders: dict[str, Path], gathered: Gathered) -> None:
    """The validation predictions of trainers; -pred folders may stand beside them.

    Raises:
        ValueError: if nnU-Net's folders do not hold what is wanted.
    """
    if args.d is None:
        raise ValueError("-tr needs a data set. Expected: -d ID. Got: none")
    results = dataset_folder(_nnunet_folder("nnUNet_results"), args.d)
    raw = os.environ.get("nnUNet_raw")
    label_folder = args.gt or (Path(raw) / results.name / "labelsTr" if raw else None)
    if label_folder is None or not label_folder.is_dir():
        raise ValueError(f"no ground truth. Expected: -gt DIR, or $nnUNet_raw with {results.name}. Got: {label_folder}")
    candidates = (label_folder.resolve().parent, *folders.values())
    gathered.scheme, _, gathered.source = find_label_scheme(candidates, args.dataset_json)
    gathered.file_ending = find_file_ending(label_folder, gathered.scheme.file_ending)

    models: dict[str, Predictions] = {}
    trainers = [(name or trainer, trainer) for name, _, trainer in (argument.rpartition("=") for argument in args.tr)]
    # Without -f every trainer has to have the folds that any of them has.
    folds = args.f or sorted(
        {fold for _, trainer in trainers for fold in folds_with_predictions(results, trainer, args.p, args.c)}
    )
    for model, trainer in trainers:
        if model in models:
            raise ValueError(f"-tr has two models of one name. Expected: each name once. Got: {model}")
        models[model] = fold_predictions(results, trainer, args.p, args.c, gathered.file_ending, folds)
    for model, folder in folders.items():
        if model in models:
            raise ValueError(f"-tr and -pred have a model of one name. Expected: each name once. Got: {model}")
        models[model] = Predictions(list_cases(folder, gathered.file_ending) if folder.is_dir() else {}, folder)
        if not models[model].files:
            raise ValueError(f"{folder} holds no label map. Expected: *{gathered.file_ending}. Got: none")

    preprocessed = os.environ.get("nnUNet_preprocessed")
    splits = Path(preprocessed) / results.name / "splits_final.json" if preprocessed else Path()
    expected = validation_cases(splits, folds) if preprocessed else None
    if expected is None:  # nothing says which cases there should be: those that any model has
        expected = {case for predictions in models.values() for case in predictions.files}
    labels = {name: path for name, path in list_cases(label_folder, gathered.file_ending).items() if name in expected}
    gathered.cases, found = pair_cases(labels, models, label_folder, gathered.file_ending, args.allow_missing)
    gathered.problems += found
    gathered.problems += [
        f"no ground truth for case {name}. Expected: {label_folder / (name + gathered.file_ending)}. Got: no such file"
        for name in sorted(expected - set(labels))
    ]


def _nnunet_folder(variable: str) -> Path:
    if not os.environ.get(variable):
        raise ValueError(f"{variable} is not set. Expected: export {variable}=/path/to/a/folder. Got: nothing")
    return Path(os.environ[variable])
