"""``nnunet_ici convert-atlas``: the command around :func:`~nnunet_ici.datasets.atlas_to_raw.convert_atlas`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_ici.datasets.atlas_to_raw import SKIPPED_NAME, BadInputError, Converted, convert_atlas

__all__ = ["main"]


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Convert ATLAS R2.0 to nnU-Net raw data (nnUNet_raw must be set). Everything that is wrong "
        "is listed before anything is written.",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the folder ATLAS_2, or its parent")
    parser.add_argument("-d", type=int, default=100, metavar="ID", help="number of the data set (default: 100)")
    parser.add_argument(
        "--split",
        choices=["paper"],
        help="paper: write splits_final.json with 600 training and 55 validation subjects (other numbers of "
        "subjects: in that proportion), drawn by --seed; use it with fold 0. Without: nnU-Net makes five folds",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument("--binarize", action="store_true", help="accept masks that are not 0/1: above 0 is lesion")
    parser.add_argument("--skip-bad", action="store_true", help=f"convert the rest, and list the bad in {SKIPPED_NAME}")
    parser.add_argument("--symlink", action="store_true", help="link files that can be used as they are, not copy them")
    parser.add_argument("-np", type=int, default=2, metavar="N", help="number of processes (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Convert, and say what was done.

    Returns:
        0, or 1 with a report on stderr where something is wrong.
    """
    parser = _parser(prog)
    args = parser.parse_args(argv)
    if args.np < 1:
        parser.error(f"-np must be at least 1. Got: {args.np}")
    if not os.environ.get("nnUNet_raw"):
        print("nnUNet_raw is not set: export nnUNet_raw=/path/to/a/folder", file=sys.stderr)
        return 1
    preprocessed = os.environ.get("nnUNet_preprocessed")
    try:
        done = convert_atlas(
            args.source,
            Path(os.environ["nnUNet_raw"]),
            dataset_id=args.d,
            preprocessed=Path(preprocessed) if preprocessed else None,
            split=args.split,
            seed=args.seed,
            binarize=args.binarize,
            skip_bad=args.skip_bad,
            symlink=args.symlink,
            processes=args.np,
        )
    except BadInputError as error:
        print(error, file=sys.stderr)
        if error.skippable:
            print("--skip-bad converts the rest", file=sys.stderr)
        return 1
    _tell(done, args.d)
    return 0


def _tell(done: Converted, dataset_id: int) -> None:
    testing = sum(session.mask is None for session in done.sessions)
    subjects = len({session.subject for session in done.sessions if session.mask is not None})
    print(f"{done.folder}: {len(done.sessions) - testing} training cases of {subjects} subjects, {testing} test cases")
    print(f"metadata: {done.metadata.path or 'no sheet *ATLAS*MetaData*.csv or .xlsx found'}")
    if done.skipped:
        print(f"{len(done.skipped)} problems, what has them was left out: {done.folder / SKIPPED_NAME}")
        for problem in done.skipped:
            print(f"- {problem}")
    for path in done.splits:
        fold = json.loads(path.read_text())[0]
        print(f"{path}: {len(fold['train'])} training and {len(fold['val'])} validation cases, for fold 0")
    if len(done.splits) == 1:
        print(f"nnUNet_preprocessed is not set: copy the split to $nnUNet_preprocessed/{done.folder.name}/")
    print(f"next: nnUNetv2_plan_and_preprocess -d {dataset_id} --verify_dataset_integrity")


if __name__ == "__main__":
    sys.exit(main())
