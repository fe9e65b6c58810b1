"""Tables of several models: one a family, with ranks in brackets and the best in bold, and one of differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scipy.stats import rankdata

from nnunet_ici.evaluation.comparison import compare
from nnunet_ici.evaluation.families import Better, Metric
from nnunet_ici.evaluation.summary import Row, Summary, group_rows

__all__ = ["Cell", "Table", "comparison_table", "family_table", "format_value", "ranked_table", "size_table"]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what is printed, without the rank.
        value: the number behind it, if it is one.
        rank: among the models, 1 = best; None without a ranking.
        best: whether it is printed in bold.
    """

    text: str
    value: float | None = None
    rank: int | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: short, for files: the family.
        title: for readers.
        names: how many of the first columns hold names (the model, the class, ...).
        head: titles of the columns.
        rows: as many cells each.
        note: what is to be known about it.
    """

    name: str
    title: str
    names: int
    head: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""


# Title of the column, metric, statistic, better.
Column = tuple[str, str, str, Better]

PAPER_COLUMNS: tuple[Column, ...] = (
    ("DSC", "paper.dsc", "mean", "higher"),
    ("instances", "paper.label_instances", "total", ""),
    ("missed", "paper.missed_instances", "total", "lower"),
    ("cases with missed", "paper.missed_instances", "cases_with", "lower"),
    ("cases with all missed", "paper.all_missed", "total", "lower"),
    ("predicted", "paper.predicted_instances", "total", ""),
    ("false", "paper.false_instances", "total", "lower"),
    ("cases with false", "paper.false_instances", "cases_with", "lower"),
    ("cases with neither", "paper.no_mistake", "total", "higher"),
)
TITLES = {
    "atlas22": "ATLAS challenge (ISLES 2022)",
    "isles": "ISLES",
    "paper": "Missed and false instances",
    "detection": "Detection",
    "brats": "BraTS (since 2023)",
}


def family_table(family: str, summary: Summary, metrics: Sequence[Metric], froc: dict[str, dict[str, float]]) -> Table:
    """The table of a family.

    Args:
        family: its name.
        summary: of all models and classes.
        metrics: those of the family that were computed.
        froc: mean FROC sensitivity by model and class, a column of the detection family; empty without
            probabilities.
    """
    if family == "paper":
        columns = list(PAPER_COLUMNS)
    else:
        columns = [(metric.title, metric.name, "mean", metric.better) for metric in metrics]
    values: dict[tuple[str, str], list[float]] = {}
    for model, classes in summary.items():
        for name, statistics in classes.items():
            values[model, name] = [statistics[metric][statistic] for _, metric, statistic, _ in columns]
            if family == "detection" and froc:
                values[model, name].append(froc[model][name])
    if family == "detection" and froc:
        columns.append(("FROC", "detection.froc", "mean", "higher"))
    return ranked_table(family, TITLES[family], [(title, better) for title, _, _, better in columns], values)


def ranked_table(
    name: str, title: str, columns: Sequence[tuple[str, Better]], values: Mapping[tuple[str, str], Sequence[float]]
) -> Table:
    """A line for each model, or for each class and model, with ranks and the mean rank where there are several models.

    Models that print the same value share the better rank. NaN is "-" and ranks last. The best of each column is bold.

    Args:
        name, title: of the table.
        columns: title, and which way is better; "" for a column without ranks.
        values: by model and class, one for each column.

    Example:
        >>> table = ranked_table("x", "X", [("Dice", "higher")], {("a", "lesion"): [0.5], ("b", "lesion"): [0.75]})
        >>> [[(cell.text, cell.rank) for cell in row] for row in table.rows]
        [[('a', None), ('0.500', 2), ('2.00', None)], [('b', None), ('0.750', 1), ('1.00', None)]]
    """
    classes = list(dict.fromkeys(of_class for _, of_class in values))
    several_classes = len(classes) > 1
    ranked = any(better for _, better in columns) and len({model for model, _ in values}) > 1
    head = ["model", *(["class"] if several_classes else []), *(title for title, _ in columns)]
    table = Table(name, title, 1 + several_classes, head + (["mean rank"] if ranked else []))
    for of_class in classes:
        models = [model for model, other in values if other == of_class]
        by_column = [
            _ranked([values[model, of_class][at] for model in models], better) for at, (_, better) in enumerate(columns)
        ]
        for at, model in enumerate(models):
            cells = [column[at] for column in by_column]
            line = [Cell(model), *([Cell(of_class)] if several_classes else []), *cells]
            if ranked:
                ranks = [cell.rank for cell in cells if cell.rank is not None]
                line.append(Cell(f"{sum(ranks) / len(ranks):.2f}" if ranks else "-"))
            table.rows.append(line)
    if ranked:
        _mark_best_mean_rank(table, several_classes)
    return table


def _ranked(values: Sequence[float], better: Better) -> list[Cell]:
    texts = [format_value(value) for value in values]
    if not better or len(values) < 2:
        return [Cell(text, value) for text, value in zip(texts, values, strict=True)]
    printed = [math.inf if text == "-" else float(text) * (-1 if better == "higher" else 1) for text in texts]
    ranks = rankdata(printed, method="min").astype(int).tolist()
    return [
        Cell(text, value, rank, best=rank == 1 and text != "-")
        for text, value, rank in zip(texts, values, ranks, strict=True)
    ]


def _mark_best_mean_rank(table: Table, several_classes: bool) -> None:
    groups: dict[str, list[list[Cell]]] = {}
    for row in table.rows:
        groups.setdefault(row[1].text if several_classes else "", []).append(row)
    for rows in groups.values():
        numbers = [float(row[-1].text) for row in rows if row[-1].text != "-"]
        for row in rows:
            if row[-1].text != "-":
                value = float(row[-1].text)
                row[-1] = Cell(row[-1].text, value, best=value == min(numbers))


def format_value(value: float) -> str:
    """A number as tables print it: counts as they are, else three decimals, one from 100 on; "-" for NaN.

    Example:
        >>> format_value(7), format_value(0.12345), format_value(1234.56), format_value(float("nan"))
        ('7', '0.123', '1234.6', '-')
    """
    if isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def size_table(groups: dict[tuple[str, str], list[dict[str, float]]], unit: str) -> Table:
    """Recall, precision and F1 by size: a line for each model (and class) and range.

    Args:
        groups: by model and class, what :func:`~nnunet_ici.evaluation.detection.by_size` returns.
        unit: of the sizes.
    """
    several_classes = len({of_class for _, of_class in groups}) > 1
    head = ["model", *(["class"] if several_classes else []), f"size ({unit})", "instances", "found", "recall"]
    table = Table("sizes", "Detection by size", 2 + several_classes, [*head, "predicted", "false", "precision", "F1"])
    for (model, of_class), ranges in groups.items():
        for group in ranges:
            size = (
                f"{group['from']:g} to {group['to']:g}" if math.isfinite(group["to"]) else f"{group['from']:g} and more"
            )
            names = [Cell(model), *([Cell(of_class)] if several_classes else []), Cell(size)]
            keys = ("label", "found", "recall", "predicted", "false", "precision", "f1")
            table.rows.append([*names, *(Cell(format_value(group[key]), group[key]) for key in keys)])
    return table


def comparison_table(rows: Sequence[Row], metrics: Sequence[Metric]) -> Table | None:
    """Differences of each model to the first one, in each metric that has a better and a worse; None for one model.

    Args:
        rows: of all models, each with the same cases.
        metrics: those computed.
    """
    groups = group_rows(rows)
    (first, reference), *others = groups.items()
    if not others:
        return None
    several_classes = len(reference) > 1
    head = ["model", *(["class"] if several_classes else []), "metric", f"difference to {first}", "95 % interval", "p"]
    note = (
        "Mean over the cases of the difference, interval over 9,999 resamplings of the cases (percentiles), p of "
        "Wilcoxon's signed-rank test, not corrected for the number of tests. Bold: the interval leaves 0 out."
    )
    table = Table("differences", f"Differences to {first}", 2 + several_classes, [*head, "cases"], note=note)
    for model, classes in others:
        for of_class, lines in classes.items():
            by_case = {row["case"]: row for row in reference[of_class]}
            for metric in metrics:
                if not metric.better:
                    continue
                values = [float(row[metric.name]) for row in lines]
                result = compare(values, [float(by_case[row["case"]][metric.name]) for row in lines])
                interval = "-" if math.isnan(result.low) else f"{result.low:+.3f} to {result.high:+.3f}"
                apart = result.low > 0 or result.high < 0
                numbers = [
                    Cell(
                        "-" if math.isnan(result.difference) else f"{result.difference:+.3f}",
                        result.difference,
                        best=apart,
                    ),
                    Cell(interval),
                    Cell("-" if math.isnan(result.p_value) else f"{result.p_value:.2g}", result.p_value),
                    Cell(str(result.cases), result.cases),
                ]
                names = [Cell(model), *([Cell(of_class)] if several_classes else []), Cell(metric.name)]
                table.rows.append([*names, *numbers])
    return table
