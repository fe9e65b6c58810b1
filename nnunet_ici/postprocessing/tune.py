"""``nnunet_ici tune``: choose a threshold and a minimum lesion volume on the probabilities of a cross-validation."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ici import __version__
from nnunet_ici.command import Command, InputError, Problems, check_file, check_folder, missing_inputs, plural, positive
from nnunet_ici.evaluation.cross_validation import read_folds
from nnunet_ici.evaluation.folders import find_file_ending
from nnunet_ici.evaluation.grids import turned_note
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme, find_label_scheme
from nnunet_ici.output import write_file
from nnunet_ici.parallel import in_parallel
from nnunet_ici.postprocessing.cases import CaseFiles, find_files, score_files
from nnunet_ici.postprocessing.checkpoints import (
    TUNED,
    ShowTuned,
    bias_shifts,
    find_checkpoints,
    rule_after_shift,
    write_tuned,
)
from nnunet_ici.postprocessing.choice import METRICS, choose, draw_folds, match_folds, metric_values
from nnunet_ici.postprocessing.descriptions import description_folders, read_regions_class_order
from nnunet_ici.postprocessing.rule import Rule
from nnunet_ici.postprocessing.sweep import Grid
from nnunet_ici.postprocessing.tune_report import Tuned, class_report, notes, table

__all__ = ["main"]

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
VOLUMES_MM3 = (3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
PEAKS = (None, 0.7, 0.8, 0.9)

NOTES = """\
The probabilities must be those of cases on which the network was not trained. nnU-Net writes them to fold_X/validation
with nnUNetv2_train --npz (after training: nnUNetv2_train ... --val --npz), and nnUNetv2_ensemble with --save_npz.
The score "out of fold" is the one to trust: each fold is scored with the best setting on the other folds. The rule
holds the best setting on all cases. Each class is tuned separately. In a tie, the threshold nearest to 0.5 is chosen,
then the setting that removes least. In 2D, mm3 means mm2, or pixels for .png, .bmp and .tif.

With --checkpoint, nnU-Net's own commands predict at the threshold (nnUNetv2_predict ... -chk checkpoint_tuned.pth).
The rule is then meant for these predictions: nnunet_ici postprocess applies the minimum lesion volume, with a
threshold of 0.5.
"""


def _number(text: str, highest: float) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < highest:
            return float(text)
    raise argparse.ArgumentTypeError(f"Expected: a number of at least 0 and below {highest:g}. Got: {text}")


def _peak(text: str) -> float | None:
    return None if text == "none" else _number(text, 1)


def _arguments(parser: argparse.ArgumentParser) -> None:
    probability, volume = partial(_number, highest=1), partial(_number, highest=float("inf"))
    parser.add_argument(
        "-gt", "--gt", type=Path, required=True, metavar="DIR", help="folder of the ground truth, such as labelsTr"
    )
    parser.add_argument(
        "-prob", "--prob", type=Path, nargs="+", required=True, metavar="DIR", help="folders of probabilities, CASE.npz"
    )
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT.json", help="output file of the rule, overwritten if it exists"
    )
    folds = parser.add_mutually_exclusive_group()
    folds.add_argument("--folds", type=Path, metavar="FILE", help="splits_final.json whose val cases form the folds")
    folds.add_argument("--k", type=int, default=5, help="number of random folds without --folds (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random folds (default: 0)")
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default=METRICS[0],
        help="metric to maximize; mean (default) is the mean of Dice and lesion F1",
    )
    parser.add_argument(
        "--thresholds",
        type=probability,
        nargs="+",
        default=THRESHOLDS,
        metavar="P",
        help="thresholds to try (default: 0.05 to 0.95 in steps of 0.05)",
    )
    parser.add_argument(
        "--volumes-mm3",
        type=volume,
        nargs="+",
        default=VOLUMES_MM3,
        metavar="V",
        help="minimum volumes to try (default: 3 5 10 20 50 100 200); 0 (no removal) is always tried",
    )
    parser.add_argument(
        "--peaks",
        type=_peak,
        nargs="+",
        default=PEAKS,
        metavar="P",
        help="peak probabilities to try: a small lesion is kept if its probability reaches P in any voxel; none means "
        "no such exemption (default: none 0.7 0.8 0.9)",
    )
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="file that defines labels and channels. Default: dataset.json beside the -gt folder, in a -prob folder, "
        "or in the trainer's folder above it; without one, all values above 0 form one class named foreground",
    )
    parser.add_argument(
        "--checkpoint",
        action="store_true",
        help=f"write {TUNED} beside the checkpoint_final.pth of each fold: the same network with the threshold in the "
        "bias of its last layer. Needs one class or regions, and -prob must be fold_X/validation of a single trainer",
    )
    parser.add_argument(
        "--show",
        action=ShowTuned,
        type=Path,
        metavar="PATH",
        help=f"print thresholds, folds and date of a {TUNED}, or of all in a trainer's folder, and exit",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    problems = Problems(check_file("-o", args.o))
    given = [path for path in (args.folds, args.dataset_json) if path is not None]
    problems += missing_inputs(given, folders=[args.gt, *args.prob])
    if args.k < 2:
        problems.append(f"--k is out of range. Expected: 2 or more. Got: {args.k}")
    problems.raise_any()
    files: list[CaseFiles] = []
    folds: list[list[int]] = []
    checkpoints: list[Path] = []
    scheme, order, source = FOREGROUND, None, ""
    with problems.collecting():
        folders = description_folders(args.gt, args.prob)
        scheme, dataset_json, source = find_label_scheme(folders, args.dataset_json)
        if dataset_json is not None:
            order = read_regions_class_order(dataset_json, scheme)
        if args.checkpoint:
            checkpoints, found = find_checkpoints(args.prob, scheme)
            problems += found
            for path in checkpoints:
                problems += check_folder("--checkpoint", path.parent, path.stat().st_size)
            if min(args.thresholds) == 0:
                problems.append("--thresholds does not fit --checkpoint. Expected: above 0. Got: 0")
        file_ending = find_file_ending(args.gt, scheme.file_ending)
        files, found = find_files(args.gt, args.prob, file_ending)
        problems += found
        if files:
            names = [case.name for case in files]
            drawn = draw_folds(names, args.k, args.seed) if args.folds is None else read_folds(args.folds)
            folds, found = match_folds(drawn, names, str(args.folds or "--k"))
            problems += found
    problems.raise_any()

    grid = Grid(tuple(args.thresholds), tuple(args.volumes_mm3), tuple(args.peaks))
    settings = grid.settings()
    print(f"{plural(len(files), 'case')}: {args.gt}", *(f"probabilities: {folder}" for folder in args.prob), sep="\n")
    print(f"classes: {scheme} [{source}]")
    print(f"{plural(len(folds), 'fold')}, {plural(len(settings), 'setting')}", flush=True)
    results = in_parallel(partial(score_files, scheme=scheme, settings=settings), files, args.np, "tune")
    scored = [result for result in results if not isinstance(result, str)]
    if len(scored) < len(results):
        raise InputError([result for result in results if isinstance(result, str)])
    turned = [
        case.prediction
        for case, classes in zip(files, scored, strict=True)
        if case.prediction is not None and any(one.turned for one in classes.values())
    ]
    if turned:
        print(turned_note(turned), file=sys.stderr)

    tuned = {}
    for name in scheme.classes:
        scores = np.stack([case[name].scores for case in scored])
        choice = choose(metric_values(scores, args.metric), folds)
        plain = np.stack([case[name].plain for case in scored])
        tuned[name] = Tuned(sum(case[name].lesions for case in scored), plain, scores, settings, choice, folds)
    rule = Rule(
        LabelScheme(scheme.classes, None, file_ending), {name: one.setting for name, one in tuned.items()}, order
    )
    if args.checkpoint:
        record = _record(rule, args, checkpoints, len(files))
        written = write_tuned(checkpoints, bias_shifts(rule), record)
        rule = rule_after_shift(rule)
    write_file(args.o, json.dumps(_report(rule, args, grid, tuned, files), indent=2) + "\n")
    print(f"\n{table(tuned)}")
    for name, one in tuned.items():
        print(f"{name}: {one.setting}")
        print("".join(f"  {note}\n" for note in notes(name, one, grid, args.metric)), end="")
    if args.checkpoint:
        print(*(f"written: {path}" for path in written), sep="\n")
    print(f"written to {args.o}")


def _record(rule: Rule, args: argparse.Namespace, checkpoints: Sequence[Path], cases: int) -> dict[str, Any]:
    """The record stored in tuned checkpoints."""
    return {
        "nnunet_ici": __version__,
        "date": _now(),
        "thresholds": {name: setting.threshold for name, setting in rule.settings.items()},
        "rule": rule.to_json()["rule"],
        "metric": args.metric,
        "folds": [path.parent.name for path in checkpoints],
        "cases": cases,
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _report(
    rule: Rule, args: argparse.Namespace, grid: Grid, tuned: dict[str, Tuned], files: Sequence[CaseFiles]
) -> dict[str, Any]:
    names = [case.name for case in files]
    return {
        "nnunet_ici": __version__,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "connected-components-3d")},
        },
        "date": _now(),
        **rule.to_json(),
        "metric": args.metric,
        "scores": {name: class_report(one, names) for name, one in tuned.items()},
        "grid": {"thresholds": grid.thresholds, "volumes_mm3": grid.volumes_mm3, "peaks": grid.peaks},
        "folds": f"{args.k} drawn with seed {args.seed}" if args.folds is None else str(args.folds),
        "files": {case.name: {"label": str(case.label), "probabilities": str(case.probabilities)} for case in files},
    }


main = Command(
    "For each class, choose the probability threshold and the volume below which lesions are removed, on the "
    "probabilities of a cross-validation. nnunet_ici postprocess applies them.",
    _arguments,
    _run,
    epilog=NOTES,
)
