"""``nnunet_ici convert-atlas``: the command around :func:`~nnunet_ici.datasets.atlas_to_raw.convert_atlas`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from nnunet_ici.command import Command, InputError, positive
from nnunet_ici.datasets.atlas_metadata import Metadata
from nnunet_ici.datasets.atlas_to_raw import Converted, convert_atlas
from nnunet_ici.datasets.raw_tables import EXCLUDED_NAME, SKIPPED_NAME
from nnunet_ici.datasets.splits import SPLITS

__all__ = ["main"]

SHOWN = 5


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="the folder of the release, the one above it, or the one of its sites"
    )
    parser.add_argument("-d", type=int, default=100, metavar="ID", help="number of the data set (default: 100)")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="write splits_final.json. paper: 600 training and 55 validation subjects (other numbers of subjects: in "
        "that proportion), for fold 0. site: five folds, whole sites apart. volume: five folds with the same lesion "
        "volumes. Drawn by --seed. Without: nnU-Net makes five folds, which know neither subjects nor sites",
    )
    parser.add_argument(
        "--exclude-atlas2",
        nargs="+",
        default=[],
        metavar="VALUE",
        help="leave out the sessions whose metadata have this ATLAS2_DATASET (after SRC), such as test: the former "
        f"hidden test set of ATLAS 2.0; listed in {EXCLUDED_NAME}",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument("--binarize", action="store_true", help="accept masks that are not 0/1: above 0 is lesion")
    parser.add_argument("--skip-bad", action="store_true", help=f"convert the rest, and list the bad in {SKIPPED_NAME}")
    parser.add_argument("--symlink", action="store_true", help="link files that can be used as they are, not copy them")
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    if not os.environ.get("nnUNet_raw"):
        raise InputError(["nnUNet_raw is not set: export nnUNet_raw=/path/to/a/folder"])
    preprocessed = os.environ.get("nnUNet_preprocessed")
    done = convert_atlas(
        args.source,
        Path(os.environ["nnUNet_raw"]),
        dataset_id=args.d,
        preprocessed=Path(preprocessed) if preprocessed else None,
        split=args.split,
        seed=args.seed,
        exclude=args.exclude_atlas2,
        binarize=args.binarize,
        skip_bad=args.skip_bad,
        symlink=args.symlink,
        processes=args.np,
    )
    _tell(done, args.d)


def _tell(done: Converted, dataset_id: int) -> None:
    print(f"ATLAS {done.release}")
    testing = sum(session.mask is None for session in done.sessions)
    subjects = len({session.subject for session in done.sessions if session.mask is not None})
    print(f"{done.folder}: {len(done.sessions) - testing} training cases of {subjects} subjects, {testing} test cases")
    _tell_metadata(done.metadata)
    if done.excluded:
        values = ", ".join(sorted(set(done.excluded.values())))
        path = done.folder / EXCLUDED_NAME
        print(f"{len(done.excluded)} sessions of ATLAS2_DATASET {values} were left out: {path}")
    if done.skipped:
        print(f"{len(done.skipped)} problems, what has them was left out: {done.folder / SKIPPED_NAME}")
        for problem in done.skipped:
            print(f"- {problem}")
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
    found += [f"a sheet each of {metadata.own_sheets} sessions"] if metadata.own_sheets else []
    print(f"metadata: {' and '.join(found) or 'no sheet *MetaData*.csv or .xlsx found'}")
    if metadata.absent:
        more = f" and {len(metadata.absent) - SHOWN} more" if len(metadata.absent) > SHOWN else ""
        print(f"{len(metadata.absent)} in the sheet without a folder: {', '.join(metadata.absent[:SHOWN])}{more}")


main = Command(
    "Convert ATLAS R2.0, R2.1 or R3.0 (the training data of ISLES'26) to nnU-Net raw data (nnUNet_raw must be set). "
    "The files say which release it is. Everything that is wrong is listed before anything is written.",
    _arguments,
    _run,
)
