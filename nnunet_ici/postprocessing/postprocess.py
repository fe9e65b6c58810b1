"""``nnunet_ici postprocess``: apply what ``nnunet_ici tune`` chose to a folder of predictions."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_ici.command import Command, InputError, Problems, missing_inputs, positive
from nnunet_ici.evaluation.folders import find_file_ending, list_cases
from nnunet_ici.evaluation.grids import read_on_grid
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.labels import LabelScheme, read_label_scheme
from nnunet_ici.images import write_image
from nnunet_ici.output import complete_or_absent
from nnunet_ici.parallel import in_parallel
from nnunet_ici.postprocessing.descriptions import read_regions_class_order
from nnunet_ici.postprocessing.rule import Rule, read_rule

__all__ = ["RULE_NAME", "Prediction", "main", "postprocess_files"]

RULE_NAME = "postprocessing.json"
COPIED = ("dataset.json", "plans.json")

NOTES = """\
Where CASE.npz lies beside a label map (nnUNetv2_predict --save_probabilities, nnUNetv2_ensemble --save_npz) the label
map is made anew from it. Without one, small lesions are removed from the label map. That is enough only for a rule
with a threshold of 0.5 and without a peak. OUT holds the label maps, a copy of the rule, and dataset.json and
plans.json where there are any.
"""


@dataclass(frozen=True)
class Prediction:
    """The files of one case: the label map, and its probabilities, None where there are none."""

    label_map: Path
    probabilities: Path | None


def postprocess_files(files: Prediction, rule: Rule, folder: Path) -> tuple[int, int] | str:
    """Apply a rule to one case, and write its label map, with the same name and geometry.

    Returns:
        The foreground voxels before and after, or what is wrong with the files, in one sentence.
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
    """The cases of a folder, sorted, and what is wrong with it, before any of them is read.

    Raises:
        ValueError: if it is not a folder, holds no label map, or has a dataset.json with other classes than the rule.
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
    """Raise ValueError if the rule names other classes than dataset.json."""
    if not all(rule.scheme.classes.values()):
        return
    order = read_regions_class_order(path, scheme)
    # The order of regions is that of the channels.
    if list(scheme.classes.items()) != list(rule.scheme.classes.items()) or order != rule.regions_class_order:
        expected, got = (
            f"{classes}" + ("" if values is None else f", written as {', '.join(map(str, values))}")
            for classes, values in (
                (rule.scheme, rule.regions_class_order),
                (LabelScheme(scheme.classes), order),
            )
        )
        raise ValueError(f"{path} has other classes than the rule. Expected: {expected}. Got: {got}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", type=Path, metavar="RULE.json", help="what nnunet_ici tune wrote")
    parser.add_argument("-i", type=Path, required=True, metavar="PREDICTIONS", help="label maps, and CASE.npz")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder to write, absent or empty")
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    problems = Problems(missing_inputs([args.rule], folders=[args.i]))
    cases: list[Prediction] = []
    if args.o.exists() and (not args.o.is_dir() or any(args.o.iterdir())):
        got = "a folder with files" if args.o.is_dir() else "a file"
        problems.append(f"-o is not usable: {args.o}. Expected: no such folder, or an empty one. Got: {got}")
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
    print(f"{len(cases)} cases, {made} of them from probabilities: {before} foreground voxels became {after}")
    print(f"written to {args.o}")


main = Command(
    "Apply the thresholds and smallest lesions that nnunet_ici tune chose to a folder of predictions.",
    _arguments,
    _run,
    epilog=NOTES,
)
