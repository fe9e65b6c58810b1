"""The inputs of ``nnunet_ici evaluate``: all that its arguments say, as one object."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ici.command import Problems, check_folder, missing_inputs
from nnunet_ici.environment import find_folder
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule
from nnunet_ici.evaluation.cross_validation import (
    dataset_folder,
    fold_predictions,
    folds_with_predictions,
    held_out_problems,
    validation_cases,
)
from nnunet_ici.evaluation.ensemble import ENSEMBLE, check_members, probability_path
from nnunet_ici.evaluation.evaluate_cases import Settings
from nnunet_ici.evaluation.folders import Case, Predictions, find_file_ending, list_cases
from nnunet_ici.evaluation.grids import have_millimetres
from nnunet_ici.evaluation.labels import find_label_scheme

__all__ = ["Inputs", "read_inputs"]


@dataclass(frozen=True)
class Inputs:
    """The cases of a dataset with the predictions of each model, and what to compute.

    Attributes:
        arguments: arguments of the command, by name.
        cases: the cases with their files.
        label_folder: folder of the ground truth.
        models: folder of each model's predictions.
        source: origin of the classes, in words.
        settings: settings of the evaluation.
    """

    arguments: dict[str, Any]
    cases: list[Case]
    label_folder: Path
    models: dict[str, Path]
    source: str
    settings: Settings


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Find the files that the arguments specify; no image is read.

    Raises:
        InputError: with all problems of the arguments, which are checked before any folder is read, or else with all
            problems of the folders.
    """
    problems = Problems()
    folders = _parse("-pred", "DIR", args.pred, lambda folder: Path(folder).resolve().name, problems)
    trainers = _parse("-tr", "TRAINER", args.tr, str, problems)
    challenge = CHALLENGES[args.brats]
    rule = BratsRule(
        challenge.dilation if args.brats_dilation is None else args.brats_dilation,
        challenge.smallest_mm3 if args.brats_smallest is None else args.brats_smallest,
    )
    problems += [*_check(args, list(map(Path, folders.values())), [*trainers, *folders]), *rule.problems()]
    problems.raise_any()

    with problems.collecting():
        results = dataset_folder(find_folder("nnUNet_results"), args.d) if trainers else Path()
        raw = os.environ.get("nnUNet_raw")
        labels = args.gt or (Path(raw) / results.name / "labelsTr" if raw else None)
        if labels is None or not labels.is_dir():
            raise ValueError(f"no ground truth. Expected: -gt DIR, or $nnUNet_raw with {results.name}. Got: {labels}")
        candidates = (labels.resolve().parent, *map(Path, folders.values()))
        scheme, _, source = find_label_scheme(candidates, args.dataset_json)
        ending = find_file_ending(labels, scheme.file_ending)
        # Without -f, every trainer must have all folds that any of them has.
        having = {fold for one in trainers.values() for fold in folds_with_predictions(results, one, args.p, args.c)}
        folds = args.f or sorted(having, key=int)
        for trainer in trainers.values():
            for fold in folds if "all" not in folds else []:
                validation = results / f"{trainer}__{args.p}__{args.c}" / f"fold_{fold}" / "validation"
                problems += held_out_problems(validation, ending)
        problems.raise_any()
        models = {
            model: fold_predictions(results, trainer, args.p, args.c, ending, folds)
            for model, trainer in trainers.items()
        }
        models |= {model: Predictions(list_cases(Path(one), ending), Path(one)) for model, one in folders.items()}
        truth = Predictions(list_cases(labels, ending), labels)
        for empty in {one.where: one for one in (truth, *models.values()) if not one.files}:
            others = sum(1 for _ in empty.iterdir())
            problems.append(f"{empty} holds no label map. Expected: *{ending}. Got: {others} other files")
        if trainers:
            truth = _validated(truth, models, results.name, folds, ending, problems)
        cases = _pair(truth, models, ending, args.allow_missing, problems)
        if args.ensemble and cases:
            problems += check_members(cases, ending)
        in_mm = have_millimetres([case.label for case in cases])
        settings = Settings(
            scheme=scheme,
            families=tuple(args.family),
            file_ending=ending,
            sizes=tuple(args.sizes),
            in_mm=in_mm,
            in_voxels=args.voxels or not in_mm,
            with_probabilities=_with_probabilities(cases, ending, problems),
            brats_rule=rule,
            overlap=args.overlap,
        )
    problems.raise_any()
    where = {model: predictions.where for model, predictions in models.items()}
    return Inputs(dict(vars(args)), cases, labels, where, source, settings)


def _parse(
    option: str, kind: str, arguments: Iterable[str], name_of: Callable[[str], str], problems: list[str]
) -> dict[str, str]:
    """Parse [NAME=]VALUE arguments; returns the value of each name."""
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or (os.sep in name and Path(argument).is_dir()):
            name, value = name_of(argument), argument
        if not name or not value:
            problems.append(f"{option} is malformed. Expected: NAME={kind} or {kind}. Got: {argument}")
        elif name in values:
            problems.append(
                f"{option} has two models with the same name. Expected: each name once. "
                f"Got: {name}={values[name]} and {argument}"
            )
        else:
            values[name] = value
    return values


def _check(args: argparse.Namespace, folders: Sequence[Path], models: Sequence[str]) -> list[str]:
    """Problems with the arguments alone, one sentence each."""
    problems = [
        f"-tr and -pred have models with the same name. Expected: each name once. Got: {model}"
        for model in sorted({model for model in models if models.count(model) > 1})
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
    problems += missing_inputs(given, folders=[*([] if args.gt is None else [args.gt]), *folders])
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


def _validated(
    truth: Predictions,
    models: dict[str, Predictions],
    dataset: str,
    folds: Sequence[str],
    ending: str,
    problems: list[str],
) -> Predictions:
    """The ground truth of the cases that the folds validate."""
    preprocessed = os.environ.get("nnUNet_preprocessed")
    expected: set[str] | None = set(truth.files)
    if "all" not in folds:  # nnU-Net trains and validates the fold all on all cases
        expected = validation_cases(Path(preprocessed) / dataset / "splits_final.json", folds) if preprocessed else None
    if expected is None:  # without splits_final.json, expect the cases that any model has
        expected = {case for predictions in models.values() for case in predictions.files}
    problems += [
        f"no ground truth for case {name}. Expected: {truth.where / (name + ending)}. Got: no such file"
        for name in sorted(expected - set(truth.files))
    ]
    return Predictions({name: path for name, path in truth.files.items() if name in expected}, truth.where)


def _pair(
    truth: Predictions, models: dict[str, Predictions], ending: str, allow_missing: bool, problems: list[str]
) -> list[Case]:
    """The cases of the ground truth with the prediction of each model."""
    for model, predictions in models.items():
        if not predictions.files or not truth.files:
            continue  # reported already
        if not truth.files.keys() & predictions.files.keys():
            expected, got = (
                ", ".join(path.name for path in list(one.files.values())[:2]) for one in (truth, predictions)
            )
            problems.append(
                f"{model}: no case of {predictions.where} matches {truth.where}. Expected: {expected}, as nnU-Net "
                f"names prediction and ground truth alike, CASE{ending}. Got: {got}"
            )
            continue
        if not allow_missing:
            problems += [
                f"{model}: no prediction for case {name}. Expected: {predictions.where / (name + ending)}. "
                "Got: no such file (--allow-missing counts it as empty)"
                for name in truth.files
                if name not in predictions.files
            ]
        problems += [
            f"{model}: prediction without a ground truth: {path}. Expected: {truth.where / path.name}. "
            "Got: no such file"
            for name, path in predictions.files.items()
            if name not in truth.files
        ]
    return [
        Case(name, label, {model: predictions.files.get(name) for model, predictions in models.items()})
        for name, label in truth.files.items()
    ]


def _with_probabilities(cases: Sequence[Case], ending: str, problems: list[str]) -> tuple[str, ...]:
    """The models with nnU-Net's probabilities (.npz) beside their predictions: beside all, or it is a problem."""
    found = []
    for model in cases[0].predictions if cases else ():
        paths = [path for case in cases if (path := case.predictions[model]) is not None]
        missing = [path for path in paths if not probability_path(path, ending).is_file()]
        if paths and not missing:
            found.append(model)
        elif len(missing) < len(paths):
            problems += [
                f"{model}: no probabilities beside {path}, unlike other predictions. "
                f"Expected: {probability_path(path, ending)}. Got: no such file"
                for path in missing
            ]
    return tuple(found)
