"""Tables that compare models, with ranks in each column."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

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
        without: names of the cases without a value, one set per column, by model and class; None if there are none.
        cases: number of cases; None if it is unknown, which allows bold values.

    Example:
        >>> table = ranked_table("x", "X", [("Dice", "higher")], {("a", "lesion"): [0.5], ("b", "lesion"): [0.75]})
        >>> [[(cell.text, cell.rank) for cell in row] for row in table.rows]
        [[('a', None), ('0.500', 2), ('2.00', None)], [('b', None), ('0.750', 1), ('1.00', None)]]
    """
    classes = list(dict.fromkeys(of_class for _, of_class in values))
    names = ["model", *(["class"] if len(classes) > 1 else [])]
    ranked = any(better for _, better in columns) and len({model for model, _ in values}) > 1
    bold = cases is None or cases >= FEWEST_CASES
    head = [*names, *(title for title, _ in columns), *([MEAN_RANK] if ranked else [])]
    ways = [*([""] * len(names)), *(better for _, better in columns), *(["lower"] if ranked else [])]
    table = Table(name, title, len(names), head, better=ways)
    for of_class in classes:
        keys = [key for key in values if key[1] == of_class]
        lines = [[Cell(text) for text in key[: len(names)]] for key in keys]
        for at, (_, better) in enumerate(columns):
            texts = [format_value(values[key][at]) for key in keys]
            left_out = [without[key][at] if without else frozenset() for key in keys]
            comparable = ranked and better and "-" not in texts and len(set(left_out)) == 1
            printed = [float(text) * (-1 if better == "higher" else 1) for text in texts] if comparable else []
            for number, (key, text, out) in enumerate(zip(keys, texts, left_out, strict=True)):
                if out and cases is not None and text != "-":
                    text += f" (n = {cases - len(out)})"
                rank = 1 + sum(other < printed[number] for other in printed) if comparable else None
                lines[number].append(Cell(text, values[key][at], rank, bold and rank == 1))
        if ranked:
            ranks = [[cell.rank for cell in line if cell.rank is not None] for line in lines]
            means = [f"{fmean(of_line):.2f}" if of_line else "-" for of_line in ranks]
            lowest = min((float(mean) for mean in means if mean != "-"), default=None)
            for line, mean in zip(lines, means, strict=True):
                best = bold and mean != "-" and float(mean) == lowest
                line.append(Cell(mean, None if mean == "-" else float(mean), best=best))
        table.rows.extend(lines)
    return table


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
