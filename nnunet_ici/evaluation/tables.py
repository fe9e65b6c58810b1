"""Tables that compare models, with ranks in each column."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["FEWEST_CASES", "MEAN_RANK", "Cell", "Table", "format_value", "ranked_table"]

# Minimum number of cases for values in bold.
FEWEST_CASES = 10
MEAN_RANK = "mean rank"
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Attributes:
        text: printed text, without the rank.
        value: number in full precision; None for text.
        rank: rank among the models, 1 = best; None if unranked.
        best: whether the cell is printed in bold.
    """

    text: str
    value: float | None = None
    rank: int | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        name: short name for files and LaTeX labels, such as the metric family.
        title: title for readers.
        names: number of leading columns that hold names (model, class, ...).
        head: titles of the columns, without arrows.
        rows: cells of each row, one per column.
        note: definitions and caveats.
        over: what the values are averaged over, in words.
        better: "higher", "lower" or "" for each column; missing entries count as "".
    """

    name: str
    title: str
    names: int
    head: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""
    over: str = ""
    better: list[str] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        """The titles of the columns, with an arrow up or down if higher or lower values are better."""
        ways = itertools.zip_longest(self.head, self.better, fillvalue="")
        return [title + ARROWS[way] for title, way in ways]


def ranked_table(
    name: str,
    title: str,
    columns: Sequence[tuple[str, str]],
    values: Mapping[tuple[str, str], Sequence[float]],
    *,
    ranked: bool = True,
    without: Mapping[tuple[str, str], Sequence[frozenset[str]]] | None = None,
    cases: int | None = None,
) -> Table:
    """A table with one row per model, or per class and model; several models are ranked and get a mean rank.

    Models with the same printed value share the better rank. A column is ranked only if every model has a value, over
    the same cases. The best value of each ranked column is bold, unless there are fewer than ten cases.

    Args:
        name, title: name and title of the table.
        columns: title of each column, and "higher" or "lower" if such values are better; "" for no ranks.
        values: one value per column, by model and class; NaN is printed as "-".
        ranked: whether to rank at all.
        without: names of the cases without a value, one set per column, by model and class; None if there are none.
        cases: number of cases; None if it is unknown, which allows bold values.

    Example:
        >>> table = ranked_table("x", "X", [("Dice", "higher")], {("a", "lesion"): [0.5], ("b", "lesion"): [0.75]})
        >>> [[(cell.text, cell.rank) for cell in row] for row in table.rows]
        [[('a', None), ('0.500', 2), ('2.00', None)], [('b', None), ('0.750', 1), ('1.00', None)]]
    """
    classes = list(dict.fromkeys(of_class for _, of_class in values))
    names = ["model", *(["class"] if len(classes) > 1 else [])]
    ranked = ranked and any(better for _, better in columns) and len({model for model, _ in values}) > 1
    head = [*names, *(title for title, _ in columns), *([MEAN_RANK] if ranked else [])]
    ways = [*([""] * len(names)), *(better for _, better in columns), *(["lower"] if ranked else [])]
    table = Table(name, title, len(names), head, better=ways)
    for of_class in classes:
        models = [model for model, other in values if other == of_class]
        lines: list[list[Cell]] = [[Cell(model), *([Cell(of_class)] if len(classes) > 1 else [])] for model in models]
        for at, (_, better) in enumerate(columns):
            left_out = [without[model, of_class][at] if without else frozenset() for model in models]
            counts = [None if not one or cases is None else cases - len(one) for one in left_out]
            comparable = ranked and len(set(left_out)) == 1
            column = _ranked([values[model, of_class][at] for model in models], better if comparable else "", counts)
            for line, cell in zip(lines, column, strict=True):
                line.append(cell)
        if ranked:
            for line, cell in zip(lines, _mean_ranks(lines), strict=True):
                line.append(cell)
        table.rows.extend(lines)
    if cases is not None and cases < FEWEST_CASES:
        table.rows[:] = [[replace(cell, best=False) for cell in row] for row in table.rows]
    return table


def _ranked(values: Sequence[float], better: str, counts: Sequence[int | None]) -> list[Cell]:
    texts = [format_value(value) for value in values]
    shown = [
        text if count is None or text == "-" else f"{text} (n = {count})"
        for text, count in zip(texts, counts, strict=True)
    ]
    if not better or "-" in texts:
        return [Cell(text, value) for text, value in zip(shown, values, strict=True)]
    printed = [float(text) * (-1 if better == "higher" else 1) for text in texts]
    ranks = [1 + sum(other < one for other in printed) for one in printed]
    return [Cell(text, value, rank, rank == 1) for text, value, rank in zip(shown, values, ranks, strict=True)]


def _mean_ranks(lines: Sequence[Sequence[Cell]]) -> list[Cell]:
    """A cell with the mean rank of each line; the lowest mean rank is bold."""
    ranks = [[cell.rank for cell in line if cell.rank is not None] for line in lines]
    if not all(ranks):
        return [Cell("-") for _ in lines]
    means = [f"{sum(of_line) / len(of_line):.2f}" for of_line in ranks]
    lowest = min(means, key=float)
    return [Cell(mean, float(mean), best=mean == lowest) for mean in means]


def format_value(value: float) -> str:
    """Format a number for a table: int as it is, float with three decimals, or one from 100 on; "-" for NaN.

    Example:
        >>> format_value(7), format_value(0.12345), format_value(1234.56), format_value(float("nan"))
        ('7', '0.123', '1234.6', '-')
    """
    if isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"
