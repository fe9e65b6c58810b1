"""The run of ``nnunet_ici evaluate``, from its arguments to the files and the verdict."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from nnunet_ici.command import Problems, plural
from nnunet_ici.evaluation.ensemble import ENSEMBLE, make_ensemble
from nnunet_ici.evaluation.evaluate_cases import Evaluated, evaluate_all
from nnunet_ici.evaluation.grids import turned_note
from nnunet_ici.evaluation.inputs import Inputs, read_inputs
from nnunet_ici.evaluation.outputs import print_verdict, write_outputs
from nnunet_ici.output import replace_files

__all__ = ["evaluate"]

MOST_LINES = 30  # in the terminal
MOST_NAMED = 5  # folders of models, or warnings
MAPS = "maps"  # folder of --save-maps


def evaluate(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: with all problems of one stage: of the arguments, of the folders, or of the images.
    """
    inputs = read_inputs(args)
    print(f"{plural(len(inputs.cases), 'case')}: {inputs.label_folder}")
    for model, where in list(inputs.models.items())[:MOST_NAMED]:
        print(f"{model}: {where}")
    if len(inputs.models) > MOST_NAMED:
        print(f"and {plural(len(inputs.models) - MOST_NAMED, 'more model')}")
    print(f"classes: {inputs.settings.scheme} [{inputs.source}]", flush=True)
    with replace_files(args.o) as folder:
        settings = replace(inputs.settings, maps=folder / MAPS if args.save_maps else None)
        evaluated = evaluate_all(inputs.cases, settings, args.np)
        if evaluated.turned:
            print(turned_note(evaluated.turned), file=sys.stderr)
        Problems(evaluated.problems).raise_any()
        if args.ensemble:  # all its inputs have been read and are valid
            inputs = _add_ensemble(replace(inputs, settings=settings), folder, evaluated)
        verdict, warnings = write_outputs(folder, inputs, evaluated)
    warnings[MOST_NAMED:] = [f"{len(warnings) - MOST_NAMED} more in tables.md"] * (len(warnings) > MOST_NAMED)
    print_verdict(verdict, MOST_LINES - min(len(inputs.models), MOST_NAMED + 1) - len(warnings) - 3)
    print(*(f"Warning: {text}." for text in warnings), sep="\n", end="\n" * bool(warnings), file=sys.stderr)
    print(f"all tables: {args.o / 'tables.md'}; as a page: nnunet_ici report {args.o}")


def _add_ensemble(inputs: Inputs, folder: Path, evaluated: Evaluated) -> Inputs:
    """Make the ensemble, evaluate it and add its results; returns the inputs with the ensemble."""
    processes, settings = inputs.arguments["np"], inputs.settings
    made = make_ensemble(inputs.cases, folder / ENSEMBLE, settings.file_ending, processes)
    alone = [replace(case, predictions={ENSEMBLE: made.get(case.name)}) for case in inputs.cases]
    result = evaluate_all(alone, replace(settings, with_probabilities=(ENSEMBLE,)), processes)
    Problems(result.problems).raise_any()
    evaluated.add(result)
    final = inputs.arguments["o"] / ENSEMBLE
    cases = [
        replace(case, predictions=case.predictions | {ENSEMBLE: final / made[case.name].name}) for case in inputs.cases
    ]
    return replace(inputs, cases=cases)
