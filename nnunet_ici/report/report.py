"""``nnunet_ici report``: one HTML page from an evaluation."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from nnunet_ici.command import Command, Problems, check_file, missing_inputs, plural, positive
from nnunet_ici.evaluation.grids import turned_note
from nnunet_ici.output import write_file
from nnunet_ici.report.reading import read_evaluation
from nnunet_ici.report.training import find_fold_folders, parse_trainings, read_curves

__all__ = ["main"]

MOST_NAMED = 5  # maximum number of cases without slices that are named on stderr


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("evaluation", type=Path, metavar="OUT", help="output folder of nnunet_ici evaluate")
    parser.add_argument("-o", type=Path, metavar="FILE", help="HTML page to write (default: OUT/report.html)")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images to draw behind the lesions, named CASE_0000.ENDING or CASE.ENDING (default: black "
        "background)",
    )
    parser.add_argument(
        "--training",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FOLDER",
        help="name of a model, and the folder of one fold or of all folds in nnU-Net's results; not needed if the "
        "validation predictions of the folds were evaluated (evaluate -tr)",
    )
    parser.add_argument(
        "--cases",
        type=positive,
        metavar="K",
        help="number of cases to draw as slices, evenly spaced from worst to best; the tables contain all cases "
        "(default: all)",
    )
    parser.add_argument(
        "--full",
        type=positive,
        default=20,
        metavar="K",
        help="number of these cases to draw in full, evenly spaced from worst to best: axial, coronal and sagittal "
        "slices, missed lesions and false predictions; the other cases have one slice and, if needed, a projection "
        "(default: 20)",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    path = args.evaluation / "report.html" if args.o is None else args.o
    problems = Problems(check_file("-o", path))
    problems += missing_inputs(folders=[args.evaluation, *([] if args.images is None else [args.images])])
    problems += parse_trainings(args.training, None)[1]
    problems.raise_any()
    evaluation, found = read_evaluation(args.evaluation)
    problems += found
    given, found = parse_trainings(args.training, None if evaluation is None else evaluation.models)
    problems += found
    own = find_fold_folders(evaluation.cases.values()) if evaluation is not None else []
    trainings = []
    folders = {folder.resolve(): (name, folder) for name, folder in [*own, *given]}  # each folder once
    for name, folder in sorted(folders.values()):
        with problems.collecting():
            trainings.append(read_curves(name, folder))
    problems.raise_any()
    assert evaluation is not None  # otherwise raise_any has raised
    evaluation = evaluation.shortened()
    trainings = [replace(one, name=one.name.removesuffix(evaluation.name_end)) for one in trainings]

    # import matplotlib only if there are no problems so far
    from nnunet_ici.report.drawn_cases import draw_cases
    from nnunet_ici.report.page import make_page

    cases, found = draw_cases(evaluation, args.images, args.cases, args.full, args.np)
    Problems(found).raise_any()
    page = make_page(evaluation, cases, trainings)
    write_file(path, page)
    if turned := [path for case in cases for path in case.turned]:
        print(turned_note(turned), file=sys.stderr)
    for case in [case for case in cases if case.missing][:MOST_NAMED]:
        gone = "; ".join(f"{path} no longer exists" for _, path in case.missing)
        print(f"no slices for {case.name}: {gone}", file=sys.stderr)
    if (more := sum(bool(case.missing) for case in cases) - MOST_NAMED) > 0:
        print(f"no slices for {plural(more, 'more case')}, for the same reason", file=sys.stderr)
    if without := [case.name for case in cases if case.without_image]:
        names = ", ".join(without)
        print(f"no image for {plural(len(without), 'case')}, drawn on a black background: {names}", file=sys.stderr)
    print(f"written to {path} ({len(page.encode()) / 1e6:.1f} MB)")


main = Command(
    "Write one HTML page from the output of nnunet_ici evaluate: tables, scores and volumes of all cases, the size of "
    "each found or missed lesion, recall by size, slices of every case, and training curves. The page is "
    "self-contained, works offline, and can be printed.",
    _arguments,
    _run,
)
