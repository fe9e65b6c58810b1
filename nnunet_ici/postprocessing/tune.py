"""``nnunet_ici tune``: choose a threshold and a minimum lesion volume on the probabilities of a cross-validation."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from nnunet_ici.command import Command, InputError, Problems, check_file, check_folder, missing_inputs, plural, positive
from nnunet_ici.evaluation.cross_validation import held_out_problems, read_folds
from nnunet_ici.evaluation.folders import find_file_ending
from nnunet_ici.evaluation.grids import have_millimetres, turned_note
from nnunet_ici.evaluation.labels import FOREGROUND, find_label_scheme
from nnunet_ici.output import write_file
from nnunet_ici.parallel import in_parallel
from nnunet_ici.postprocessing.cases import CaseFiles, find_files, read_case
from nnunet_ici.postprocessing.checkpoints import ShowTuned, find_checkpoints, rule_after_shift, write_choice
from nnunet_ici.postprocessing.choice import Grid, choose, draw_folds, match_folds
from nnunet_ici.postprocessing.network import BEST, TUNED, fingerprint
from nnunet_ici.postprocessing.rule import Rule, Setting, read_regions_class_order
from nnunet_ici.postprocessing.sweep import CHOICES, MEAN, THRESHOLDS, Sweep
from nnunet_ici.postprocessing.tune_report import notes, report, table, written_rule

__all__ = ["main"]

VOLUMES_MM3 = (3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
PEAKS = (None, 0.7, 0.8, 0.9)

NOTES = """\
The probabilities must be those of cases on which the network was not trained. nnU-Net writes them to fold_X/validation
with nnUNetv2_train --npz (after training: nnUNetv2_train ... --val --npz), and nnUNetv2_ensemble with --save_npz.
Every setting is scored on the label maps that it writes. The threshold is chosen first, then the minimum volume. The
score "out of fold" is the one to trust: each fold is scored with the best setting on the other folds. The rule holds
the best setting on all cases, and 0.5 for a class without a gain out of fold. Each class is tuned separately. In a tie,
the threshold nearest to 0.5 is chosen, then the setting that removes least. In 2D, mm3 means mm2; for .png,
.bmp and .tif without a spacing it means voxels.

With --checkpoint, nnU-Net's own commands predict at the threshold (nnUNetv2_predict ... -chk checkpoint_tuned.pth).
The rule is then meant for these predictions: nnunet_ici postprocess applies the minimum lesion volume, with a
threshold of 0.5.
"""


def _description_folders(label_folder: Path, probability_folders: Iterable[Path]) -> Iterator[Path]:
    """The folders in which nnU-Net's dataset.json may be.

    These are the folder above the labels, and each folder of predictions. For a fold's ``validation``, the trainer's
    folder is included.
    """
    yield label_folder.resolve().parent
    for folder in probability_folders:
        yield folder
        if folder.resolve().name == "validation":
            yield folder.resolve().parent.parent


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
        choices=CHOICES,
        default=MEAN,
        metavar="METRIC",
        help="metric to maximize: a column of nnunet_ici evaluate, or mean (default), the mean of Dice and "
        "lesion-wise Dice",
    )
    parser.add_argument(
        "--overlap",
        type=probability,
        default=0.0,
        metavar="IOU",
        help="minimum IoU of a found lesion (default: 0, any shared voxel)",
    )
    parser.add_argument(
        "--thresholds",
        type=probability,
        nargs="+",
        metavar="P",
        help="thresholds to try (default: 25 from 0.02 to 0.99999, even in the logit, and 6 around the best)",
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
        nargs="?",
        const="",
        metavar="NAME",
        help=f"write {TUNED} and threshold.json in each fold: the same network with the threshold in the bias of its "
        "last layer. Needs one class or regions, and -prob must be fold_X/validation of a single trainer. NAME is the "
        f"checkpoint that made the probabilities, such as {BEST} (default: as threshold.json says, or the final one)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write the choice without a gain out of fold, and take probabilities that are older than the checkpoint",
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
    scheme, order, source, in_mm = FOREGROUND, None, "", True
    with problems.collecting():
        folders = _description_folders(args.gt, args.prob)
        scheme, dataset_json, source = find_label_scheme(folders, args.dataset_json)
        if dataset_json is not None:
            order = read_regions_class_order(dataset_json, scheme)
        problems += [problem for folder in args.prob for problem in held_out_problems(folder, ".npz", args.folds)]
        if args.checkpoint is not None:
            checkpoints, found = find_checkpoints(args.prob, scheme, args.checkpoint or None, args.force)
            problems += found
            for path in checkpoints:
                problems += check_folder("--checkpoint", path.parent, path.stat().st_size)
            if args.thresholds and min(args.thresholds) == 0:
                problems.append("--thresholds does not fit --checkpoint. Expected: above 0. Got: 0")
        file_ending = find_file_ending(args.gt, scheme.file_ending)
        files, found = find_files(args.gt, args.prob, file_ending)
        problems += found
        if files:
            names = [case.name for case in files]
            drawn = draw_folds(names, args.k, args.seed) if args.folds is None else read_folds(args.folds)
            folds, found = match_folds(drawn, names, str(args.folds or "--k"))
            problems += found
        in_mm = have_millimetres([case.label for case in files])
    problems.raise_any()

    given_thresholds = args.thresholds is not None
    thresholds = tuple(args.thresholds) if given_thresholds else THRESHOLDS
    grid = Grid(thresholds, not given_thresholds, tuple(args.volumes_mm3), tuple(args.peaks))
    plain = Rule(scheme, {name: Setting() for name in scheme.classes}, order)
    print(f"{plural(len(files), 'case')}: {args.gt}", *(f"probabilities: {folder}" for folder in args.prob), sep="\n")
    print(f"classes: {scheme} [{source}]")
    print(f"{plural(len(folds), 'fold')}, thresholds {min(thresholds):g} to {max(thresholds):g}", flush=True)
    if not in_mm:
        print("no voxel size: minimum volumes are in voxels")
    read = in_parallel(partial(read_case, rule=plain, lowest=min(thresholds)), files, args.np, "tune")
    cases = [case for case in read if not isinstance(case, str)]
    if len(cases) < len(read):
        raise InputError([problem for problem in read if isinstance(problem, str)])
    turned = [case.turned for case in cases if case.turned is not None]
    if turned:
        print(turned_note(turned), file=sys.stderr)

    with problems.collecting():
        choice = choose(Sweep(cases, plain, args.metric, args.overlap, args.np, "tune"), folds, grid)
    problems.raise_any()
    print(f"\n{table(choice)}")
    for name, setting in choice.rule.settings.items():
        told = "\n  ".join([f"{name}: {setting}", *notes(choice, name, grid)])
        print(told if in_mm else told.replace("mm³", "voxels"))
    gains = any(choice.gains(name) for name in scheme.classes)
    if not gains and not args.force:
        print("no gain out of fold: 0.5 stays, and no checkpoint is written (--force writes the choice)")
        checkpoints = []
    final = written_rule(choice.best if args.force else choice.rule, file_ending)
    network = {path.parent.name: {"checkpoint": path.name, "fingerprint": fingerprint(path)} for path in checkpoints}
    content = report(choice, final, network)
    content |= {
        "grid": {"thresholds": thresholds, "volumes_mm3": args.volumes_mm3, "peaks": args.peaks},
        "folds": f"{args.k} drawn with seed {args.seed}" if args.folds is None else str(args.folds),
        "files": {case.name: {"label": str(case.label), "probabilities": str(case.probabilities)} for case in files},
    }
    written = write_choice(checkpoints, final, content) if checkpoints else []
    if checkpoints:
        content |= rule_after_shift(final).to_json()
    write_file(args.o, json.dumps(content, indent=2) + "\n")
    print(*(f"written: {path}" for path in written), f"written to {args.o}", sep="\n")


main = Command(
    "For each class, choose the probability threshold and the volume below which lesions are removed, on the "
    "probabilities of a cross-validation. nnunet_ici postprocess applies them.",
    _arguments,
    _run,
    epilog=NOTES,
)
