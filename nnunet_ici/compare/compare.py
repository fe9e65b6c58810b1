"""``nnunet_ici compare``: compare trained models on their validation predictions, without any path."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
from pathlib import Path

from nnunet_ici.command import Command, Problems, check_folder, positive
from nnunet_ici.compare.trained import Trained, choose_folds, find_trained, without_probabilities
from nnunet_ici.compare.tuned import Tuned, read_tuned, write_predictions
from nnunet_ici.environment import find_folder
from nnunet_ici.evaluation.cross_validation import dataset_folder
from nnunet_ici.evaluation.folders import find_file_ending
from nnunet_ici.evaluation.labels import find_label_scheme
from nnunet_ici.output import replace_files, write_file
from nnunet_ici.postprocessing.network import TUNED

__all__ = ["main"]

MOST_REMARKS = 4
PREDICTIONS, RULE = "tuned", "rule.json"


def _fold(text: str) -> str:
    if not text.isdecimal():
        more = " (it has no held-out cases)" if text == "all" else ""
        raise argparse.ArgumentTypeError(f"Expected: the number of a fold. Got: {text}{more}")
    return str(int(text))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="number or name of the dataset, as for nnUNetv2_train")
    parser.add_argument("configuration", metavar="CONFIGURATION", help="configuration, such as 3d_fullres")
    parser.add_argument(
        "-tr",
        nargs="+",
        action="extend",
        default=[],
        metavar="TRAINER",
        help="trainers to compare (default: all with results, nnU-Net's own first). All others are compared with the "
        "first one",
    )
    parser.add_argument("-p", metavar="PLANS", help="plans (default: those of the results)")
    parser.add_argument(
        "-f", type=_fold, nargs="+", default=[], metavar="FOLD", help="folds (default: those that all trainers have)"
    )
    parser.add_argument(
        "-o",
        type=Path,
        metavar="OUT",
        help="output folder (default: compare_CONFIGURATION in the folder of the dataset in nnUNet_results)",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> int:
    from nnunet_ici.evaluation.evaluate import main as evaluate
    from nnunet_ici.report.report import main as report

    problems = Problems()
    models: list[Trained] = []
    tuned: dict[str, Tuned] = {}
    with problems.collecting():
        results = dataset_folder(find_folder("nnUNet_results"), args.dataset)
        labels = _labels(results.name)
        scheme, _, _ = find_label_scheme([labels.parent], None)
        ending = find_file_ending(labels, scheme.file_ending)
        models = find_trained(results, args.dataset, args.configuration, args.tr, args.p, ending)
        models, folds, remarks = choose_folds(models, args.f, bool(args.tr))
        for model in models:
            one = None
            try:
                one = read_tuned(model, folds)
            except ValueError as error:
                remarks.append(f"{model.trainer}: no tuned predictions. {error}")
            if make := without_probabilities(model, folds):
                lacks = "has no PR-AUC, AP or FROC"
                if one is not None:
                    lacks = "is compared at 0.5, not at its tuned threshold (lesion-wise Dice {:.3f} instead of {:.3f})"
                    lacks = lacks.format(*reversed(one.lesion_dice))
                remarks.append(f"{model.trainer} {lacks}, as --npz was not given: {make}")
            elif one is not None:
                tuned[f"{model.trainer} (tuned)"] = one
        out = args.o or results / f"compare_{args.configuration}"
        problems += check_folder("-o", out)
    problems.raise_any()

    with replace_files(out) as folder:
        for one in tuned.values():
            write_predictions(one, folder / PREDICTIONS / one.model.trainer, args.np)
    command = ["-d", results.name, "-c", args.configuration, "-p", models[0].plans, "-f", *folds, "-gt", str(labels)]
    command += ["-tr", *(model.trainer for model in models), "-o", str(out), "-np", str(args.np)]
    command += [f"-pred={name}={out / PREDICTIONS / one.model.trainer}" for name, one in tuned.items()]
    code = evaluate(command, prog="nnunet_ici evaluate")
    if code:
        shutil.rmtree(out / PREDICTIONS, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()
        return code
    images = labels.with_name("imagesTr")
    code = report([str(out), "-np", str(args.np), *(["--images", str(images)] if images.is_dir() else [])])
    best = json.loads((out / "summary.json").read_text(encoding="utf-8"))["verdict"]["best"]
    remarks[MOST_REMARKS:] = [f"and {len(remarks) - MOST_REMARKS} more"] * (len(remarks) > MOST_REMARKS)
    print("\n".join([*remarks, "", *_prediction(best, models, tuned, folds, out)]))
    return code


def _labels(dataset: str) -> Path:
    """The ground truth of a dataset: its raw labels, or nnU-Net's copy of them.

    Raises:
        ValueError: if there is neither.
    """
    places = (("nnUNet_raw", "labelsTr"), ("nnUNet_preprocessed", "gt_segmentations"))
    folders = [Path(os.environ[variable]) / dataset / name for variable, name in places if os.environ.get(variable)]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        got = ", ".join(map(str, folders)) or "neither variable is set"
        raise ValueError(f"no ground truth. Expected: labelsTr of {dataset} in $nnUNet_raw. Got: {got}")
    return found


def _prediction(best: str, models: list[Trained], tuned: dict[str, Tuned], folds: list[str], out: Path) -> list[str]:
    """The commands that predict with the best model."""
    model = tuned[best].model if best in tuned else next(one for one in models if one.trainer == best)
    command = f"nnUNetv2_predict -d {model.dataset} -c {model.configuration} {model.names} -f {' '.join(folds)}"
    lines = [f"To predict with {best}:", f"  {command} -i IMAGES -o PREDICTIONS"]
    if best in tuned:
        lines[-1] += f" -chk {TUNED}"
        removal = tuned[best].removal
        if removal is not None:
            write_file(out / RULE, json.dumps(removal.to_json(), indent=2) + "\n")
            lines.append(
                f"  nnunet_ici postprocess {shlex.quote(str(out / RULE))} -i PREDICTIONS -o PREDICTIONS_cleaned"
            )
    return lines


main = Command(
    "Compare trained models on the validation predictions of their folds. The models are found in nnUNet_results. "
    "Those with a tuned threshold are compared with and without it, each case at a threshold chosen on other cases. "
    "Writes the tables of nnunet_ici evaluate and a report. Prints the verdict, and the commands to predict with the "
    "best model.",
    _arguments,
    _run,
)
