"""What ``nnunet_ici evaluate`` writes: the numbers of cases and instances, their summary, and the tables."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

from nnunet_ici import __version__
from nnunet_ici.evaluation.brats import BratsRule
from nnunet_ici.evaluation.cases import Evaluated, Settings
from nnunet_ici.evaluation.detection import INSTANCE_COLUMNS, by_size, froc
from nnunet_ici.evaluation.ensemble import ENSEMBLE
from nnunet_ici.evaluation.families import Metric
from nnunet_ici.evaluation.folders import Case
from nnunet_ici.evaluation.formats import to_csv, to_latex, to_markdown
from nnunet_ici.evaluation.inputs import Gathered
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.summary import Row, Summary, group_rows, summarise, write_rows
from nnunet_ici.evaluation.tables import Table, comparison_table, family_table, size_table

__all__ = ["CONVENTIONS", "evaluation_tables", "write_outputs"]

CONVENTIONS = """\
A lesion is a connected component (8 neighbours in 2D, 26 in 3D; in the family atlas22 4 and 6). It is found where a
prediction shares a voxel with it, else missed; a predicted component that shares no voxel with the label is false. The
family brats dilates the label first. Two empty masks score 1, one empty mask 0 (a distance: 0, and 374 mm); what means
nothing in a case (recall without lesions, PR-AUC of an empty label) is left out of the mean.
"""


def write_outputs(args: argparse.Namespace, gathered: Gathered, settings: Settings, evaluated: Evaluated) -> None:
    """Write everything into ``args.o``, and print the tables.

    Args:
        args: of the command.
        gathered: the cases, ensemble included.
        settings: how they were evaluated.
        evaluated: what came out, without problems.
    """
    metrics = settings.metrics
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
    curves = {}
    if "detection" in settings.families:
        models = {*settings.with_probabilities, *([ENSEMBLE] if args.ensemble else [])}
        curves = {key: froc(rows, totals[key]) for key, rows in rows_of.items() if key[0] in models}
    tables = evaluation_tables(
        evaluated.rows, summary, metrics, settings.families, sizes, curves, unit, settings.brats_rule
    )

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
        "brats": asdict(settings.brats_rule),
        "files": {case.name: _paths(case) for case in gathered.cases},
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
    print(f"\n{text}{CONVENTIONS}", f"written to {args.o}", sep="\n")


def evaluation_tables(
    rows: Sequence[Row],
    summary: Summary,
    metrics: Sequence[Metric],
    families: Sequence[str],
    sizes: dict[tuple[str, str], list[dict[str, float]]],
    curves: dict[tuple[str, str], dict[str, list[float]]],
    unit: str,
    brats_rule: BratsRule,
) -> list[Table]:
    """The tables of an evaluation: one a family, then the sizes, then the differences to the first model.

    Args:
        rows: of all models, cases and classes.
        summary: of these rows.
        metrics: those computed.
        families: those wanted.
        sizes: by model and class, what :func:`~nnunet_ici.evaluation.detection.by_size` returns; empty for no such
        table. curves: by model and class, what :func:`~nnunet_ici.evaluation.detection.froc` returns; some may be
        lacking. unit: of the sizes.
        brats_rule: dilation and smallest volume of the family brats, for the note of its table.
    """
    means: dict[str, dict[str, float]] = {}
    for model, classes in summary.items():
        for name in classes if curves else ():
            at = curves.get((model, name), {"at": [math.nan]})["at"]
            means.setdefault(model, {})[name] = sum(at) / len(at)
    tables = [
        family_table(family, summary, [m for m in metrics if m.name.startswith(f"{family}.")], means)
        for family in families
    ]
    tables = [replace(table, note=f"{brats_rule}.") if table.name == "brats" else table for table in tables]
    if sizes:
        tables.append(size_table(sizes, unit))
    differences = comparison_table(rows, metrics)
    return tables + ([] if differences is None else [differences])


def _is_flat(cases: Sequence[Case]) -> bool:
    return bool(cases) and read_label_map(cases[0].label).array.ndim == 2


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
