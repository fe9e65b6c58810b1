"""Summary statistics of the metrics over all cases, per model and class."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunet_ici.evaluation.families import Metric

__all__ = ["Row", "Summary", "group_rows", "read_rows", "summarise", "write_rows"]

# A line of cases.csv: model, case, class, and the metrics; NaN if a metric is undefined.
Row = dict[str, "str | float"]
# model: class: metric: statistic: value. In addition to the metrics, "cases" holds {"total": number of cases}.
Summary = dict[str, dict[str, dict[str, dict[str, float]]]]

KEYS = ("model", "case", "class")


def write_rows(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Write rows as CSV: model, case, class, then the columns; floats in full precision, NaN as an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*KEYS, *columns])
        for row in rows:
            values = (row[name] for name in (*KEYS, *columns))
            writer.writerow("" if isinstance(value, float) and math.isnan(value) else value for value in values)


def read_rows(path: Path, text: Sequence[str] = KEYS) -> list[Row]:
    """Read a file written by :func:`write_rows`.

    Args:
        path: path of the file.
        text: names of the columns that hold text. All others hold numbers; empty cells become NaN.

    Raises:
        ValueError: if the file cannot be read; the message gives the path.
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
    """Group rows by model and class, in order of first appearance."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(str(row["model"]), {}).setdefault(str(row["class"]), []).append(row)
    return groups


def summarise(rows: Iterable[Row], metrics: Sequence[Metric]) -> Summary:
    """Summarize the cases of each model and class.

    Args:
        rows: rows with a value for each metric; NaN is omitted.
        metrics: metrics to summarize.

    Returns:
        For each model and class, the number of cases and the statistics of each metric:

        - ``cases``: number of cases with a value.
        - ``mean``, ``median``: NaN without a case.
        - ``sd``: sample standard deviation (n - 1); NaN for fewer than two cases.
        - ``total``, ``cases_with`` (counts only): sum over the cases, and number of cases with a nonzero count.

        Without rows the summary is empty.

    Example:
        >>> from nnunet_ici.evaluation.families import METRICS
        >>> row = {"model": "a", "case": "1", "class": "lesion", "missed_instances": 2}
        >>> summary = summarise([row, row | {"case": "2", "missed_instances": 0}], [METRICS["missed_instances"]])
        >>> summary["a"]["lesion"]["missed_instances"]
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
