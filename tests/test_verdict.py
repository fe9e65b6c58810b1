"""The verdict: what is bold, and what the two sentences say, for cases made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_ici.evaluation.tables import FEWEST_CASES
from nnunet_ici.evaluation.verdict import COLUMNS, make_verdict
from tests.evaluate_command import evaluate, read_summary, write

# Differences of ten cases with mean 1 and standard error 0.1: the 95 % interval is 1 - 0.226 to 1 + 0.226.
NOISE = np.array([-1, 1] * 5) * 0.3


def rows(model, of_class="lesion", cases=10, **columns):
    """Cases with the given values of columns of the verdict, numbers or one for each case; 0.5 for scores, else 3."""
    values = {
        column.metric: np.broadcast_to(columns.get(column.title, 0.5 if column.decimals == 3 else 3.0), cases)
        for column in COLUMNS
    }
    return [
        {"model": model, "case": str(case), "class": of_class, **{name: float(of[case]) for name, of in values.items()}}
        for case in range(cases)
    ]


def bold(verdict):
    head = verdict.table.head
    return {(row[0].text, head[at]) for row in verdict.table.rows for at, cell in enumerate(row) if cell.best}


def test_one_row_a_model_and_six_columns_with_arrows():
    verdict = make_verdict([*rows("A"), *rows("B")])
    assert [row[0].text for row in verdict.table.rows] == ["A", "B"] and verdict.table.names == 1
    assert len(verdict.table.titles) == 7 and all(title[-1] in "↑↓" for title in verdict.table.titles[1:])
    assert [cell.text for cell in verdict.table.rows[0][1:]] == ["0.500"] * 3 + ["3.000"] * 3


def test_a_clear_difference_is_bold_and_said_with_its_interval():
    verdict = make_verdict([*rows("A"), *rows("B", missed=2 + NOISE)])
    assert bold(verdict) == {("B", "missed")} and verdict.best == "A"  # Dice is equal: the first one stays
    assert verdict.sentences == (
        "Compared with B, A finds 1.00 fewer lesions per case (95 % interval 0.77 to 1.23); there is no clear "
        "difference in lesion-wise Dice, Dice, lesion F1 (IoU 0.1), false or volume difference (ml).",
        "Ranked by the mean of lesion-wise Dice and Dice: A (0.500) and B (0.500).",
    )
    assert "Holm's correction for 6 comparisons" in verdict.table.note and verdict.table.over == "Mean over 10 cases"


def test_every_direction_has_its_words():
    better = {"lesion-wise Dice": 0.6 + NOISE / 10, "Dice": 0.4 + NOISE / 10, "false": 5 + NOISE}
    verdict = make_verdict(
        [*rows("A"), *rows("B", missed=1 + NOISE, **{"volume difference (ml)": 4 + NOISE}, **better)]
    )
    assert verdict.best == "A"
    assert verdict.sentences[0] == (
        "Compared with B, A finds 2.00 fewer lesions per case (95 % interval 1.77 to 2.23), predicts 2.00 fewer false "
        "lesions per case (1.77 to 2.23), is 1.00 ml nearer to the volume of the label (0.77 to 1.23), scores 0.100 "
        "lower in lesion-wise Dice (0.077 to 0.123) and scores 0.100 higher in Dice (0.077 to 0.123); there is no "
        "clear difference in lesion F1 (IoU 0.1)."
    )
    turned = make_verdict([*rows("B", Dice=0.6 + NOISE / 10, false=2 + NOISE), *rows("A", missed=2 + NOISE)])
    assert turned.best == "B" and turned.sentences[0].startswith(
        "Compared with A, B finds 1.00 fewer lesions per case (95 % interval 0.77 to 1.23), predicts 1.00 fewer false "
        "lesions per case (0.77 to 1.23) and scores 0.100 higher in Dice (0.077 to 0.123)"
    )


def test_holm_decides_what_is_clear():
    """With t = 3 and 9 degrees of freedom p is 0.015: below 0.05 alone, above 0.05 / 6."""
    weak = 3 - (0.3 + NOISE)  # standard error 0.1
    verdict = make_verdict([*rows("A"), *rows("B", missed=weak)])
    assert not bold(verdict) and verdict.sentences[0] == "A and B do not differ clearly in any column."
    strong = {column.title: 0.6 + NOISE / 10 if column.decimals == 3 else 2 + NOISE for column in COLUMNS}
    five = make_verdict(
        [*rows("A"), *rows("B", **{**strong, "missed": weak})]
    )  # the weakest of six: compared with 0.05
    assert ("B", "missed") in bold(five) and len(bold(five)) == 6


def test_bold_needs_a_clear_difference_from_every_other_model():
    verdict = make_verdict([*rows("A"), *rows("B", missed=2 + NOISE), *rows("C", missed=1.99 + NOISE[::-1])])
    assert not bold(verdict)
    verdict = make_verdict([*rows("A"), *rows("B", missed=2 + NOISE), *rows("C", missed=0 + NOISE)])
    assert bold(verdict) == {("C", "missed")} and "18 comparisons" in verdict.table.note


def test_the_best_is_compared_with_the_first_model_and_with_the_second_best():
    three = [*rows("A"), *rows("B", Dice=0.6 + NOISE / 10), *rows("C", Dice=0.61 + NOISE / 10)]
    verdict = make_verdict(three)
    assert verdict.best == "C" and verdict.sentences[0].startswith("Compared with A, C scores 0.110 higher in Dice")
    assert verdict.sentences[1] == (
        "Ranked by the mean of lesion-wise Dice and Dice: C (0.555), B (0.550) and A (0.500)."
    )  # C is 0.01 better than B in every case
    again = make_verdict([*rows("A"), *rows("B", Dice=0.6 + NOISE / 10), *rows("C", Dice=0.61 - NOISE / 10)])
    assert again.sentences[1].endswith("and A (0.500); C and B do not differ clearly in any column.")


@pytest.mark.parametrize("cases", [2, FEWEST_CASES - 1])
def test_too_few_cases(cases):
    verdict = make_verdict(
        [*rows("A", cases=cases), *rows("C", cases=cases), *rows("B", cases=cases, missed=0, Dice=1)]
    )
    assert not bold(verdict) and verdict.best == "B"
    assert verdict.sentences[0] == (
        f"{cases} cases cannot show a clear difference between B and A: at least 10 are needed."
    )
    assert verdict.sentences[1].endswith("B (0.750), A (0.500) and C (0.500).")


def test_one_model():
    verdict = make_verdict(rows("A"))
    assert verdict.sentences == (
        "A: lesion-wise Dice 0.500, Dice 0.500, lesion F1 (IoU 0.1) 0.500, missed 3.000, false 3.000, volume "
        "difference (ml) 3.000.",
        "There is no other model to compare it with.",
    )
    assert not verdict.table.note and not bold(verdict)


def test_classes_are_averaged_in_each_case():
    two = [*rows("A", "core", missed=1), *rows("A", "edema", missed=4)]
    verdict = make_verdict([*two, *rows("B", "core", missed=2), *rows("B", "edema", missed=2)])
    at = verdict.table.head.index("missed")
    assert [row[at].text for row in verdict.table.rows] == ["2.500", "2.000"]
    assert verdict.table.over == "Mean over 10 cases, each averaged over 2 classes"


def test_columns_that_were_not_computed_are_left_out():
    assert make_verdict([]) is None and make_verdict([{"model": "a", "case": "1", "class": "l", "x": 1}]) is None
    dice = next(column.metric for column in COLUMNS if column.title == "Dice")
    only = [{"model": m, "case": "1", "class": "l", dice: value} for m, value in (("A", 0.5), ("B", 0.75))]
    verdict = make_verdict(only)
    assert verdict.table.head == ["model", "Dice"] and verdict.best == "B"
    nothing = [one | {dice: math.nan} for one in only]
    assert [row[1].text for row in make_verdict(nothing).table.rows] == ["-", "-"]


def test_the_verdict_of_ten_cases_in_all_outputs(tmp_path, capsys, monkeypatch):
    """B finds one more lesion of two in every case, and predicts a false one in half of them.

    Lesion-wise Dice: A has 1 / 2, B has 1 or 2 / 3. The differences, 1 / 2 and 1 / 6, have the mean 1 / 3 and the
    standard error 1 / 18; the 97.5 % quantile of t with 9 degrees of freedom is 2.262.
    """
    monkeypatch.setenv("COLUMNS", "1000")
    for case in range(10):
        label = np.zeros((9, 9), np.uint8)
        label[1:4, 1:4] = label[6, 6] = 1
        first, second = label.copy(), label.copy()
        first[6, 6] = 0
        second[8, 0] = case % 2
        for folder, array in (("gt", label), ("A", first), ("B", second)):
            write(tmp_path / folder / f"{case}.png", array)
    evaluate(tmp_path)
    sentence = (
        "Compared with A, B finds 1.00 more lesions per case (95 % interval 1.00 to 1.00), predicts 0.50 more "
        "false lesions per case (0.12 to 0.88), is 0.50 voxels nearer to the volume of the label (0.12 to 0.88), "
        "scores 0.333 higher in lesion-wise Dice (0.208 to 0.459), scores 0.029 higher in Dice (0.011 to 0.047) "
        "and scores 0.233 higher in lesion F1 (IoU 0.1) (0.158 to 0.309)."
    )
    lines = capsys.readouterr().out.splitlines()
    assert "B      0.833*" in "\n".join(lines) and sentence in lines
    markdown = (tmp_path / "out" / "tables.md").read_text()
    assert markdown.startswith(sentence) and "| B | **0.833** | **0.976** | **0.900** | **0.000** | 0.500 |" in markdown
    assert read_summary(tmp_path)["verdict"]["sentences"][0] == sentence
