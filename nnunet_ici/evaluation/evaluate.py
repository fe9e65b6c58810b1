"""``nnunet_ici evaluate``: found, missed and false lesions of one or several folders of predictions."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_ici import __version__
from nnunet_ici.evaluation.folders import (
    FILE_ENDINGS,
    FOREGROUND,
    Case,
    LabelScheme,
    file_endings,
    find_cases,
    read_label_map,
    read_label_scheme,
)
from nnunet_ici.evaluation.metrics import evaluate_case
from nnunet_ici.evaluation.tables import Row, markdown_table, summarise, write_cases

__all__ = ["evaluate_files", "main"]

CONVENTIONS = """\
A lesion is a connected component (8 neighbours in 2D, 26 in 3D). It is found where a prediction shares a voxel with
it, else missed; a predicted component that shares no voxel with the label is false. Two empty masks score
Dice = F1 = 1, one empty mask 0.
"""


def evaluate_files(case: Case, scheme: LabelScheme) -> tuple[list[Row], list[str]]:
    """Evaluate all models on one case. A prediction that is None counts as empty.

    Returns:
        A row for each model and class, and the problems found in the files, one sentence each; a file with a problem
        has no rows, and a ground truth with one has none at all.
    """
    try:
        label = _read(case.label, scheme)
    except ValueError as error:
        return [], [str(error)]
    rows: list[Row] = []
    problems = []
    for model, path in case.predictions.items():
        try:
            prediction = np.zeros_like(label) if path is None else _read(path, scheme)
            if prediction.shape != label.shape:
                raise ValueError(
                    f"{path} has another shape than its ground truth. Expected: {label.shape}, as {case.label}. "
                    f"Got: {prediction.shape}"
                )
        except ValueError as error:
            problems.append(str(error))
            continue
        rows += [
            {"model": model, "case": case.name, "class": name, **evaluate_case(*scheme.masks(name, label, prediction))}
            for name in scheme.classes
        ]
    return rows, problems


def _read(path: Path, scheme: LabelScheme) -> np.ndarray:
    label_map = read_label_map(path)
    undeclared = scheme.undeclared(label_map)
    if undeclared:
        more = "" if len(undeclared) <= 8 else f" and {len(undeclared) - 8} more"
        raise ValueError(
            f"{path} holds values that stand for no class. Expected: {scheme}. "
            f"Got: {', '.join(map(str, undeclared[:8]))}{more}"
        )
    return label_map


def _evaluate_all(cases: Sequence[Case], scheme: LabelScheme, processes: int) -> tuple[list[Row], list[str]]:
    """Evaluate the cases in parallel, with a progress bar; rows by model, then case, then class."""
    results = dict(tqdm(_results(cases, scheme, processes), total=len(cases), desc="evaluate", unit="case"))
    problems = [problem for case in cases for problem in results[case.name][1]]
    rows = [row for case in cases for row in results[case.name][0]]
    models = list(cases[0].predictions) if cases else []
    return sorted(rows, key=lambda row: models.index(str(row["model"]))), problems


def _results(
    cases: Sequence[Case], scheme: LabelScheme, processes: int
) -> Iterator[tuple[str, tuple[list[Row], list[str]]]]:
    if processes == 1 or len(cases) < 2:
        yield from ((case.name, evaluate_files(case, scheme)) for case in cases)
        return
    # Spawned, as ITK's threads in this process would not survive a fork.
    with ProcessPoolExecutor(min(processes, len(cases)), multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(evaluate_files, case, scheme): case.name for case in cases}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _parse_predictions(arguments: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Turn NAME=DIR arguments into folders by model, and say what is wrong with them."""
    folders: dict[str, Path] = {}
    problems = []
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not name or not folder:
            problems.append(f"-pred is malformed. Expected: NAME=DIR. Got: {argument}")
        elif name in folders:
            problems.append(
                "-pred has two folders of one name. Expected: each name once. "
                f"Got: {name}={folders[name]} and {argument}"
            )
        else:
            folders[name] = Path(folder)
    return folders, problems


def _find_scheme(label_folder: Path, prediction_folders: Iterable[Path], given: Path | None) -> tuple[LabelScheme, str]:
    """The meaning of the labels, and where it comes from.

    Raises:
        ValueError: if the dataset.json is of no use.
    """
    if given is None:
        candidates = [folder / "dataset.json" for folder in (label_folder.resolve().parent, *prediction_folders)]
        given = next((path for path in candidates if path.is_file()), None)
    if given is None:
        return FOREGROUND, "no dataset.json found, every value above 0 is one class"
    return read_label_scheme(given), str(given)


def _find_file_ending(folder: Path, scheme: LabelScheme) -> str:
    """The file ending of the label maps: as declared, else the one in use.

    Raises:
        ValueError: if nothing declares it and the files do not agree.
    """
    if scheme.file_ending is not None:
        return scheme.file_ending
    endings = file_endings(folder)
    if len(endings) != 1:
        raise ValueError(
            f"{folder}: what the label maps end in is not clear. Expected: one of {', '.join(FILE_ENDINGS)}. "
            f"Got: {', '.join(endings) or 'no such file'}"
        )
    return endings[0]


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compare predictions with the ground truth, lesion by lesion. Writes cases.csv, summary.json and "
        "tables.md, and prints the table.",
        epilog=CONVENTIONS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-gt", type=Path, required=True, metavar="DIR", help="ground truth, such as labelsTs")
    parser.add_argument(
        "-pred",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME=DIR",
        help="a model's name in the table, and the folder of its predictions",
    )
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT", help="output folder, files in it are overwritten"
    )
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="says what the label values mean (classes, regions, ignore label); default: dataset.json beside the -gt "
        "folder, else in a -pred folder, else every value above 0 is one class, named foreground",
    )
    parser.add_argument("-np", type=_positive, default=2, metavar="N", help="number of processes (default: 2)")
    parser.add_argument("--allow-missing", action="store_true", help="count a missing prediction as an empty one")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder of the images: draw the worst, median and best case of the first model into OUT/pictures",
    )
    parser.add_argument(
        "--cases", type=_positive, default=3, metavar="K", help="number of pictures, from worst to best (default: 3)"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"Expected: an integer above 0. Got: {text}")
    return number


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Evaluate folders of predictions.

    Args:
        argv: the arguments; ``sys.argv[1:]`` by default.
        prog: the command's name in the help.

    Returns:
        0, or 1 where something is wrong with the input: then all of it is listed on stderr, and nothing written.
    """
    args = _parser(prog).parse_args(argv)
    folders, problems = _parse_predictions(args.pred)
    if args.o.exists() and not args.o.is_dir():
        problems.append(f"-o is not usable. Expected: a folder, or nothing of that name. Got: the file {args.o}")
    cases: list[Case] = []
    scheme = FOREGROUND
    try:
        if not args.gt.is_dir():
            raise ValueError(f"{args.gt} cannot be read. Expected: a folder. Got: no such folder")
        scheme, source = _find_scheme(args.gt, folders.values(), args.dataset_json)
        print(f"classes: {scheme} [{source}]", flush=True)
        cases, found = find_cases(args.gt, folders, _find_file_ending(args.gt, scheme), args.allow_missing)
        problems += found
    except ValueError as error:
        problems.append(str(error))
    rows, found = _evaluate_all(cases, scheme, args.np)
    problems += found

    figures: dict[str, bytes] = {}
    if args.pictures is not None and not problems:
        from nnunet_ici.evaluation.pictures import draw_cases  # matplotlib only where it is wanted

        figures, found = draw_cases(cases, rows, scheme, args.pictures, args.cases)
        problems += found
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print(f"{count}, nothing was written:", *(f"- {problem}" for problem in problems), sep="\n", file=sys.stderr)
        return 1

    summary = summarise(rows)
    table = markdown_table(summary)
    args.o.mkdir(parents=True, exist_ok=True)
    write_cases(args.o / "cases.csv", rows)
    report = {
        "nnunet_ici": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        "classes": scheme.classes,
        "ignore": scheme.ignore,
        "pictures": [f"pictures/{name}" for name in figures],
        "models": summary,
    }
    (args.o / "summary.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (args.o / "tables.md").write_text(f"{table}\n{CONVENTIONS}", encoding="utf-8")
    if figures:
        (args.o / "pictures").mkdir(exist_ok=True)
    for name, png in figures.items():
        (args.o / "pictures" / name).write_bytes(png)
    print(
        f"\n{table}\n{CONVENTIONS}\nwritten to {args.o}" + (f", pictures to {args.o / 'pictures'}" if figures else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
