"""``nnunet_ici convert-atlas``: the command around :func:`~nnunet_ici.datasets.atlas_to_raw.convert_atlas`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from nnunet_ici.command import Command, Problems, plural, positive
from nnunet_ici.datasets.atlas import Problem
from nnunet_ici.datasets.atlas_metadata import Metadata
from nnunet_ici.datasets.atlas_to_raw import Converted, convert_atlas
from nnunet_ici.datasets.raw_tables import EXCLUDED_NAME, SKIPPED_NAME, WARNINGS_NAME
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
    _tell(done, args.d)


def _tell(done: Converted, dataset_id: int) -> None:
    print(f"ATLAS {done.release}")
    testing = sum(session.mask is None for session in done.sessions)
    subjects = len({session.subject for session in done.sessions if session.mask is not None})
    training = f"{plural(len(done.sessions) - testing, 'training case')} of {plural(subjects, 'subject')}"
    print(f"{done.folder}: {training}, {plural(testing, 'test case')}")
    _tell_metadata(done.metadata)
    if done.excluded:
        values = ", ".join(sorted(set(done.excluded.values())))
        path = done.folder / EXCLUDED_NAME
        print(f"excluded {plural(len(done.excluded), 'session')} with ATLAS2_DATASET {values}: {path}")
    _tell_problems("warning", done.warnings, done.folder / WARNINGS_NAME)
    _tell_problems("problem", done.skipped, done.folder / SKIPPED_NAME, "; the affected files were skipped")
    for path in done.splits:
        folds = json.loads(path.read_text())
        sizes = ", ".join(f"{len(fold['train'])} + {len(fold['val'])}" for fold in folds)
        use = "fold 0" if len(folds) == 1 else f"folds 0 to {len(folds) - 1}"
        print(f"{path}: training + validation cases {sizes}, for {use}")
    if len(done.splits) == 1:
        print(f"nnUNet_preprocessed is not set: copy the split to $nnUNet_preprocessed/{done.folder.name}/")
    print(f"next: nnUNetv2_plan_and_preprocess -d {dataset_id} --verify_dataset_integrity")


def _tell_metadata(metadata: Metadata) -> None:
    found = [str(metadata.path)] if metadata.path else []
    found += [f"individual sheets of {plural(metadata.own_sheets, 'session')}"] if metadata.own_sheets else []
    print(f"metadata: {' and '.join(found) or 'no sheet *MetaData*.csv or .xlsx found'}")
    if metadata.absent:
        more = f" and {len(metadata.absent) - SHOWN} more" if len(metadata.absent) > SHOWN else ""
        listed = ", ".join(metadata.absent[:SHOWN])
        have = "entry of the sheet has" if len(metadata.absent) == 1 else "entries of the sheet have"
        print(f"{len(metadata.absent)} {have} no folder: {listed}{more}")


def _tell_problems(what: str, found: Sequence[Problem], path: Path, end: str = "") -> None:
    if found:
        print(f"{plural(len(found), what)}{end}: {path}", *(f"- {x}" for x in found), sep="\n")


main = Command(
    "Convert ATLAS R2.0, R2.1 or R3.0 (the training data of ISLES'26) to nnU-Net raw data (nnUNet_raw must be set). "
    "The release is detected from the names of the files. All problems are reported before anything is written.",
    _arguments,
    _run,
)
