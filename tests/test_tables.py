"""Tables of models: ranks, what is bold, and how they are written as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math

import pytest

from nnunet_ici.evaluation.detection import by_size
from nnunet_ici.evaluation.families import metrics_of
from nnunet_ici.evaluation.formats import to_csv, to_latex, to_markdown
from nnunet_ici.evaluation.summary import summarise
from nnunet_ici.evaluation.tables import (
    Cell,
    Table,
    comparison_table,
    family_table,
    format_value,
    ranked_table,
    size_table,
)

nan = math.nan


def column(table, title):
    at = table.head.index(title)
    return [(row[at].text, row[at].rank, row[at].best) for row in table.rows]


def test_ranks_by_hand():
    columns = [("Dice", "higher"), ("missed", "lower"), ("instances", "")]
    table = ranked_table(
        "x", "X", columns, {("a", "l"): [0.5, 3, 9], ("b", "l"): [0.75, 3, 9], ("c", "l"): [0.25, 1, 9]}
    )
    assert table.head == ["model", "Dice", "missed", "instances", "mean rank"] and table.names == 1
    assert column(table, "Dice") == [("0.500", 2, False), ("0.750", 1, True), ("0.250", 3, False)]
    assert column(table, "missed") == [("3", 2, False), ("3", 2, False), ("1", 1, True)]
    assert column(table, "instances") == [("9", None, False)] * 3
    assert column(table, "mean rank") == [("2.00", None, False), ("1.50", None, True), ("2.00", None, False)]


def test_ties_share_the_better_rank():
    values = [1.0, 0.5, 0.5001, 0.25]  # 0.500 and 0.500 where they are printed
    table = ranked_table(
        "x", "X", [("Dice", "higher")], {(name, "l"): [v] for name, v in zip("abcd", values, strict=True)}
    )
    assert [rank for _, rank, _ in column(table, "Dice")] == [1, 2, 2, 4]
    equal = ranked_table("x", "X", [("Dice", "higher")], {("a", "l"): [0.5], ("b", "l"): [0.5]})
    assert column(equal, "Dice") == [("0.500", 1, True)] * 2
    assert column(equal, "mean rank") == [("1.00", None, True)] * 2


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_nan_ranks_last_and_is_never_bold(better):
    table = ranked_table("x", "X", [("m", better)], {("a", "l"): [nan], ("b", "l"): [0.5], ("c", "l"): [nan]})
    assert column(table, "m") == [("-", 2, False), ("0.500", 1, True), ("-", 2, False)]
    nothing = ranked_table("x", "X", [("m", better)], {("a", "l"): [nan], ("b", "l"): [nan]})
    assert column(nothing, "m") == [("-", 1, False)] * 2


def test_one_model_has_no_ranks():
    table = ranked_table("x", "X", [("Dice", "higher")], {("a", "l"): [0.5]})
    assert table.head == ["model", "Dice"] and column(table, "Dice") == [("0.500", None, False)]


def test_several_classes_are_ranked_apart():
    values = {("a", "core"): [0.5], ("a", "edema"): [0.5], ("b", "core"): [0.25], ("b", "edema"): [0.75]}
    table = ranked_table("x", "X", [("Dice", "higher")], values)
    assert table.head == ["model", "class", "Dice", "mean rank"] and table.names == 2
    assert [[cell.text for cell in row[:2]] for row in table.rows] == [
        ["a", "core"],
        ["b", "core"],
        ["a", "edema"],
        ["b", "edema"],
    ]
    assert [rank for _, rank, _ in column(table, "Dice")] == [1, 2, 2, 1]
    assert [best for _, _, best in column(table, "mean rank")] == [True, False, False, True]
    one = ranked_table("x", "X", [("Dice", "higher")], {key: value for key, value in values.items() if key[0] == "a"})
    assert one.head == ["model", "class", "Dice"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345, "12345"), (0.0, "0.000"), (-0.5, "-0.500"), (99.999, "99.999"), (100.0, "100.0"), (nan, "-")],
)
def test_printed_numbers(value, text):
    assert format_value(value) == text


PAPER = metrics_of(["paper"])


def row(model, case, dsc, missed, false, name="lesion"):
    values = dict(zip((metric.name for metric in PAPER), (dsc, 5, missed, 4, false, 0, 0), strict=True))
    return {"model": model, "case": case, "class": name, **values}


def test_the_table_of_the_paper():
    rows = [row("a", "1", 0.5, 2, 0), row("a", "2", 0.75, 0, 0), row("b", "1", 1.0, 3, 1), row("b", "2", 1.0, 0, 0)]
    table = family_table("paper", summarise(rows, PAPER), PAPER, {})
    assert column(table, "DSC") == [("0.625", 2, False), ("1.000", 1, True)]
    assert column(table, "instances") == [("10", None, False)] * 2
    assert column(table, "missed") == [("2", 1, True), ("3", 2, False)]
    assert column(table, "cases with missed") == [("1", 1, True), ("1", 1, True)]
    assert column(table, "cases with false") == [("0", 1, True), ("1", 2, False)]


def test_froc_is_a_column_of_detection():
    recall = [metric for metric in metrics_of(["detection"]) if metric.name == "detection.recall"]
    rows = [{"model": model, "case": "1", "class": "l", "detection.recall": 0.5} for model in "ab"]
    summary = summarise(rows, recall)
    table = family_table("detection", summary, recall, {"a": {"l": nan}, "b": {"l": 0.25}})
    assert column(table, "FROC") == [("-", 2, False), ("0.250", 1, True)]
    assert "FROC" not in family_table("detection", summary, recall, {}).head


def test_differences_to_the_first_model():
    rows = [
        *(row("a", str(case), 0.5, 1, 0) for case in range(5)),
        *(row("b", str(case), 0.75, 1, 0) for case in reversed(range(5))),  # in any order
    ]
    table = comparison_table(rows, PAPER)
    assert table.head == ["model", "metric", "difference to a", "95 % interval", "p", "cases"]
    metrics = [line[1].text for line in table.rows]
    assert metrics == [metric.name for metric in PAPER if metric.better]  # not how many there are
    dsc, missed, *_ = table.rows
    assert [cell.text for cell in dsc] == ["b", "paper.dsc", "+0.250", "+0.250 to +0.250", "0.062", "5"]
    assert dsc[2].best and not missed[2].best and missed[2].text == "+0.000" and missed[4].text == "1"
    assert comparison_table(rows[:5], PAPER) is None


def test_cases_are_paired_by_name():
    rows = [row("a", "1", 0.0, 0, 0), row("a", "2", 1.0, 0, 0), row("b", "2", 1.0, 0, 0), row("b", "1", 0.0, 0, 0)]
    assert comparison_table(rows, PAPER).rows[0][3].text == "+0.000 to +0.000"


def test_differences_without_a_value():
    rows = [row("a", "1", nan, 0, 0), row("b", "1", 0.5, 0, 0)]
    assert [cell.text for cell in comparison_table(rows, PAPER).rows[0][2:]] == ["-", "-", "-", "0"]
    classes = comparison_table([*rows, *(one | {"class": "core"} for one in rows)], PAPER)
    assert classes.head[:3] == ["model", "class", "metric"] and classes.names == 3


def test_sizes():
    rows = [{"kind": "label", "size": 5, "touched": 1}, {"kind": "predicted", "size": 50, "touched": 0}]
    table = size_table({("a", "l"): by_size(rows, [10])}, "mm3")
    assert [[cell.text for cell in line] for line in table.rows] == [
        ["a", "0 to 10", "1", "1", "1.000", "0", "0", "-", "1.000"],
        ["a", "10 and more", "0", "0", "-", "1", "1", "0.000", "0.000"],
    ]
    assert table.head[1] == "size (mm3)" and table.names == 2


TABLE = Table(
    "x",
    "A & B",
    1,
    ["model|1", "50 % of_it"],
    [[Cell("a|b_c"), Cell("0.500", 0.5, 1, best=True)], [Cell("c\\{d}~^$#"), Cell("-", nan, 2)]],
    note="A note_1.",
)


def test_markdown():
    assert to_markdown(TABLE).splitlines() == [
        r"| model\|1 | 50 % of_it |",
        "| --- | ---: |",
        r"| a\|b_c | **0.500** (1) |",
        "| c\\{d}~^$# | - (2) |",
    ]


def test_latex():
    lines = to_latex(TABLE).splitlines()
    assert lines[:5] == [
        r"\begin{table}",
        r"\caption{A \& B. A note\_1.}",
        r"\label{tab:x}",
        r"\begin{tabular}{lr}",
        r"\toprule",
    ]
    assert r"model\textbar{}1 & 50 \% of\_it \\" in lines
    assert r"a\textbar{}b\_c & \textbf{0.500} (1) \\" in lines
    assert r"c\textbackslash{}\{d\}\textasciitilde{}\textasciicircum{}\$\# & - (2) \\" in lines


def test_csv():
    rows = list(csv.DictReader(io.StringIO(to_csv([TABLE]))))
    assert rows == [
        {"table": "x", "row": "a|b_c", "column": "50 % of_it", "value": "0.5", "text": "0.500", "rank": "1"},
        {"table": "x", "row": "c\\{d}~^$#", "column": "50 % of_it", "value": "", "text": "-", "rank": "2"},
    ]
    precise = ranked_table("y", "Y", [("Dice", "higher")], {('a,"b"', "l"): [1 / 3]})
    (row,) = csv.DictReader(io.StringIO(to_csv([precise])))
    assert (row["row"], float(row["value"]), row["text"]) == ('a,"b"', 1 / 3, "0.333")
