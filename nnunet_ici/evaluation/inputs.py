"""The inputs of ``nnunet_ici evaluate``: the cases, classes and models that its arguments specify."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ici.command import Problems, check_folder, missing_inputs
from nnunet_ici.environment import find_folder
from nnunet_ici.evaluation.cross_validation import (
    dataset_folder,
    fold_predictions,
    folds_with_predictions,
    held_out_problems,
    validation_cases,
)
from nnunet_ici.evaluation.ensemble import ENSEMBLE
from nnunet_ici.evaluation.folders import Case, Predictions, find_cases, find_file_ending, list_cases, pair_cases
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme, find_label_scheme

__all__ = ["Gathered", "check_arguments", "gather", "parse_predictions"]


@dataclass
class Gathered:
    """The inputs of an evaluation.

    Attributes:
        cases: the cases with their files.
        label_folder: folder of the ground truth.
        models: folder of each model's predictions.
        scheme: meaning of the label values.
        source: origin of the scheme, in words.
        file_ending: file ending of the label maps.
        problems: problems, one sentence each; if there are any, the other attributes may be incomplete.
    """

    cases: list[Case] = field(default_factory=list)
    label_folder: Path = Path()
    models: dict[str, Path] = field(default_factory=dict)
    scheme: LabelScheme = FOREGROUND
    source: str = ""
    file_ending: str = ""
    problems: list[str] = field(default_factory=list)


def parse_predictions(arguments: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Parse [NAME=]DIR arguments; returns the folder of each model, and the problems, one sentence each."""
    folders: dict[str, Path] = {}
    problems = []
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not equals or (os.sep in name and Path(argument).is_dir()):
            name, folder = Path(argument).resolve().name, argument
        if not name or not folder:
            problems.append(f"-pred is malformed. Expected: NAME=DIR or DIR. Got: {argument}")
        elif name in folders:
            problems.append(
                "-pred has two folders with the same name. Expected: each name once. "
                f"Got: {name}={folders[name]} and {argument}"
            )
        else:
            folders[name] = Path(folder)
    return folders, problems


def _parse_trainers(arguments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Parse [NAME=]TRAINER arguments; returns the trainer of each model, and the problems, one sentence each."""
    trainers: dict[str, str] = {}
    problems = []
    for argument in arguments:
        name, _, trainer = argument.rpartition("=")
        model = name or trainer
        if model in trainers:
            problems.append(f"-tr has two models with the same name. Expected: each name once. Got: {model}")
        trainers[model] = trainer
    return trainers, problems


def check_arguments(args: argparse.Namespace) -> list[str]:
    """Problems with the arguments alone, one sentence each; :func:`gather` then reads the folders they name."""
    folders, problems = parse_predictions(args.pred)
    trainers, found = _parse_trainers(args.tr)
    problems += found
    problems += [
        f"-tr and -pred have models with the same name. Expected: each name once. Got: {model}"
        for model in folders
        if model in trainers
    ]
    if args.tr and args.d is None:
        problems.append("-tr needs a dataset. Expected: -d ID. Got: none")
    if not args.tr and args.gt is None:
        problems.append("-gt is missing. Expected: the folder of the ground truth, or -d ID with -tr. Got: neither")
    elif not args.tr and not args.pred:
        problems.append("no predictions. Expected: -pred NAME=DIR, or -tr TRAINER. Got: neither")
    problems += check_folder("-o", args.o)
    if not all(map(math.isfinite, args.sizes)) or sorted(set(args.sizes)) != args.sizes or min(args.sizes) <= 0:
        problems.append(f"--sizes cannot be used. Expected: ascending numbers above 0. Got: {args.sizes}")
    if not 0 <= args.overlap <= 1:
        problems.append(f"--overlap cannot be used. Expected: an IoU from 0 to 1. Got: {args.overlap:g}")
    if args.f and "all" in args.f and len(args.f) > 1:
        problems.append(f"-f all is a fold with all cases. Expected: no other fold with it. Got: {' '.join(args.f)}")
    given = [] if args.dataset_json is None else [args.dataset_json]
    problems += missing_inputs(given, folders=[*([] if args.gt is None else [args.gt]), *folders.values()])
    models = [*trainers, *folders]
    if args.save_maps:
        problems += [
            f"--save-maps makes a folder for each model. Expected: names without a slash. Got: {model}"
            for model in models
            if "/" in model or model in (".", "..")
        ]
    if args.ensemble and len(models) < 2:
        problems.append(f"--ensemble needs several models. Expected: two or more. Got: {', '.join(models) or 'none'}")
    if args.ensemble and ENSEMBLE in models:
        problems.append(f"--ensemble adds a model with this name. Expected: no other model with it. Got: {ENSEMBLE}")
    return problems


def gather(args: argparse.Namespace) -> Gathered:
    """Find the files specified by arguments that passed :func:`check_arguments`."""
    folders, _ = parse_predictions(args.pred)
    gathered = Gathered(label_folder=args.gt or Path(), models=folders)
    problems = Problems()
    with problems.collecting():
        if args.tr:
            _gather_folds(args, folders, gathered)
        else:
            candidates = (args.gt.resolve().parent, *folders.values())
            gathered.scheme, _, gathered.source = find_label_scheme(candidates, args.dataset_json)
            gathered.file_ending = find_file_ending(args.gt, gathered.scheme.file_ending)
            gathered.cases, found = find_cases(args.gt, folders, gathered.file_ending, args.allow_missing)
            problems += found
    gathered.problems += problems
    return gathered


def _gather_folds(args: argparse.Namespace, folders: dict[str, Path], gathered: Gathered) -> None:
    """Add the validation predictions of the -tr trainers, and those in the -pred folders, to ``gathered``.

    Raises:
        ValueError: if nnU-Net's folders do not hold the predictions.
    """
    results = dataset_folder(find_folder("nnUNet_results"), args.d)
    raw = os.environ.get("nnUNet_raw")
    label_folder = args.gt or (Path(raw) / results.name / "labelsTr" if raw else None)
    if label_folder is None or not label_folder.is_dir():
        raise ValueError(f"no ground truth. Expected: -gt DIR, or $nnUNet_raw with {results.name}. Got: {label_folder}")
    candidates = (label_folder.resolve().parent, *folders.values())
    gathered.scheme, _, gathered.source = find_label_scheme(candidates, args.dataset_json)
    gathered.file_ending = find_file_ending(label_folder, gathered.scheme.file_ending)

    models: dict[str, Predictions] = {}
    trainers, _ = _parse_trainers(args.tr)
    # Without -f, every trainer must have all folds that any of them has.
    folds = args.f or sorted(
        {fold for trainer in trainers.values() for fold in folds_with_predictions(results, trainer, args.p, args.c)},
        key=int,
    )
    for trainer in trainers.values():
        for fold in folds if "all" not in folds else []:
            validation = results / f"{trainer}__{args.p}__{args.c}" / f"fold_{fold}" / "validation"
            gathered.problems += held_out_problems(validation, gathered.file_ending)
    if gathered.problems:
        return
    for model, trainer in trainers.items():
        models[model] = fold_predictions(results, trainer, args.p, args.c, gathered.file_ending, folds)
    for model, folder in folders.items():
        models[model] = Predictions(list_cases(folder, gathered.file_ending), folder)
        if not models[model].files:
            raise ValueError(f"{folder} holds no label map. Expected: *{gathered.file_ending}. Got: none")

    gathered.label_folder = label_folder
    gathered.models = {model: predictions.where for model, predictions in models.items()}
    labels = list_cases(label_folder, gathered.file_ending)
    preprocessed = os.environ.get("nnUNet_preprocessed")
    splits = Path(preprocessed) / results.name / "splits_final.json" if preprocessed else Path()
    if "all" in folds:  # nnU-Net trains and validates this fold on all cases
        expected: set[str] | None = set(labels)
    else:
        expected = validation_cases(splits, folds) if preprocessed else None
    if expected is None:  # without splits_final.json, expect the cases that any model has
        expected = {case for predictions in models.values() for case in predictions.files}
    labels = {name: path for name, path in labels.items() if name in expected}
    gathered.cases, found = pair_cases(labels, models, label_folder, gathered.file_ending, args.allow_missing)
    gathered.problems += found
    gathered.problems += [
        f"no ground truth for case {name}. Expected: {label_folder / (name + gathered.file_ending)}. Got: no such file"
        for name in sorted(expected - set(labels))
    ]
