"""The verdict of an evaluation: one table with a row per model, and two sentences that say what it means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nnunet_ici.command import plural
from nnunet_ici.evaluation.comparison import SIGNIFICANCE, Comparison, compare, holm
from nnunet_ici.evaluation.families import IN_VOXELS
from nnunet_ici.evaluation.summary import Row
from nnunet_ici.evaluation.tables import FEWEST_CASES, Cell, Table, format_value

__all__ = ["COLUMNS", "Verdict", "make_verdict"]

MOST_RANKED = 4  # models in the second sentence


@dataclass(frozen=True)
class Column:
    """A column of the verdict.

    Attributes:
        title: title of the column.
        metric: column of cases.csv.
        better: "higher" or "lower".
        phrase: what a model does that differs from another one, with places for the difference and for ``word``.
        word, worse: whether its value is better or worse, in this phrase.
        decimals: decimals of the difference.
    """

    title: str
    metric: str
    better: str
    phrase: str
    word: str = "higher"
    worse: str = "lower"
    decimals: int = 2


def _score(title: str, metric: str) -> Column:
    return Column(title, metric, "higher", f"scores {{}} {{}} in {title}", decimals=3)


# A model is recommended by the mean of these two.
SCORE = (_score("lesion-wise Dice", "lesion_dice"), _score("Dice", "dice"))
COLUMNS = (
    *SCORE,
    _score("lesion F1 (IoU 0.1)", "lesion_f1_iou10"),
    Column("missed", "missed_instances", "lower", "finds {} {} lesions per case", "more", "fewer"),
    Column("false", "false_instances", "lower", "predicts {} {} false lesions per case", "fewer", "more"),
    Column(
        "volume difference (ml)",
        "volume_difference_ml",
        "lower",
        "is {} ml {} the volume of the label",
        "nearer to",
        "farther from",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """The verdict of an evaluation.

    Attributes:
        table: one row per model; in each column the best value is bold if it is clearly better than all others.
        sentences: two sentences that say what the table means.
        best: name of the model with the highest mean of lesion-wise Dice and Dice.
    """

    table: Table
    sentences: tuple[str, str]
    best: str


def make_verdict(rows: Sequence[Row]) -> Verdict | None:
    """Compare all models in the six columns of the verdict.

    With several classes, the values of a case are averaged over the classes. All pairs of models are compared in all
    columns, and the p-values are adjusted by Holm's method for the number of these comparisons.

    Args:
        rows: rows of cases.csv, with the same cases and classes for every model. Columns of the verdict that are not
            in them are left out.

    Returns:
        The verdict; None if the rows hold none of its columns.
    """
    columns = [in_rows for column in COLUMNS if rows and (in_rows := _of_rows(column, rows[0]))]
    if not columns:
        return None
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    classes = list(dict.fromkeys(row["class"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    by_key = {(row["model"], row["case"], row["class"]): row for row in rows}
    values = {
        (model, column.title): [
            fmean(float(by_key[model, case, of_class][column.metric]) for of_class in classes) for case in cases
        ]
        for model in models
        for column in columns
    }
    means = {key: _mean(of_cases) for key, of_cases in values.items()}
    compared = {
        (one, other, column.title): compare(values[one, column.title], values[other, column.title])
        for one, other in itertools.combinations(models, 2)
        for column in columns
    }
    adjusted = holm([one.p_value for one in compared.values()])
    clear: set[tuple[str, str, str]] = set()
    for (one, other, title), p_value in zip(compared, adjusted, strict=True):
        if p_value < SIGNIFICANCE and compared[one, other, title].cases >= FEWEST_CASES:
            clear |= {(one, other, title), (other, one, title)}
    over = f"Mean over {plural(len(cases), 'case')}"
    if len(classes) > 1:
        over += f", each averaged over {len(classes)} classes"
    table = _table(models, columns, means, clear, over)
    score = {model: _mean([means[model, one.title] for one in columns if one in SCORE]) for model in models}
    ranked = sorted(models, key=lambda model: -score[model])  # stable: the first of equal models
    best = ranked[0]
    if len(models) == 1:
        listed = ", ".join(f"{one.title} {format_value(means[best, one.title])}" for one in columns)
        return Verdict(table, (f"{best}: {listed}.", "There is no other model to compare it with."), best)
    rival = models[0] if best != models[0] else ranked[1]
    differences = {one: compare(values[best, one.title], values[rival, one.title]) for one in columns}
    found = [column for column in columns if (best, rival, column.title) in clear]
    if len(cases) < FEWEST_CASES:
        first = (
            f"{plural(len(cases), 'case')} cannot show a clear difference between {best} and {rival}: at least "
            f"{FEWEST_CASES} are needed."
        )
    else:
        first = _differences(best, rival, differences, found)
    order = [f"{model} ({score[model]:.3f})" for model in ranked]
    order[MOST_RANKED:] = [f"{len(order) - MOST_RANKED} more"] * (len(order) > MOST_RANKED)
    second = f"Ranked by the mean of lesion-wise Dice and Dice: {_listed(order)}"
    if ranked[1] != rival and not any((best, ranked[1], column.title) in clear for column in columns):
        second += f"; {best} and {ranked[1]} do not differ clearly in any column"
    return Verdict(table, (first, f"{second}."), best)


def _of_rows(column: Column, row: Row) -> Column | None:
    """The column itself, or in voxels for formats without a voxel size; None if the row has neither."""
    if column.metric in row:
        return column
    metric = IN_VOXELS.get(column.metric)
    if metric not in row:
        return None
    title, phrase = column.title.replace("(ml)", "(voxels)"), column.phrase.replace(" ml ", " voxels ")
    return replace(column, metric=metric, title=title, phrase=phrase)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _table(
    models: Sequence[str],
    columns: Sequence[Column],
    means: dict[tuple[str, str], float],
    clear: set[tuple[str, str, str]],
    over: str,
) -> Table:
    lines = [[Cell(model)] for model in models]
    for column in columns:
        sign = 1 if column.better == "higher" else -1
        for model, line in zip(models, lines, strict=True):
            mean = means[model, column.title]
            others = [other for other in models if other != model]
            best = bool(others) and all(
                (model, other, column.title) in clear and sign * (mean - means[other, column.title]) > 0
                for other in others
            )
            line.append(Cell(format_value(mean), mean, best=best))
    note = ""
    if len(models) > 1:
        note = (
            "Bold: better than every other model, with an interval of the difference that excludes 0 after Holm's "
            f"correction for {plural(math.comb(len(models), 2) * len(columns), 'comparison')}"
        )
    head, ways = ["model", *(column.title for column in columns)], ["", *(column.better for column in columns)]
    return Table("verdict", "Verdict", 1, head, lines, note, over, ways)


def _differences(best: str, rival: str, differences: dict[Column, Comparison], clear: Sequence[Column]) -> str:
    """What distinguishes two models: all clear differences with their intervals, and the columns without one."""
    if not clear:
        return f"{best} and {rival} do not differ clearly in any column."
    parts: list[str] = []
    for column in sorted(clear, key=lambda column: column.decimals):  # counts first
        one = differences[column]
        number, *limits = (f"{abs(value):.{column.decimals}f}" for value in (one.difference, one.low, one.high))
        low, high = limits if one.difference > 0 else reversed(limits)
        verb, word = column.phrase, column.worse
        if (one.difference > 0) == (column.better == "higher"):
            word = column.word
        parts.append(f"{verb.format(number, word)} ({'' if parts else '95 % interval '}{low} to {high})")
    unclear = [column.title for column in differences if column not in clear]
    rest = f"; there is no clear difference in {_listed(unclear, 'or')}" if unclear else ""
    return f"Compared with {rival}, {best} {_listed(parts)}{rest}."


def _listed(texts: Sequence[str], last: str = "and") -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {last} {texts[-1]}"
