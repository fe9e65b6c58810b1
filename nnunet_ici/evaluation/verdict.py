"""The verdict of an evaluation: one table with a row per model, and two sentences that say what it means."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nnunet_ici.command import plural
from nnunet_ici.evaluation.comparison import SIGNIFICANCE, Comparison, compare, holm
from nnunet_ici.evaluation.families import IN_VOXELS
from nnunet_ici.evaluation.summary import Row
from nnunet_ici.evaluation.tables import FEWEST_CASES, Cell, Table, format_value

if TYPE_CHECKING:
    import pandas as pd

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
    import pandas as pd  # not with the module, which the workers of evaluate_cases load for COLUMNS

    frame = pd.DataFrame(rows)
    models, cases, classes = (list(dict.fromkeys(frame[key])) for key in ("model", "case", "class"))
    values = frame.groupby(["case", "model"], sort=False)[[column.metric for column in columns]].mean().unstack("model")
    means = values.mean()
    pairs = {
        (one, other, column): compare(values[column.metric][one], values[column.metric][other])
        for one, other in itertools.combinations(models, 2)
        for column in columns
    }
    better = set()  # model, other model, column: clearly better
    adjusted = holm([pair.p_value for pair in pairs.values()])
    for ((one, other, column), pair), p_value in zip(pairs.items(), adjusted, strict=True):
        if p_value < SIGNIFICANCE and pair.cases >= FEWEST_CASES:
            first = (pair.difference > 0) == (column.better == "higher")
            better.add((one, other, column) if first else (other, one, column))

    note, over = "", f"Mean over {plural(len(cases), 'case')}"
    if len(classes) > 1:
        over += f", each averaged over {len(classes)} classes"
    if pairs:
        note = (
            "Bold: better than every other model, with an interval of the difference that excludes 0 after Holm's "
            f"correction for {plural(len(pairs), 'comparison')}"
        )
    head, ways = ["model", *(column.title for column in columns)], ["", *(column.better for column in columns)]
    table = Table("verdict", "Verdict", 1, head, [], note, over, ways)
    for model in models:
        others = [other for other in models if other != model]
        table.rows.append([Cell(model)])
        for column in columns:
            mean = float(means[column.metric, model])
            best = bool(others) and all((model, other, column) in better for other in others)
            table.rows[-1].append(Cell(format_value(mean), mean, best=best))

    score = means[[column.metric for column in columns if column in SCORE]].unstack("model").mean()
    ranked = sorted(models, key=lambda model: -score[model])  # stable: the first of equal models
    return Verdict(table, _sentences(ranked, models[0], score, values, columns, better), ranked[0])


def _sentences(
    ranked: Sequence[str],
    reference: str,
    score: Mapping[str, float],
    values: pd.DataFrame,
    columns: Sequence[Column],
    better: Set[tuple[str, str, Column]],
) -> tuple[str, str]:
    """The two sentences about the models, from the best to the worst; the first model is the reference."""
    best, *others = ranked
    if not others:
        listed = ", ".join(f"{one.title} {format_value(float(values[one.metric][best].mean()))}" for one in columns)
        return f"{best}: {listed}.", "There is no other model to compare it with."

    def clear(other: str) -> list[Column]:
        return [one for one in columns if {(best, other, one), (other, best, one)} & better]

    rival = reference if best != reference else others[0]
    if len(values) < FEWEST_CASES:
        first = (
            f"{plural(len(values), 'case')} cannot show a clear difference between {best} and {rival}: at least "
            f"{FEWEST_CASES} are needed."
        )
    else:
        pairs = {one: compare(values[one.metric][best], values[one.metric][rival]) for one in columns}
        first = _differences(best, rival, pairs, clear(rival))
    order = [f"{model} ({score[model]:.3f})" for model in ranked]
    order[MOST_RANKED:] = [f"{len(order) - MOST_RANKED} more"] * (len(order) > MOST_RANKED)
    second = f"Ranked by the mean of lesion-wise Dice and Dice: {_listed(order)}"
    if len(values) >= FEWEST_CASES and others[0] != rival and not clear(others[0]):
        second += f"; {best} and {others[0]} do not differ clearly in any column"
    return first, f"{second}."


def _of_rows(column: Column, row: Row) -> Column | None:
    """The column itself, or in voxels for formats without a voxel size; None if the row has neither."""
    if column.metric in row:
        return column
    metric = IN_VOXELS.get(column.metric)
    if metric not in row:
        return None
    title, phrase = column.title.replace("(ml)", "(voxels)"), column.phrase.replace(" ml ", " voxels ")
    return replace(column, metric=metric, title=title, phrase=phrase)


def _differences(best: str, rival: str, differences: dict[Column, Comparison], clear: Sequence[Column]) -> str:
    """What distinguishes two models: all clear differences with their intervals, and the columns without one."""
    if not clear:
        return f"{best} and {rival} do not differ clearly in any column."
    parts: list[str] = []
    for column in sorted(clear, key=lambda column: column.decimals):  # counts first
        one = differences[column]
        number, *limits = (f"{abs(value):.{column.decimals}f}" for value in (one.difference, one.low, one.high))
        low, high = limits if one.difference > 0 else reversed(limits)
        word = column.word if (one.difference > 0) == (column.better == "higher") else column.worse
        parts.append(f"{column.phrase.format(number, word)} ({'' if parts else '95 % interval '}{low} to {high})")
    unclear = [column.title for column in differences if column not in clear]
    rest = f"; there is no clear difference in {_listed(unclear, 'or')}" if unclear else ""
    return f"Compared with {rival}, {best} {_listed(parts)}{rest}."


def _listed(texts: Sequence[str], last: str = "and") -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {last} {texts[-1]}"
