"""``nnunet_ici convert-atlas``: the command around :func:`~nnunet_ici.datasets.atlas_to_raw.convert_atlas`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_ici.command import Command, Problems, plural, positive
from nnunet_ici.datasets.atlas_to_raw import EXCLUDED_NAME, SKIPPED_NAME, WARNINGS_NAME, Converted, convert_atlas
from nnunet_ici.datasets.splits import SPLITS
from nnunet_ici.environment import find_folder

__all__ = ["main"]

SHOWN = 5


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="folder of the release, the folder above it, or the folder that contains its sites",
    )
    parser.add_argument("-d", type=int, default=100, metavar="ID", help="number of the dataset (default: 100)")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="write splits_final.json, randomised with --seed. paper: 600 training and 55 validation subjects (or this "
        "proportion of another number), fold 0 only. site: five folds, with each site in a single fold. volume: five "
        "folds with similar lesion volumes. Default: nnU-Net makes five folds itself, which may separate the sessions "
        "of a subject",
    )
    parser.add_argument(
        "--exclude-atlas2",
        nargs="+",
        default=[],
        metavar="VALUE",
        help="exclude the sessions with these values of ATLAS2_DATASET in their metadata (give SRC before this option) "
        f"and list them in {EXCLUDED_NAME}; test stands for the former hidden test set of ATLAS 2.0",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    parser.add_argument(
        "--binarize", action="store_true", help="accept masks that are not binary; voxels above 0 become lesion"
    )
    parser.add_argument(
        "--trust",
        choices=("sform", "qform"),
        help="transform to keep in files whose sform and qform differ, which are refused without this option",
    )
    parser.add_argument("--skip-bad", action="store_true", help=f"skip bad files, and list them in {SKIPPED_NAME}")
    parser.add_argument("--symlink", action="store_true", help="link files instead of copying them, where possible")
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    problems = Problems()
    with problems.collecting():
        raw = find_folder("nnUNet_raw")
    problems.raise_any()
    preprocessed = os.environ.get("nnUNet_preprocessed")
    done = convert_atlas(
        args.source,
        raw,
        dataset_id=args.d,
        preprocessed=Path(preprocessed) if preprocessed else None,
        split=args.split,
        seed=args.seed,
        exclude=args.exclude_atlas2,
        binarize=args.binarize,
        skip_bad=args.skip_bad,
        symlink=args.symlink,
        trust=args.trust,
        processes=args.np,
    )
    print(*_summary(done), f"next: nnUNetv2_plan_and_preprocess -d {args.d} --verify_dataset_integrity", sep="\n")


def _summary(done: Converted) -> Iterator[str]:
    """What was converted and what was left out, line by line."""
    yield f"ATLAS {done.release}"
    testing = sum(session.mask is None for session in done.sessions)
    subjects = len({session.subject for session in done.sessions if session.mask is not None})
    training = f"{plural(len(done.sessions) - testing, 'training case')} of {plural(subjects, 'subject')}"
    yield f"{done.folder}: {training}, {plural(testing, 'test case')}"
    metadata = done.metadata
    found = [str(metadata.path)] * (metadata.path is not None)
    found += [f"individual sheets of {plural(metadata.own_sheets, 'session')}"] * (metadata.own_sheets > 0)
    yield f"metadata: {' and '.join(found) or 'no sheet *MetaData*.csv or .xlsx found'}"
    if metadata.absent:
        have = "entry of the sheet has" if len(metadata.absent) == 1 else "entries of the sheet have"
        yield f"{len(metadata.absent)} {have} no folder: {', '.join(_shortened(metadata.absent, ''))}"
    if done.excluded:
        values = ", ".join(sorted(set(done.excluded.values())))
        path = done.folder / EXCLUDED_NAME
        yield f"excluded {plural(len(done.excluded), 'session')} with ATLAS2_DATASET {values}: {path}"
    if done.warnings:
        yield f"{plural(len(done.warnings), 'warning')}: {done.folder / WARNINGS_NAME}"
        yield from _shortened(done.warnings, "- ")
    if done.skipped:
        skipped = plural(len(done.skipped), "problem")
        yield f"{skipped}; the affected files were skipped: {done.folder / SKIPPED_NAME}"
        yield from _shortened(done.skipped, "- ")
    for path in done.splits:
        folds = json.loads(path.read_text())
        sizes = ", ".join(f"{len(fold['train'])} + {len(fold['val'])}" for fold in folds)
        use = "fold 0" if len(folds) == 1 else f"folds 0 to {len(folds) - 1}"
        yield f"{path}: training + validation cases {sizes}, for {use}"
    if len(done.splits) == 1:
        yield f"nnUNet_preprocessed is not set: copy the split to $nnUNet_preprocessed/{done.folder.name}/"


def _shortened(items: Sequence[object], mark: str) -> list[str]:
    """The first items, and the number of all others."""
    more = [f"{mark}and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"{mark}{item}" for item in items[:SHOWN]] + more


main = Command(
    "Convert ATLAS R2.0, R2.1 or R3.0 (the training data of ISLES'26) to nnU-Net raw data (nnUNet_raw must be set). "
    "The release is detected from the names of the files. All problems are reported before anything is written.",
    _arguments,
    _run,
)
