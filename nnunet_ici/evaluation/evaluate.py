"""``nnunet_ici evaluate``: several models judged by their lesions, on the same cases."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

from nnunet_ici.command import Command, Problems, positive
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule
from nnunet_ici.evaluation.cases import Evaluated, Settings, evaluate_all, models_with_probabilities
from nnunet_ici.evaluation.ensemble import ENSEMBLE, check_members, make_ensemble
from nnunet_ici.evaluation.families import FAMILIES
from nnunet_ici.evaluation.grids import turned_note
from nnunet_ici.evaluation.inputs import Gathered, gather
from nnunet_ici.evaluation.outputs import CONVENTIONS, write_outputs
from nnunet_ici.geometry import PIXEL_ENDINGS

__all__ = ["main"]

SIZES = (10.0, 100.0, 1000.0, 10000.0)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-gt", type=Path, metavar="DIR", help="ground truth, such as labelsTs")
    parser.add_argument(
        "-pred",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=DIR",
        help="a model's name in the tables, and the folder of its predictions; with nnU-Net's probabilities (.npz) "
        "beside them there are PR-AUC and FROC too. The first model is what others are compared with",
    )
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT", help="output folder, files in it are overwritten"
    )
    parser.add_argument(
        "--family", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), help="of metrics (default: all)"
    )
    folds = parser.add_argument_group("a cross-validation, from nnUNet_results, instead of -pred or beside it")
    folds.add_argument(
        "-tr", nargs="+", action="extend", default=[], metavar="[NAME=]TRAINER", help="such as nnUNetTrainerICI"
    )
    folds.add_argument("-d", metavar="ID", help="data set; -gt is then its labelsTr")
    folds.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="default: 3d_fullres")
    folds.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    folds.add_argument("-f", type=int, nargs="+", metavar="FOLD", help="default: those that any trainer has")
    brats = parser.add_argument_group("the family brats")
    brats.add_argument(
        "--brats",
        choices=list(CHALLENGES),
        default="met",
        help="challenge that sets dilation and smallest volume: metastases, meningioma, glioma, glioma in Sub-Saharan "
        "Africa, paediatric (default: met)",
    )
    brats.add_argument("--brats-dilation", type=int, metavar="N", help="dilations of the label instead of those")
    brats.add_argument(
        "--brats-smallest", type=float, metavar="MM3", help="leave out lesions up to this volume instead (0: none)"
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help=f"add the ensemble of all models, made by nnU-Net from their probabilities into OUT/{ENSEMBLE}",
    )
    parser.add_argument(
        "--sizes",
        type=float,
        nargs="+",
        default=list(SIZES),
        metavar="EDGE",
        help="edges between the sizes of lesions, in mm3 (2D: mm2; default: 10 100 1000 10000)",
    )
    parser.add_argument(
        "--voxels", action="store_true", help="sizes in voxels; so they are for PNG, BMP and TIFF anyway"
    )
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="says what the label values mean (classes, regions, ignore label); default: dataset.json beside the -gt "
        "folder, else in a -pred folder, else every value above 0 is one class, named foreground",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")
    parser.add_argument("--allow-missing", action="store_true", help="count a missing prediction as an empty one")


def _run(args: argparse.Namespace) -> None:
    gathered = gather(args)
    problems = Problems(gathered.problems)
    if args.o.exists() and not args.o.is_dir():
        problems.append(f"-o is not usable. Expected: a folder, or nothing of that name. Got: the file {args.o}")
    if not all(map(math.isfinite, args.sizes)) or sorted(set(args.sizes)) != args.sizes or min(args.sizes) <= 0:
        problems.append(f"--sizes are no edges. Expected: ascending numbers above 0. Got: {args.sizes}")
    challenge = CHALLENGES[args.brats]
    rule = BratsRule(
        challenge.dilation if args.brats_dilation is None else args.brats_dilation,
        challenge.smallest_mm3 if args.brats_smallest is None else args.brats_smallest,
    )
    problems += rule.problems()
    if gathered.source:
        print(f"classes: {gathered.scheme} [{gathered.source}]", flush=True)
    if args.ensemble and gathered.cases:
        problems += _check_ensemble(args, gathered)
    with_probabilities, found = models_with_probabilities(gathered.cases, gathered.file_ending)
    problems += found
    settings = Settings(
        scheme=gathered.scheme,
        families=tuple(args.family),
        file_ending=gathered.file_ending,
        in_voxels=args.voxels or gathered.file_ending in PIXEL_ENDINGS,
        with_probabilities=with_probabilities,
        brats_rule=rule,
    )
    evaluated = evaluate_all(gathered.cases, settings, args.np)
    problems += evaluated.problems
    if evaluated.turned:
        print(turned_note(evaluated.turned), file=sys.stderr)
    if args.ensemble and not problems:  # by now all it is made of has been read and found good
        _add_ensemble(args, gathered, settings, evaluated)
        problems += evaluated.problems

    problems.raise_any()
    write_outputs(args, gathered, settings, evaluated)


def _check_ensemble(args: argparse.Namespace, gathered: Gathered) -> list[str]:
    problems = check_members(gathered.cases, gathered.file_ending)
    if ENSEMBLE in gathered.cases[0].predictions:
        problems.append(f"--ensemble makes a model of that name. Expected: no other one. Got: {ENSEMBLE}")
    return problems


def _add_ensemble(args: argparse.Namespace, gathered: Gathered, settings: Settings, evaluated: Evaluated) -> None:
    """Make the ensemble, and add it to the models and to what came out."""
    made = make_ensemble(gathered.cases, args.o / ENSEMBLE, gathered.file_ending, args.np)
    alone = [replace(case, predictions={ENSEMBLE: made.files.get(case.name)}) for case in gathered.cases]
    result = evaluate_all(alone, replace(settings, with_probabilities=(ENSEMBLE,)), args.np)
    evaluated.rows += result.rows
    evaluated.instances += result.instances
    evaluated.problems += result.problems
    gathered.cases = [
        replace(case, predictions=case.predictions | one.predictions)
        for case, one in zip(gathered.cases, alone, strict=True)
    ]


main = Command(
    "Compare the predictions of one or several models with the ground truth, lesion by lesion. Writes cases.csv, "
    "instances.csv, summary.json and tables.md, .csv and .tex, and prints the tables.",
    _arguments,
    _run,
    epilog=CONVENTIONS,
)
