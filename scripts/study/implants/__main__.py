"""Create nnU-Net raw data from lesion masks: the lesions in the MNI template, warped differently in each case.

    python -m scripts.study.implants MASKS NNUNET_RAW -d 300 [-n 24] [--test 9] [--seed 0] [--spacing 1] [-np 2]

MASKS holds one binary NIfTI per patient in MNI space, such as the 27 of Lesjak et al., Neuroinformatics 2017,
doi 10.1007/s12021-017-9348-7 (CC-BY). Patients are split into training, validation and testing: see cases.csv and
splits_final.json in the new folder. Copy splits_final.json to nnUNet_preprocessed/DatasetXXX_Implants after planning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_ici.datasets.atlas_to_raw import BadInputError
from scripts.study.implants.dataset import implant_lesions


def main(argv: Sequence[str] | None = None) -> int:
    """Create the dataset.

    Returns:
        0, or 1 after an error, which is printed to stderr.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("masks", type=Path, metavar="MASKS", help="folder with one mask (*.nii.gz) per patient")
    parser.add_argument("raw", type=Path, metavar="NNUNET_RAW", help="nnU-Net's folder nnUNet_raw")
    parser.add_argument("-d", type=int, default=300, metavar="ID", help="number of the dataset (default: 300)")
    parser.add_argument("-n", type=int, default=24, metavar="N", help="cases for training and validation (24)")
    parser.add_argument("--test", type=int, default=9, metavar="N", help="cases for testing (9)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (0)")
    parser.add_argument("--spacing", type=float, default=1, metavar="MM", help="voxel spacing, 1 to 4 (1)")
    parser.add_argument("-np", type=int, default=2, metavar="N", help="number of processes (2)")
    args = parser.parse_args(argv)
    if args.np < 1:
        parser.error(f"-np must be at least 1. Got: {args.np}")
    if args.seed < 0:
        parser.error(f"--seed must not be negative. Got: {args.seed}")
    try:
        folder = implant_lesions(
            args.masks,
            args.raw,
            dataset_id=args.d,
            training=args.n,
            testing=args.test,
            seed=args.seed,
            spacing_mm=args.spacing,
            processes=args.np,
        )
    except (BadInputError, ModuleNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder}: {args.n} training and {args.test} test cases. SYNTHETIC: see {folder / 'dataset.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
