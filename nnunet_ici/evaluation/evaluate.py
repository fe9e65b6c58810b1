"""``nnunet_ici evaluate``: lesion-wise comparison of models on the same cases."""

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
    parser.add_argument("-gt", "--gt", type=Path, metavar="DIR", help="folder of the ground truth, such as labelsTs")
    parser.add_argument(
        "-pred",
        "--pred",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]DIR",
        help="folder of a model's predictions, and the model's name in the tables (default: the folder's name). If "
        "nnU-Net's probabilities (.npz) are beside the predictions, PR-AUC, AP and FROC are computed too. All other "
        "models are compared with the first one",
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
        help=f"metric families: {', '.join(FAMILIES)} (default: all but cc and brats, which take longer)",
    )
    folds = parser.add_argument_group("cross-validations in nnUNet_results, instead of -pred or in addition to it")
    folds.add_argument(
        "-tr",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]TRAINER",
        help="trainers, such as nnUNetTrainerICI, and their names in the tables (default: the trainer's name)",
    )
    folds.add_argument("-d", metavar="ID", help="dataset; its labelsTr is the default for -gt")
    folds.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="configuration (default: 3d_fullres)")
    folds.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans (default: nnUNetPlans)")
    folds.add_argument(
        "-f",
        type=_fold,
        nargs="+",
        metavar="FOLD",
        help="numbers of the folds, or all for nnU-Net's fold all (default: every fold that any trainer has validated)",
    )
    brats = parser.add_argument_group("parameters of the family brats")
    brats.add_argument(
        "--brats",
        choices=list(CHALLENGES),
        default="met",
        help="challenge that sets the dilation and the smallest volume: metastases, meningioma, glioma, glioma in "
        "Sub-Saharan Africa, paediatric (default: met)",
    )
    brats.add_argument("--brats-dilation", type=int, metavar="N", help="override the challenge's number of dilations")
    brats.add_argument(
        "--brats-smallest", type=float, metavar="MM3", help="override the challenge's smallest volume (0: none)"
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="also evaluate the ensemble of all models, which nnU-Net computes from their probabilities (OUT/ensemble)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        metavar="IOU",
        help="minimum IoU, 0 to 1, at which a predicted component finds a lesion, for counts, recall, precision, F1 "
        "and FROC (default: 0, any shared voxel, as in the challenges)",
    )
    parser.add_argument(
        "--sizes",
        type=float,
        nargs="+",
        default=list(SIZES),
        metavar="EDGE",
        help="limits between the lesion size ranges, in mm3 (2D: mm2; default: 10 100 1000 10000)",
    )
    parser.add_argument("--voxels", action="store_true", help="give sizes in voxels; always set for PNG, BMP and TIFF")
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="file that defines the label values (classes, regions, ignore label). Default: dataset.json beside the "
        "-gt folder or in a -pred folder; without one, all values above 0 form one class named foreground",
    )
    parser.add_argument(
        "--save-maps",
        action="store_true",
        help="write a label map for each model and case, OUT/maps/MODEL/CASE (with several classes: MODEL/CLASS/CASE): "
        "1 found lesion, 2 missed lesion, 3 false prediction, 4 the part of a true prediction outside the label",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")
    parser.add_argument("--allow-missing", action="store_true", help="count a missing prediction as an empty one")


def _run(args: argparse.Namespace) -> None:
    from nnunet_ici.evaluation.evaluate_run import evaluate  # imported here to keep the command's help fast

    evaluate(args)


main = Command(
    "Compare the predictions of one or more models with the ground truth, lesion by lesion. Writes cases.csv, "
    "instances.csv, summary.json, and the tables as tables.md, tables.csv and tables.tex. Prints the verdict.",
    _arguments,
    _run,
    epilog=CONVENTIONS,
)
