"""The output files of ``nnunet_ici evaluate``: results per case and per instance, their summary, and the tables."""

from __future__ import annotations

import json
import math
import shutil
import textwrap
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from nnunet_ici import __version__
from nnunet_ici.command import plural
from nnunet_ici.evaluation.average_precision import threshold_curve
from nnunet_ici.evaluation.detection import INSTANCE_COLUMNS, flood_warnings, sizes_of
from nnunet_ici.evaluation.evaluate_cases import Evaluated
from nnunet_ici.evaluation.evaluation_tables import evaluation_tables
from nnunet_ici.evaluation.families import CONVENTIONS
from nnunet_ici.evaluation.folders import Case
from nnunet_ici.evaluation.formats import remarks, to_csv, to_latex, to_markdown, to_text
from nnunet_ici.evaluation.inputs import Inputs
from nnunet_ici.evaluation.locations import LOCATION_COLUMNS
from nnunet_ici.evaluation.summary import summarise, write_rows
from nnunet_ici.evaluation.verdict import Verdict, make_verdict

__all__ = ["print_verdict", "write_outputs"]


def write_outputs(folder: Path, inputs: Inputs, evaluated: Evaluated) -> tuple[Verdict | None, list[str]]:
    """Write all files into a folder.

    Args:
        folder: an existing folder.
        inputs: inputs of the evaluation, including the ensemble.
        evaluated: results of the evaluation, without problems.

    Returns:
        The verdict, which is also the first table, None if no column of it was computed; and the warnings about floods.
    """
    settings, arguments, unit = inputs.settings, inputs.arguments, evaluated.unit
    summary = summarise(evaluated.rows, settings.metrics)
    sizes = sizes_of(evaluated.rows, evaluated.instances, settings.sizes) if "detection" in settings.families else {}
    curves = {key: threshold_curve(counts, len(inputs.cases)) for key, counts in evaluated.counts.items()}
    tables = evaluation_tables(evaluated.rows, evaluated.instances, settings, curves, unit)
    verdict = make_verdict(evaluated.rows)
    if verdict is not None:
        tables.insert(0, verdict.table)
    warnings = flood_warnings(evaluated.instances, unit)

    write_rows(folder / "cases.csv", evaluated.rows, [metric.name for metric in settings.metrics])
    write_rows(folder / "instances.csv", evaluated.instances, (*INSTANCE_COLUMNS, *LOCATION_COLUMNS))
    report = {
        "nnunet_ici": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
        "classes": settings.scheme.classes,
        "ignore": settings.scheme.ignore,
        "file_ending": settings.file_ending,
        "in_mm": settings.in_mm,
        "size_unit": unit,
        "brats": asdict(settings.brats_rule),
        "overlap": settings.overlap,
        "warnings": warnings,
        "files": {case.name: _paths(case) for case in inputs.cases},
        "verdict": None if verdict is None else {"best": verdict.best, "sentences": verdict.sentences},
        "models": summary,
        "by_size": _nested(sizes),
        "curves": _nested(curves),
    }
    (folder / "summary.json").write_text(json.dumps(_without_nan(report), indent=2) + "\n", encoding="utf-8")
    parts = [f"## {table.title}\n\n{to_markdown(table)}\n{remarks(table)}\n\n" for table in tables]
    sentences = "" if verdict is None else f"{' '.join(verdict.sentences)}\n\n"
    sentences += "".join(f"**Warning:** {text}.\n\n" for text in warnings)
    (folder / "tables.md").write_text(f"{sentences}{''.join(parts)}{CONVENTIONS}", encoding="utf-8")
    (folder / "tables.csv").write_text(to_csv(tables), encoding="utf-8")
    (folder / "tables.tex").write_text("\n".join(map(to_latex, tables)), encoding="utf-8")
    return verdict, warnings


def print_verdict(verdict: Verdict | None, most: int) -> None:
    """Print the table and the sentences of the verdict in a number of lines, which may leave out some models."""
    if verdict is None:
        return
    width = shutil.get_terminal_size().columns - 1
    sentences = [line for text in verdict.sentences for line in textwrap.wrap(text, width)]
    note = textwrap.wrap(remarks(verdict.table).replace("Bold:", "Star:"), width)
    lines = to_text(verdict.table).splitlines()
    room = max(most - len(note) - len(sentences) - 3, 3)  # with three empty lines
    if len(lines) > room:
        lines[room - 1 :] = [f"and {plural(len(lines) - room + 1, 'more model')} in tables.md"]
    print("", *lines, *note, "", *sentences, "", sep="\n")


def _paths(case: Case) -> dict[str, object]:
    predictions = {model: None if path is None else str(path.resolve()) for model, path in case.predictions.items()}
    return {"label": str(case.label.resolve()), "predictions": predictions}


def _nested(by_key: dict) -> dict[str, dict]:
    nested: dict[str, dict] = {}
    for (model, name), value in by_key.items():
        nested.setdefault(model, {})[name] = value
    return nested


def _without_nan(value: object) -> object:
    """Replace NaN and infinity by None, because JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
