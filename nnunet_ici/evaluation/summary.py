"""Tables of cases and instances as CSV, and statistics of the metrics over the cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_ici.evaluation.families import Metric

if TYPE_CHECKING:
    import pandas as pd  # loaded by the functions that use it, because the workers of evaluate_cases do without it

__all__ = ["Row", "Summary", "group_rows", "read_rows", "summarise", "write_rows"]

# A line of cases.csv: model, case, class, and the metrics; NaN if a metric is undefined.
Row = dict[str, "str | float"]
# model: class: metric: statistic: value. In addition to the metrics, "cases" holds {"total": number of cases}.
Summary = dict[str, dict[str, dict[str, dict[str, float]]]]

KEYS = ("model", "case", "class")


def write_rows(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Write rows as CSV: model, case, class, then the columns; floats in full precision, NaN as an empty cell."""
    import pandas as pd

    pd.DataFrame(list(rows), columns=[*KEYS, *columns]).to_csv(path, index=False)


def read_rows(path: Path, text: Sequence[str] = KEYS) -> list[Row]:
    """Read a file written by :func:`write_rows`.

    Args:
        path: path of the file.
        text: names of the columns that hold text. All others hold numbers; empty cells become NaN.

    Raises:
        ValueError: if the file cannot be read; the message gives the path.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        frame = frame.apply(lambda column: column.fillna("") if column.name in text else _numbers(column))
        return frame.to_dict("records")
    except pd.errors.EmptyDataError:
        return []
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a table of nnunet_ici evaluate. Got: {error}") from error


def _numbers(column: pd.Series) -> pd.Series:
    """Integers if all are, else numbers in full precision, which read_csv itself would round."""
    return column.astype(float if column.str.fullmatch(r"-?\d+").ne(True).any() else int)


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
        For each model and class, the number of cases and the statistics of each metric: ``cases`` (those with a value),
        ``mean``, ``median`` and ``sd`` (sample standard deviation, NaN for fewer than two cases); for counts also
        ``total`` and ``cases_with`` (those with a nonzero count). Without rows the summary is empty.

    Example:
        >>> from nnunet_ici.evaluation.families import METRICS
        >>> row = {"model": "a", "case": "1", "class": "lesion", "missed_instances": 2}
        >>> summary = summarise([row, row | {"case": "2", "missed_instances": 0}], [METRICS["missed_instances"]])
        >>> summary["a"]["lesion"]["missed_instances"]
        {'cases': 2, 'mean': 1.0, 'median': 1.0, 'sd': 1.4142135623730951, 'total': 2, 'cases_with': 1}
    """
    import pandas as pd

    summary: Summary = {}
    for model, classes in group_rows(rows).items():
        for name, group in classes.items():
            frame = pd.DataFrame(group)
            of_class = summary.setdefault(model, {})[name] = {"cases": {"total": len(group)}}
            for metric in metrics:
                values = frame[metric.name].dropna()
                of_class[metric.name] = {
                    "cases": len(values),
                    "mean": float(values.mean()) if len(values) else math.nan,
                    "median": float(values.median()) if len(values) else math.nan,
                    "sd": float(values.std()) if len(values) > 1 else math.nan,
                }
                if metric.counts:
                    of_class[metric.name] |= {"total": int(values.sum()), "cases_with": int((values != 0).sum())}
    return summary
