"""``nnunet_ici explain``: how the losses see a label and a prediction, as a picture and as numbers."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

from nnunet_ici import __version__
from nnunet_ici.command import Command, InputError, Problems, check_file, missing_inputs, positive
from nnunet_ici.drawing import make_scene
from nnunet_ici.evaluation.folders import FILE_ENDINGS
from nnunet_ici.evaluation.grids import turned_note
from nnunet_ici.explain.reading import read_files
from nnunet_ici.output import write_file

__all__ = ["main"]

PICTURE_ENDINGS = (".png", ".svg")

CONVENTIONS = """\
L1, L2, ... are the label instances, and P1, P2, ... are the predicted instances. Two instances touch if they share a
voxel. The shares of a term add up to the term. In the instance, predicted and blob terms, the share of an instance is
its own loss divided by the number of instances. In the lesionwise and pq terms, it is the instance's part of the
numerator divided by the denominator. In the center term, the error of a voxel is split among the label instances whose
cubes contain the voxel. Outside the label cubes, it is split among the predicted instances whose cubes contain the
voxel. nnU-Net's own loss is added to every loss. The Dice loss in the table is one part of it.
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("label", type=Path, metavar="LABEL", help="ground-truth label map")
    parser.add_argument(
        "prediction",
        type=Path,
        metavar="PREDICTION",
        help="predicted label map, or an .npz file of nnU-Net (nnUNetv2_predict --save_probabilities)",
    )
    parser.add_argument(
        "--class",
        dest="value",
        type=positive,
        metavar="VALUE",
        help="label value to explain, or channel of an .npz file (default: all values above 0)",
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        default=0.5,
        metavar="P",
        help="probability threshold of the predicted instances (default: 0.5)",
    )
    parser.add_argument(
        "--center-size",
        type=_odd,
        nargs="+",
        default=[7],
        metavar="N",
        help="edge length of the center cubes in voxels, odd: one number, or one per axis with the slice axis first "
        "(default: 7)",
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="image to draw in gray behind the instances")
    parser.add_argument(
        "--instances",
        type=positive,
        default=6,
        metavar="K",
        help="maximum number of rows in the picture of a volume (default: 6)",
    )
    parser.add_argument(
        "-o",
        type=Path,
        metavar="FILE",
        help="picture to write, .png or .svg (default: the name of LABEL with _explained.png, in the current folder)",
    )
    parser.add_argument("--terms-json", type=Path, metavar="FILE", help="JSON file to write the numbers to")


def _odd(text: str) -> int:
    number = int(text)
    if number < 1 or number % 2 == 0:
        raise argparse.ArgumentTypeError(f"Expected: an odd integer above 0. Got: {text}")
    return number


def _threshold(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"Expected: a number above 0, at most 1. Got: {text}")
    return number


def _default_picture(label: Path) -> Path:
    """The name of LABEL with the ending _explained.png, in the current folder."""
    ending = next((ending for ending in FILE_ENDINGS if label.name.endswith(ending)), "")
    return Path(f"{label.name.removesuffix(ending)}_explained.png")


def _distinct_names(one: Path, other: Path) -> tuple[str, str]:
    """The names of two files. If they are equal, each is prefixed with the innermost folder that differs."""
    parts = [path.resolve().parts for path in (one, other)]
    if one.name == other.name:
        for first, second in zip(*(reversed(path[:-1]) for path in parts), strict=False):
            if first != second:
                return f"{first}/{one.name}", f"{second}/{other.name}"
    return one.name, other.name


def _run(args: argparse.Namespace) -> None:
    picture = _default_picture(args.label) if args.o is None else args.o
    problems = Problems(check_file("-o", picture))
    if picture.suffix.lower() not in PICTURE_ENDINGS:
        problems.append(f"-o has an unknown ending. Expected: {' or '.join(PICTURE_ENDINGS)}. Got: {picture}")
    if args.terms_json is not None:
        problems += check_file("--terms-json", args.terms_json)
    if len(args.center_size) > 3:
        problems.append(
            f"--center-size has the wrong length. Expected: 1 to 3 numbers. Got: {len(args.center_size)} numbers"
        )
    problems += missing_inputs([args.label, args.prediction, *([args.image] if args.image else [])])
    problems.raise_any()
    files, problems = read_files(args.label, args.prediction, args.image, args.value, len(args.center_size))
    if files is None:
        raise InputError(problems)
    if files.turned:
        print(turned_note([args.prediction]), file=sys.stderr)

    # import torch and matplotlib only if the input is valid
    from nnunet_ici.explain.numbers import as_json, as_table
    from nnunet_ici.explain.picture import NEGATIVE, draw, has_negative
    from nnunet_ici.explain.shares import explain

    size = args.center_size[0] if len(args.center_size) == 1 else tuple(args.center_size)
    explained = explain(files.label, files.prob, args.threshold, size)
    selection = "all values above 0" if args.value is None else f"class {args.value}"
    if not len(explained.label) and not len(explained.predicted):
        print(
            f"{selection}: found neither in {args.label} nor in {args.prediction}; the picture is empty",
            file=sys.stderr,
        )
    names = _distinct_names(args.label, args.prediction)
    title = f"label {names[0]}, prediction {names[1]}: {selection}, threshold {args.threshold:g}"
    arrays = explained.predicted_ids, explained.cubes, explained.center_error
    scene = make_scene(
        files.grid, explained.label_ids, dict(zip(("predicted", "cubes", "error"), arrays, strict=True)), files.image
    )
    figure = draw(explained, scene, title, args.instances)

    buffer = io.BytesIO()
    figure.savefig(buffer, format=picture.suffix[1:].lower())
    write_file(picture, buffer.getvalue())
    written = f"written to {picture}"
    if args.terms_json is not None:
        report = {
            "nnunet_ici": __version__,
            "label": str(args.label),
            "prediction": str(args.prediction),
            "class": args.value,
            "threshold": args.threshold,
            "center_size": args.center_size,
            **as_json(explained),
        }
        write_file(args.terms_json, json.dumps(report, indent=2) + "\n")
        written += f", numbers written to {args.terms_json}"
    negative = f"{NEGATIVE}\n\n" if has_negative(explained) else ""
    print(f"{title}\n\n{as_table(explained)}\n{CONVENTIONS}\n{negative}{written}")


main = Command(
    "Draw how the losses see a label and a prediction: their instances, the pairs that touch, the center cubes, and "
    "the share of each instance in the ICI, DICI, lesion-wise, PQ and blob losses. The numbers are printed too.",
    _arguments,
    _run,
    epilog=CONVENTIONS,
)
