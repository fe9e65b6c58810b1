"""From the metrics of each case to a summary of each model, and to a table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunet_ici.evaluation.metrics import METRICS

__all__ = ["Row", "Summary", "markdown_table", "summarise", "write_cases"]

# One line of cases.csv: model, case, class, and the metrics.
Row = dict[str, "str | float"]
# model: class: metric: statistic: value. Beside the metrics, "cases" holds {"total": number of cases}.
Summary = dict[str, dict[str, dict[str, dict[str, float]]]]

SCORES = ("paper.dsc", "isles.lesion_f1")
MISTAKES = ("paper.missed_instances", "paper.false_instances")

# Column title, metric, statistic, and which value is the best one; None where there is no better and worse.
COLUMNS: tuple[tuple[str, str, str, Callable[[Iterable[float]], float] | None], ...] = (
    ("cases", "cases", "total", None),
    ("Dice, mean", "paper.dsc", "mean", max),
    ("Dice, median", "paper.dsc", "median", max),
    ("lesion F1, mean", "isles.lesion_f1", "mean", max),
    ("lesion F1, median", "isles.lesion_f1", "median", max),
    ("lesions", "paper.label_instances", "total", None),
    ("missed", "paper.missed_instances", "total", min),
    ("cases with missed", "paper.missed_instances", "cases_with", min),
    ("predicted", "paper.predicted_instances", "total", None),
    ("false", "paper.false_instances", "total", min),
    ("cases with false", "paper.false_instances", "cases_with", min),
)


def write_cases(path: Path, rows: Sequence[Row]) -> None:
    """Write one line for each model, case and class as CSV; floats in full precision."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["model", "case", "class", *METRICS])
        writer.writeheader()
        writer.writerows(rows)


def summarise(rows: Sequence[Row]) -> Summary:
    """Summarise the cases of each model and class, in the order they come in.

    Returns:
        For each model and class: the number of cases; mean and median over the cases of Dice and lesion F1; the totals
        of all numbers of instances, and for missed and false ones the number of cases that have any
        (``cases_with``). No row gives an empty summary.

    Example:
        >>> row = {"model": "a", "case": "1", "class": "lesion", **dict.fromkeys(METRICS, 1)}
        >>> summarise([row, row])["a"]["lesion"]["paper.missed_instances"]
        {'total': 2, 'cases_with': 2}
    """
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(str(row["model"]), {}).setdefault(str(row["class"]), []).append(row)
    return {model: {name: _summarise(group) for name, group in classes.items()} for model, classes in groups.items()}


def _summarise(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    summary: dict[str, dict[str, float]] = {"cases": {"total": len(rows)}}
    for metric in METRICS:
        values = np.array([row[metric] for row in rows], dtype=float)
        if metric in SCORES:
            summary[metric] = {"mean": float(values.mean()), "median": float(np.median(values))}
        else:
            summary[metric] = {"total": int(values.sum())}
        if metric in MISTAKES:
            summary[metric]["cases_with"] = int(np.count_nonzero(values))
    return summary


def markdown_table(summary: Summary) -> str:
    """A Markdown table with a line for each model, or for each class and model where there are several classes.

    With several models the best value of each class is bold, more than one where they are equal as printed.
    """
    classes = list(dict.fromkeys(name for model in summary.values() for name in model))
    several = len(classes) > 1
    titles = ["model", *(["class"] if several else []), *(title for title, *_ in COLUMNS)]
    lines = [titles, ["---"] * (1 + several) + ["---:"] * len(COLUMNS)]
    for name in classes:
        models = [model for model in summary if name in summary[model]]
        columns = []
        for _, metric, statistic, best_of in COLUMNS:
            values = [summary[model][name][metric][statistic] for model in models]
            cells = [str(value) if isinstance(value, int) else f"{value:.3f}" for value in values]
            if best_of is not None and len(models) > 1:
                best = cells[values.index(best_of(values))]
                cells = [f"**{cell}**" if cell == best else cell for cell in cells]
            columns.append(cells)
        for model, *cells in zip(models, *columns, strict=True):
            lines.append([_escape(model), *([_escape(name)] if several else []), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
