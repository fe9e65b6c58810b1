"""``nnunet_ici postprocess``: apply a rule of ``nnunet_ici tune`` to a folder of predictions."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_ici.command import Command, InputError, Problems, check_folder, missing_inputs, plural, positive
from nnunet_ici.evaluation.folders import find_file_ending, list_cases
from nnunet_ici.evaluation.grids import read_on_grid
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.labels import LabelScheme, read_label_scheme
from nnunet_ici.images import write_image
from nnunet_ici.output import complete_or_absent
from nnunet_ici.parallel import in_parallel
from nnunet_ici.postprocessing.rule import Rule, read_regions_class_order, read_rule

__all__ = ["RULE_NAME", "Prediction", "main", "postprocess_files"]

RULE_NAME = "postprocessing.json"
COPIED = ("dataset.json", "plans.json")

NOTES = """\
If probabilities (CASE.npz from nnUNetv2_predict --save_probabilities or nnUNetv2_ensemble --save_npz) are beside a
label map, a new label map is computed from them. Without probabilities, small lesions are removed from the existing
label map. This is sufficient only for a rule with a threshold of 0.5 and without a peak. OUT receives the label maps,
a copy of the rule, and copies of dataset.json and plans.json if they exist.
"""


@dataclass(frozen=True)
class Prediction:
    """The files of one case.

    Attributes:
        label_map: path of the predicted label map.
        probabilities: path of CASE.npz; None if there is none.
    """

    label_map: Path
    probabilities: Path | None


def postprocess_files(files: Prediction, rule: Rule, folder: Path) -> tuple[int, int] | str:
    """Apply a rule to one case and write the resulting label map, with the same name and grid.

    Returns:
        The numbers of foreground voxels before and after, or one sentence on what is wrong with the files.
    """
    try:
        label_map = read_label_map(files.label_map, rule.scheme)
        if files.probabilities is None:
            result = rule.apply_to_label_map(label_map.array, label_map.grid.voxel_mm3)
        else:
            probabilities = read_on_grid(files.probabilities, rule.scheme, label_map)
            result = rule.apply(probabilities, label_map.grid.voxel_mm3)
    except ValueError as error:
        return str(error)
    small = result.max(initial=0) < 256
    image = label_map.grid.image_of(result.astype(np.uint8) if small else result)
    write_image(image, folder / files.label_map.name)
    return int(np.count_nonzero(label_map.array)), int(np.count_nonzero(result))


def _find_files(folder: Path, rule: Rule) -> tuple[list[Prediction], list[str]]:
    """The cases in a folder, sorted, and the problems with their files, one sentence each; no image is read.

    Raises:
        ValueError: if the folder holds no label map, or its dataset.json declares other classes than the rule.
    """
    declared = rule.scheme.file_ending
    if (folder / "dataset.json").is_file():
        scheme = read_label_scheme(folder / "dataset.json")
        _check_classes(folder / "dataset.json", scheme, rule)
        declared = scheme.file_ending or declared
    label_maps = list_cases(folder, find_file_ending(folder, declared))
    if not label_maps:
        others = sum(1 for _ in folder.iterdir())
        raise ValueError(f"{folder} holds no label map. Expected: *{declared}. Got: {others} other files")
    probabilities = list_cases(folder, ".npz")
    problems = [
        f"{path} has no label map beside it. Expected: {name}{declared or ''}. Got: no such file"
        for name, path in probabilities.items()
        if name not in label_maps
    ]
    if rule.needs_probabilities:
        problems += [
            f"case {name}: the rule needs probabilities. Expected: {folder / name}.npz (nnUNetv2_predict "
            "--save_probabilities). Got: no such file"
            for name in label_maps
            if name not in probabilities
        ]
    return [Prediction(path, probabilities.get(name)) for name, path in label_maps.items()], problems


def _check_classes(path: Path, scheme: LabelScheme, rule: Rule) -> None:
    """Raise ValueError if the classes of the rule differ from those in dataset.json."""
    if not all(rule.scheme.classes.values()):
        return
    order = read_regions_class_order(path, scheme)
    # The order of the regions matters: it is the order of the channels.
    if list(scheme.classes.items()) != list(rule.scheme.classes.items()) or order != rule.regions_class_order:
        expected, got = (
            f"{classes}" + ("" if values is None else f", regions_class_order {', '.join(map(str, values))}")
            for classes, values in (
                (rule.scheme, rule.regions_class_order),
                (LabelScheme(scheme.classes), order),
            )
        )
        raise ValueError(f"{path} has other classes than the rule. Expected: {expected}. Got: {got}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", type=Path, metavar="RULE.json", help="rule written by nnunet_ici tune")
    parser.add_argument(
        "-i",
        type=Path,
        required=True,
        metavar="PREDICTIONS",
        help="folder of predicted label maps, with probabilities (CASE.npz) if the rule needs them",
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="output folder, new or empty")
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    problems = Problems(missing_inputs([args.rule], folders=[args.i]))
    cases: list[Prediction] = []
    problems += check_folder("-o", args.o, new=True)
    problems.raise_any()
    with problems.collecting():
        rule = read_rule(args.rule)
        cases, found = _find_files(args.i, rule)
        problems += found
    problems.raise_any()

    with complete_or_absent(args.o) as folder:
        results = in_parallel(partial(postprocess_files, rule=rule, folder=folder), cases, args.np, "postprocess")
        counts = [result for result in results if not isinstance(result, str)]
        if len(counts) < len(results):
            raise InputError([result for result in results if isinstance(result, str)])
        shutil.copyfile(args.rule, folder / RULE_NAME)
        for name in COPIED:
            if (args.i / name).is_file():
                shutil.copyfile(args.i / name, folder / name)
    for name, setting in rule.settings.items():
        print(f"{name}: {setting}")
    before, after = (sum(column) for column in zip(*counts, strict=True))
    made = sum(case.probabilities is not None for case in cases)
    voxels = plural(before, "foreground voxel")
    print(f"{plural(len(cases), 'case')}, {made} from probabilities: {voxels} before, {after} after")
    print(f"written to {args.o}")


main = Command(
    "Apply the thresholds and minimum lesion volumes chosen by nnunet_ici tune to a folder of predictions.",
    _arguments,
    _run,
    epilog=NOTES,
)
