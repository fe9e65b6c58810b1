"""The run of ``nnunet_ici evaluate``, from its arguments to the files and the tables."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from nnunet_ici.command import InputError, Problems, plural
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule
from nnunet_ici.evaluation.cases import Evaluated, Settings, evaluate_all, models_with_probabilities
from nnunet_ici.evaluation.ensemble import ENSEMBLE, check_members, make_ensemble
from nnunet_ici.evaluation.grids import turned_note
from nnunet_ici.evaluation.inputs import Gathered, check_arguments, gather
from nnunet_ici.evaluation.outputs import print_verdict, write_outputs
from nnunet_ici.geometry import PIXEL_ENDINGS
from nnunet_ici.output import replace_files

__all__ = ["evaluate"]

MOST_NAMED = 5  # folders of models in the terminal
MAPS = "maps"  # folder of --save-maps


def evaluate(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: with all problems of one stage. The arguments are checked before any file is read, the folders
            before any image is read, and the images last.
    """
    problems = Problems(check_arguments(args))
    challenge = CHALLENGES[args.brats]
    rule = BratsRule(
        challenge.dilation if args.brats_dilation is None else args.brats_dilation,
        challenge.smallest_mm3 if args.brats_smallest is None else args.brats_smallest,
    )
    problems += rule.problems()
    problems.raise_any()
    gathered = gather(args)
    problems += gathered.problems
    if args.ensemble and gathered.cases:
        problems += check_members(gathered.cases, gathered.file_ending)
    with_probabilities, found = models_with_probabilities(gathered.cases, gathered.file_ending)
    problems += found
    problems.raise_any()

    print(f"{plural(len(gathered.cases), 'case')}: {gathered.label_folder}")
    for model, where in list(gathered.models.items())[:MOST_NAMED]:
        print(f"{model}: {where}")
    if len(gathered.models) > MOST_NAMED:
        print(f"and {plural(len(gathered.models) - MOST_NAMED, 'more model')}")
    print(f"classes: {gathered.scheme} [{gathered.source}]", flush=True)
    settings = Settings(
        scheme=gathered.scheme,
        families=tuple(args.family),
        file_ending=gathered.file_ending,
        in_voxels=args.voxels or gathered.file_ending in PIXEL_ENDINGS,
        with_probabilities=with_probabilities,
        brats_rule=rule,
        overlap=args.overlap,
    )
    with replace_files(args.o) as folder:
        settings = replace(settings, maps=folder / MAPS if args.save_maps else None)
        evaluated = evaluate_all(gathered.cases, settings, args.np)
        if evaluated.turned:
            print(turned_note(evaluated.turned), file=sys.stderr)
        Problems(evaluated.problems).raise_any()
        if args.ensemble:  # all its inputs have been read and are valid
            _add_ensemble(args, folder, gathered, settings, evaluated)
        verdict, warnings = write_outputs(folder, args, gathered, settings, evaluated)
    print_verdict(verdict)
    print(*(f"Warning: {text}." for text in warnings), sep="\n", end="\n" * bool(warnings), file=sys.stderr)
    print(f"all tables: {args.o / 'tables.md'}; as a page: nnunet_ici report {args.o}")


def _add_ensemble(
    args: argparse.Namespace, folder: Path, gathered: Gathered, settings: Settings, evaluated: Evaluated
) -> None:
    """Make the ensemble, evaluate it, and add it to the cases and the results."""
    made = make_ensemble(gathered.cases, folder / ENSEMBLE, gathered.file_ending, args.np)
    alone = [replace(case, predictions={ENSEMBLE: made.get(case.name)}) for case in gathered.cases]
    result = evaluate_all(alone, replace(settings, with_probabilities=(ENSEMBLE,)), args.np)
    if result.problems:
        raise InputError(result.problems)
    evaluated.rows += result.rows
    evaluated.instances += result.instances
    evaluated.counts |= result.counts
    gathered.cases = [
        replace(case, predictions=case.predictions | {ENSEMBLE: args.o / ENSEMBLE / made[case.name].name})
        for case in gathered.cases
    ]
