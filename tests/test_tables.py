"""Tables of models: ranks, what is bold, and how they are written as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from fractions import Fraction

import pytest

from nnunet_ici.evaluation.average_precision import CURVES_NOTE, FALSE_PER_CASE, MATCHING_IOU, THRESHOLDS
from nnunet_ici.evaluation.detection import by_size
from nnunet_ici.evaluation.evaluation_tables import comparison_table, family_table, size_table
from nnunet_ici.evaluation.families import FAMILIES, metrics_of
from nnunet_ici.evaluation.formats import to_csv, to_latex, to_markdown, to_text
from nnunet_ici.evaluation.tables import Cell, Table, format_value, ranked_table

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


def test_a_column_in_which_a_model_has_no_value_is_not_ranked():
    columns = [("Dice", "higher"), ("m", "lower")]
    table = ranked_table("x", "X", columns, {("a", "l"): [0.25, nan], ("b", "l"): [0.5, 0.5], ("c", "l"): [0.75, 1.0]})
    assert column(table, "m") == [("-", None, False), ("0.500", None, False), ("1.000", None, False)]
    assert column(table, "mean rank") == [("3.00", None, False), ("2.00", None, False), ("1.00", None, True)]
    nothing = ranked_table("x", "X", [("m", "lower")], {("a", "l"): [nan], ("b", "l"): [nan]})
    assert column(nothing, "m") == column(nothing, "mean rank") == [("-", None, False)] * 2


def detection_rows(model, precisions):
    """A row for each case: recall 0.5 and the precision given."""
    names = {"model": model, "class": "l"}
    return [
        {**names, "case": str(case), "lesion_recall": 0.5, "lesion_precision": precision}
        for case, precision in enumerate(precisions)
    ]


DETECTION = [metric for metric in metrics_of(["detection"]) if metric.title in ("recall", "precision")]
FULL = "Lesions are connected through faces, edges and corners (26 neighbors, 8 in 2D)."


def test_means_over_different_cases_say_so_and_are_not_ranked():
    rows = detection_rows("a", [1.0] * 2 + [nan] * 10) + detection_rows("b", [0.75] * 12)
    table = family_table("detection", rows, DETECTION, {})
    assert column(table, "precision") == [("1.000 (n = 2)", None, False), ("0.750", None, False)]
    assert column(table, "recall") == [("0.500", 1, True)] * 2
    assert column(table, "mean rank") == [("1.00", None, True)] * 2
    assert "n: number of cases in which the metric has a value, shown if it has none in others." in table.note
    assert "Models whose means cover different cases are not ranked." in table.note
    # the same number of cases, but not the same cases
    rows = detection_rows("a", [nan] + [1.0] * 11) + detection_rows("b", [0.75] * 11 + [nan])
    table = family_table("detection", rows, DETECTION, {})
    assert column(table, "precision") == [("1.000 (n = 11)", None, False), ("0.750 (n = 11)", None, False)]
    # the same cases: the means can be compared
    rows = detection_rows("a", [nan] + [1.0] * 11) + detection_rows("b", [nan] + [0.75] * 11)
    table = family_table("detection", rows, DETECTION, {})
    assert column(table, "precision") == [("1.000 (n = 11)", 1, True), ("0.750 (n = 11)", 2, False)]


@pytest.mark.parametrize(("cases", "bold"), [(9, False), (10, True)])
def test_nothing_is_bold_with_fewer_than_ten_cases(cases, bold):
    rows = detection_rows("a", [1.0] * cases) + detection_rows("b", [0.75] * cases)
    table = family_table("detection", rows, DETECTION, {})
    assert column(table, "precision") == [("1.000", 1, bold), ("0.750", 2, False)]
    assert any(cell.best for line in table.rows for cell in line) == bold
    why = "Nothing is bold with fewer than 10 cases (here 9): the best value may be due to chance."
    assert table.note == (FULL if bold else f"{FULL} {why}")
    differences = comparison_table(rows, DETECTION)
    assert any(cell.best for line in differences.rows for cell in line) == bold
    why = "Nothing is bold below 10 cases."
    assert (why in differences.note) == (not bold)
    alone = family_table("detection", detection_rows("a", [1.0] * cases), DETECTION, {})
    assert alone.note == FULL  # one model: nothing could be bold


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
    table = family_table("paper", rows, PAPER, {})
    assert column(table, "Dice") == [("0.625", 2, False), ("1.000", 1, False)]
    assert column(table, "instances") == [("10", None, False)] * 2
    assert column(table, "missed") == [("2", 1, False), ("3", 2, False)]
    assert column(table, "cases with missed") == [("1", 1, False), ("1", 1, False)]
    assert column(table, "cases with false") == [("0", 1, False), ("1", 2, False)]
    assert table.over == "Dice: mean over the cases; all other columns: totals"


def test_ap_and_froc_are_columns_of_detection():
    rows = detection_rows("a", [1.0] * 12) + detection_rows("b", [1.0] * 12)
    curves = {(model, "l"): {"average_precision": [ap], "at": [ap] * 7} for model, ap in (("a", 0.5), ("b", 0.25))}
    table = family_table("detection", rows, DETECTION, curves)
    assert column(table, "AP (IoU 0.1)") == column(table, "FROC") == [("0.500", 1, True), ("0.250", 2, False)]
    assert CURVES_NOTE in table.note and table.over == "Mean over the cases; AP and FROC: pooled over all lesions"
    one = family_table("detection", rows, DETECTION, {("b", "l"): {"at": [0.0, 0.5]}})  # a has no probabilities
    assert column(one, "FROC") == [("-", None, False), ("0.250", None, False)]
    assert column(one, "AP (IoU 0.1)") == [("-", None, False)] * 2  # of a folder of version 0.2
    without = family_table("detection", rows, DETECTION, {})
    assert "FROC" not in without.head and "FROC" not in without.note + without.over


def test_the_note_on_ap_and_froc_is_what_they_are():
    assert f"{len(THRESHOLDS)} thresholds" in CURVES_NOTE and f"IoU of {MATCHING_IOU} or more" in CURVES_NOTE
    assert [f"{value:.5f}".rstrip("0") for value in (THRESHOLDS[0], THRESHOLDS[-1])] == ["0.01799", "0.99999"]
    levels = re.findall(r"[\d/]*\d", CURVES_NOTE.split("mean recall at ")[1].split(" false")[0])
    assert tuple(float(Fraction(level)) for level in levels) == FALSE_PER_CASE


def test_tables_say_how_lesions_are_connected():
    for family in FAMILIES:
        metrics = metrics_of([family])
        rows = [{"model": "a", "case": "1", "class": "l", **{metric.name: 1 for metric in metrics}}]
        note = family_table(family, rows, metrics, {}).note
        expected = {
            "atlas22": "faces only (6 neighbors, 4 in 2D)",
            "brats": "whose dilations touch are merged",
        }
        assert expected.get(family, FULL) in note, family


def test_arrows_say_what_is_better():
    rows = [row("a", "1", 0.5, 2, 0)]
    table = family_table("paper", rows, PAPER, {})
    assert (
        table.titles[:4] == ["model", "Dice ↑", "instances", "missed ↓"] and table.titles[-1] == "cases with neither ↑"
    )
    assert "| Dice ↑ |" in to_markdown(table) and r"Dice $\uparrow$ &" in to_latex(table)
    assert "Dice ↑" in to_text(table) and "↑" not in to_csv([table])
    sizes = size_table({("a", "l"): by_size([], [])}, "mm3")
    assert sizes.titles[2:] == ["instances", "found", "missed ↓", "false ↓", "recall ↑", "precision ↑", "F1 ↑"]


def test_differences_to_the_first_model():
    rows = [
        *(row("a", str(case), 0.5, 1, 0) for case in range(10)),
        *(row("b", str(case), 0.75, 1, 0) for case in reversed(range(10))),  # in any order
    ]
    table = comparison_table(rows, PAPER)
    assert table.head == ["model", "metric", "difference to a", "95 % interval", "p (Holm)", "cases"]
    metrics = [line[1].text for line in table.rows]
    assert metrics == [metric.name for metric in PAPER if metric.better]  # not how many there are
    dsc, missed, *_ = table.rows
    assert [cell.text for cell in dsc] == ["b", "dice", "+0.250", "+0.250 to +0.250", "0", "10"]
    assert dsc[2].best and not missed[2].best and missed[2].text == "+0.000" and missed[4].text == "1"
    assert comparison_table(rows[:10], PAPER) is None


def test_cases_are_paired_by_name():
    rows = [row("a", "1", 0.0, 0, 0), row("a", "2", 1.0, 0, 0), row("b", "2", 1.0, 0, 0), row("b", "1", 0.0, 0, 0)]
    assert comparison_table(rows, PAPER).rows[0][3].text == "+0.000 to +0.000"


def test_differences_without_a_value():
    rows = [row("a", "1", nan, 0, 0), row("b", "1", 0.5, 0, 0)]
    assert [cell.text for cell in comparison_table(rows, PAPER).rows[0][2:]] == ["-", "-", "-", "0"]
    classes = comparison_table([*rows, *(one | {"class": "core"} for one in rows)], PAPER)
    assert classes.head[:3] == ["model", "class", "metric"] and classes.names == 3


def test_sizes():
    rows = [{"kind": "label", "size": 5, "found": 1}, {"kind": "predicted", "size": 50, "found": 0}]
    table = size_table({("a", "l"): by_size(rows, [10])}, "mm3")
    assert [[cell.text for cell in line] for line in table.rows] == [
        ["a", "0 to 10", "1", "1", "0", "0", "1.000", "1.000", "1.000"],
        ["a", "10 and more", "0", "0", "0", "1", "-", "0.000", "0.000"],
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


def test_text():
    assert to_text(TABLE).splitlines() == ["model|1    50 % of_it", "a|b_c      0.500* (1)", "c\\{d}~^$#  - (2)"]


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
