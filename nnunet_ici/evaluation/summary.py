"""Summaries of the metrics of all cases, for each model and class."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunet_ici.evaluation.families import Metric

__all__ = ["Row", "Summary", "group_rows", "read_rows", "summarise", "write_rows"]

# One line of cases.csv: model, case, class, and the metrics; NaN where a metric has no value.
Row = dict[str, "str | float"]
# model: class: metric: statistic: value. Beside the metrics, "cases" holds {"total": number of cases}.
Summary = dict[str, dict[str, dict[str, dict[str, float]]]]

KEYS = ("model", "case", "class")


def write_rows(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Write one line for each row as CSV: model, case, class, then the columns; floats in full precision, NaN empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*KEYS, *columns])
        for row in rows:
            values = (row[name] for name in (*KEYS, *columns))
            writer.writerow("" if isinstance(value, float) and math.isnan(value) else value for value in values)


def read_rows(path: Path, text: Sequence[str] = KEYS) -> list[Row]:
    """Read a file of :func:`write_rows`: columns in ``text`` as text, all others as numbers, NaN where empty.

    Raises:
        ValueError: if it cannot be read; with the path.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {name: value if name in text else _number(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a table of nnunet_ici evaluate. Got: {error}") from error


def _number(text: str) -> float:
    if not text:
        return math.nan
    return int(text) if text.lstrip("-").isdigit() else float(text)


def group_rows(rows: Iterable[Row]) -> dict[str, dict[str, list[Row]]]:
    """The rows by model and class, in the order they come in."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(str(row["model"]), {}).setdefault(str(row["class"]), []).append(row)
    return groups


def summarise(rows: Iterable[Row], metrics: Sequence[Metric]) -> Summary:
    """Summarise the cases of each model and class, in the order they come in.

    Args:
        rows: rows with a value for each metric; NaN is left out.
        metrics: metrics to summarise.

    Returns:
        For each model and class: the number of cases; for each metric ``cases`` (with a value), ``mean``, ``median``
        and ``sd`` over them (NaN without any; sd over n - 1, NaN for one case), and for counts ``total`` and
        ``cases_with``, the number of cases that are not 0. Without rows the summary is empty.

    Example:
        >>> from nnunet_ici.evaluation.families import FAMILIES
        >>> row = {"model": "a", "case": "1", "class": "lesion", "paper.missed_instances": 2}
        >>> missed = [metric for metric in FAMILIES["paper"] if metric.title == "missed"]
        >>> summary = summarise([row, row | {"case": "2", "paper.missed_instances": 0}], missed)
        >>> summary["a"]["lesion"]["paper.missed_instances"]
        {'cases': 2, 'mean': 1.0, 'median': 1.0, 'sd': 1.4142135623730951, 'total': 2, 'cases_with': 1}
    """
    return {
        model: {
            name: {"cases": {"total": len(group)}, **{metric.name: _statistics(group, metric) for metric in metrics}}
            for name, group in classes.items()
        }
        for model, classes in group_rows(rows).items()
    }


def _statistics(rows: Sequence[Row], metric: Metric) -> dict[str, float]:
    values = np.array([row[metric.name] for row in rows], dtype=float)
    values = values[~np.isnan(values)]
    statistics: dict[str, float] = {
        "cases": values.size,
        "mean": float(values.mean()) if values.size else math.nan,
        "median": float(np.median(values)) if values.size else math.nan,
        "sd": float(values.std(ddof=1)) if values.size > 1 else math.nan,
    }
    if metric.counts:
        statistics |= {"total": int(values.sum()), "cases_with": int(np.count_nonzero(values))}
    return statistics
