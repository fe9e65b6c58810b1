"""``nnunet_ici evaluate``: compare models by their lesions, on the same cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_ici.command import Command, positive
from nnunet_ici.evaluation.brats import CHALLENGES
from nnunet_ici.evaluation.families import CONVENTIONS, DEFAULT_FAMILIES, FAMILIES

__all__ = ["main"]

SIZES = (10.0, 100.0, 1000.0, 10000.0)


def _fold(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"Expected: the number of a fold, or all. Got: {text}")
    return text if text == "all" else str(int(text))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-gt", "--gt", type=Path, metavar="DIR", help="ground truth, such as labelsTs")
    parser.add_argument(
        "-pred",
        "--pred",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]DIR",
        help="a model's name in the tables (default: the folder's), and the folder of its predictions; with nnU-Net's "
        "probabilities (.npz) beside them there are PR-AUC and FROC too. Other models are compared with the first one",
    )
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT", help="output folder; files in it are overwritten"
    )
    parser.add_argument(
        "--family",
        nargs="+",
        choices=list(FAMILIES),
        default=list(DEFAULT_FAMILIES),
        metavar="FAMILY",
        help=f"families of metrics: {', '.join(FAMILIES)} (default: all but brats, which takes longer)",
    )
    folds = parser.add_argument_group("a cross-validation, from nnUNet_results, instead of -pred or beside it")
    folds.add_argument(
        "-tr", nargs="+", action="extend", default=[], metavar="[NAME=]TRAINER", help="such as nnUNetTrainerICI"
    )
    folds.add_argument("-d", metavar="ID", help="data set; -gt is then its labelsTr")
    folds.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="default: 3d_fullres")
    folds.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    folds.add_argument(
        "-f", type=_fold, nargs="+", metavar="FOLD", help="numbers, or all (default: the numbers that any trainer has)"
    )
    brats = parser.add_argument_group("the family brats")
    brats.add_argument(
        "--brats",
        choices=list(CHALLENGES),
        default="met",
        help="challenge that sets dilation and smallest volume: metastases, meningioma, glioma, glioma in Sub-Saharan "
        "Africa, paediatric (default: met)",
    )
    brats.add_argument("--brats-dilation", type=int, metavar="N", help="number of dilations instead of the challenge's")
    brats.add_argument(
        "--brats-smallest", type=float, metavar="MM3", help="smallest volume instead of the challenge's (0: none)"
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="add the ensemble of all models, made by nnU-Net from their probabilities into OUT/ensemble",
    )
    parser.add_argument(
        "--sizes",
        type=float,
        nargs="+",
        default=list(SIZES),
        metavar="EDGE",
        help="edges between the sizes of lesions, in mm3 (2D: mm2; default: 10 100 1000 10000)",
    )
    parser.add_argument("--voxels", action="store_true", help="sizes in voxels; always so for PNG, BMP and TIFF")
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="says what the label values mean (classes, regions, ignore label); default: dataset.json beside the -gt "
        "folder, else in a -pred folder, else every value above 0 is one class, named foreground",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")
    parser.add_argument("--allow-missing", action="store_true", help="count a missing prediction as an empty one")


def _run(args: argparse.Namespace) -> None:
    from nnunet_ici.evaluation.evaluate_run import evaluate  # SimpleITK and SciPy only where they are needed

    evaluate(args)


main = Command(
    "Compare the predictions of one or several models with the ground truth, lesion by lesion. Writes cases.csv, "
    "instances.csv, summary.json and tables.md, .csv and .tex, and prints the tables.",
    _arguments,
    _run,
    epilog=CONVENTIONS,
)
