"""``nnunet_ici evaluate``: several models judged by their lesions, on the same cases."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from nnunet_ici import __version__
from nnunet_ici.arguments import complain, positive
from nnunet_ici.evaluation.cases import Evaluated, Settings, available_extras, evaluate_all
from nnunet_ici.evaluation.detection import INSTANCE_COLUMNS, by_size, froc
from nnunet_ici.evaluation.ensemble import check_members, make_ensemble
from nnunet_ici.evaluation.families import FAMILIES, metrics_of
from nnunet_ici.evaluation.folders import PIXEL_ENDINGS, Case, read_label_map
from nnunet_ici.evaluation.formats import to_csv, to_latex, to_markdown
from nnunet_ici.evaluation.gather import Gathered, gather
from nnunet_ici.evaluation.summary import group_rows, summarise, write_rows
from nnunet_ici.evaluation.tables import Table, comparison_table, family_table, size_table

__all__ = ["main"]

ENSEMBLE = "ensemble"
SIZES = (10.0, 100.0, 1000.0, 10000.0)
CONVENTIONS = """\
A lesion is a connected component (8 neighbours in 2D, 26 in 3D; in the family atlas22 4 and 6). It is found where a
prediction shares a voxel with it, else missed; a predicted component that shares no voxel with the label is false. Two
empty masks score 1, one empty mask 0; what means nothing in a case (recall without lesions, PR-AUC of an empty label)
is left out of the mean.
"""


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compare the predictions of one or several models with the ground truth, lesion by lesion. Writes "
        "cases.csv, instances.csv, summary.json and tables.md, .csv and .tex, and prints the tables.",
        epilog=CONVENTIONS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-gt", type=Path, metavar="DIR", help="ground truth, such as labelsTs")
    parser.add_argument(
        "-pred",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=DIR",
        help="a model's name in the tables, and the folder of its predictions; with nnU-Net's probabilities (.npz) "
        "beside them there are PR-AUC and FROC too. The first model is what others are compared with",
    )
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT", help="output folder, files in it are overwritten"
    )
    parser.add_argument(
        "--family", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), help="of metrics (default: all)"
    )
    folds = parser.add_argument_group("a cross-validation, from nnUNet_results, instead of -pred or beside it")
    folds.add_argument(
        "-tr", nargs="+", action="extend", default=[], metavar="[NAME=]TRAINER", help="such as nnUNetTrainerICI"
    )
    folds.add_argument("-d", metavar="ID", help="data set; -gt is then its labelsTr")
    folds.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="default: 3d_fullres")
    folds.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    folds.add_argument("-f", type=int, nargs="+", metavar="FOLD", help="default: all there are")
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help=f"add the ensemble of all models, made by nnU-Net from their probabilities into OUT/{ENSEMBLE}",
    )
    parser.add_argument(
        "--sizes",
        type=float,
        nargs="+",
        default=list(SIZES),
        metavar="EDGE",
        help="edges between the sizes of lesions, in mm3 (2D: mm2; default: 10 100 1000 10000)",
    )
    parser.add_argument(
        "--voxels", action="store_true", help="sizes in voxels; so they are for PNG, BMP and TIFF anyway"
    )
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="says what the label values mean (classes, regions, ignore label); default: dataset.json beside the -gt "
        "folder, else in a -pred folder, else every value above 0 is one class, named foreground",
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")
    parser.add_argument("--allow-missing", action="store_true", help="count a missing prediction as an empty one")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder of the images: draw the worst, median and best case of the first model into OUT/pictures",
    )
    parser.add_argument(
        "--cases", type=positive, default=3, metavar="K", help="number of pictures, from worst to best (default: 3)"
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Evaluate the predictions of models.

    Args:
        argv: the arguments; ``sys.argv[1:]`` by default.
        prog: the command's name in the help.

    Returns:
        0, or 1 where something is wrong with the input: then all of it is listed on stderr, and no result written.
    """
    args = _parser(prog).parse_args(argv)
    gathered = gather(args)
    problems = gathered.problems
    if args.o.exists() and not args.o.is_dir():
        problems.append(f"-o is not usable. Expected: a folder, or nothing of that name. Got: the file {args.o}")
    if not all(map(math.isfinite, args.sizes)) or sorted(set(args.sizes)) != args.sizes or min(args.sizes) <= 0:
        problems.append(f"--sizes are no edges. Expected: ascending numbers above 0. Got: {args.sizes}")
    if gathered.source:
        print(f"classes: {gathered.scheme} [{gathered.source}]", flush=True)
    if args.ensemble and gathered.cases:
        problems += _check_ensemble(args, gathered)
    extras, found = available_extras(gathered.cases, gathered.file_ending)
    problems += found
    in_voxels = args.voxels or gathered.file_ending in PIXEL_ENDINGS
    settings = Settings(gathered.scheme, tuple(args.family), extras, gathered.file_ending, in_voxels)
    evaluated = evaluate_all(gathered.cases, settings, args.np)
    problems += evaluated.problems
    if args.ensemble and not problems:  # by now all it is made of has been read and found good
        _add_ensemble(args, gathered, settings, evaluated)
        problems += evaluated.problems

    figures: dict[str, bytes] = {}
    if args.pictures is not None and not problems:
        from nnunet_ici.evaluation.pictures import draw_cases  # matplotlib only where it is wanted

        figures, found = draw_cases(gathered.cases, evaluated.rows, gathered.scheme, args.pictures, args.cases)
        problems += found
    if problems:
        return complain(problems)
    _write(args, gathered, settings, evaluated, figures)
    return 0


def _check_ensemble(args: argparse.Namespace, gathered: Gathered) -> list[str]:
    problems = check_members(gathered.cases, gathered.file_ending)
    if ENSEMBLE in gathered.cases[0].predictions:
        problems.append(f"--ensemble makes a model of that name. Expected: no other one. Got: {ENSEMBLE}")
    return problems


def _add_ensemble(args: argparse.Namespace, gathered: Gathered, settings: Settings, evaluated: Evaluated) -> None:
    """Make the ensemble, and add it to the models and to what came out."""
    made = make_ensemble(gathered.cases, args.o / ENSEMBLE, gathered.file_ending, args.np)
    alone = [replace(case, predictions={ENSEMBLE: made.files.get(case.name)}) for case in gathered.cases]
    result = evaluate_all(alone, settings, args.np)
    evaluated.rows += result.rows
    evaluated.instances += result.instances
    evaluated.problems += result.problems
    gathered.cases = [
        replace(case, predictions=case.predictions | one.predictions)
        for case, one in zip(gathered.cases, alone, strict=True)
    ]


def _write(
    args: argparse.Namespace,
    gathered: Gathered,
    settings: Settings,
    evaluated: Evaluated,
    figures: dict[str, bytes],
) -> None:
    """Write everything, and print the tables."""
    metrics = metrics_of(settings.families, settings.available)
    summary = summarise(evaluated.rows, metrics)
    unit = "voxels" if settings.in_voxels else ("mm3", "mm2")[_is_flat(gathered.cases)]
    totals = {
        (model, name): int(statistics["cases"]["total"])
        for model, classes in summary.items()
        for name, statistics in classes.items()
    }
    instances = group_rows(evaluated.instances)
    rows_of = {key: instances.get(key[0], {}).get(key[1], []) for key in totals}
    sizes = (
        {key: by_size(rows, args.sizes) for key, rows in rows_of.items()} if "detection" in settings.families else {}
    )
    with_probability = {
        row["model"] for row in evaluated.rows if not math.isnan(float(row.get("isles.pr_auc", math.nan)))
    }
    curves = {}
    if "detection" in settings.families and "probability" in settings.available:
        with_probability |= {
            row["model"] for row in evaluated.instances if not math.isnan(float(row["peak_probability"]))
        }
        curves = {key: froc(rows, totals[key]) for key, rows in rows_of.items() if key[0] in with_probability}
    tables = _tables(settings, evaluated, summary, sizes, curves, unit)

    args.o.mkdir(parents=True, exist_ok=True)
    write_rows(args.o / "cases.csv", evaluated.rows, [metric.name for metric in metrics])
    write_rows(args.o / "instances.csv", evaluated.instances, INSTANCE_COLUMNS)
    report = {
        "nnunet_ici": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        "classes": gathered.scheme.classes,
        "ignore": gathered.scheme.ignore,
        "file_ending": gathered.file_ending,
        "size_unit": unit,
        "files": {case.name: _paths(case) for case in gathered.cases},
        "pictures": [f"pictures/{name}" for name in figures],
        "models": summary,
        "by_size": _nested(sizes),
        "froc": _nested(curves),
    }
    (args.o / "summary.json").write_text(json.dumps(_without_nan(report), indent=2) + "\n", encoding="utf-8")
    text = "".join(
        f"## {table.title}\n\n{to_markdown(table)}\n" + f"{table.note}\n\n" * bool(table.note) for table in tables
    )
    (args.o / "tables.md").write_text(f"{text}{CONVENTIONS}", encoding="utf-8")
    (args.o / "tables.csv").write_text(to_csv(tables), encoding="utf-8")
    (args.o / "tables.tex").write_text("\n".join(map(to_latex, tables)), encoding="utf-8")
    if figures:
        (args.o / "pictures").mkdir(exist_ok=True)
    for name, png in figures.items():
        (args.o / "pictures" / name).write_bytes(png)
    left_out = (
        []
        if "panoptica" in settings.available or "detection" not in settings.families
        else ['no panoptic quality: pip install "nnunet-ici[panoptica]"']
    )
    told = f"written to {args.o}" + (f", pictures to {args.o / 'pictures'}" if figures else "")
    print(f"\n{text}{CONVENTIONS}", *left_out, told, sep="\n")


def _tables(
    settings: Settings,
    evaluated: Evaluated,
    summary: dict,
    sizes: dict[tuple[str, str], list[dict[str, float]]],
    curves: dict[tuple[str, str], dict[str, list[float]]],
    unit: str,
) -> list[Table]:
    means: dict[str, dict[str, float]] = {}
    for model, classes in summary.items():
        for name in classes if curves else ():
            at = curves.get((model, name), {"at": [math.nan]})["at"]
            means.setdefault(model, {})[name] = sum(at) / len(at)
    metrics = metrics_of(settings.families, settings.available)
    tables = [
        family_table(family, summary, [m for m in metrics if m.name.startswith(f"{family}.")], means)
        for family in settings.families
    ]
    if sizes:
        tables.append(size_table(sizes, unit))
    differences = comparison_table(evaluated.rows, metrics)
    return tables + ([] if differences is None else [differences])


def _is_flat(cases: Sequence[Case]) -> bool:
    return bool(cases) and read_label_map(cases[0].label).ndim == 2


def _paths(case: Case) -> dict[str, object]:
    predictions = {model: None if path is None else str(path.resolve()) for model, path in case.predictions.items()}
    return {"label": str(case.label.resolve()), "predictions": predictions}


def _nested(by_key: dict) -> dict[str, dict]:
    nested: dict[str, dict] = {}
    for (model, name), value in by_key.items():
        nested.setdefault(model, {})[name] = value
    return nested


def _without_nan(value: object) -> object:
    """NaN and infinity as null: JSON knows neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
