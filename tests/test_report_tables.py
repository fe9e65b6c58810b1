"""Tables of a report, and how their long names are broken."""

from __future__ import annotations

import math

from nnunet_ici.evaluation.tables import Cell, Table
from nnunet_ici.report.page import group_starts
from nnunet_ici.report.rendering import load_templates, words


def html_of(table):
    templates = load_templates()
    return templates.get_template("parts.html").module.data_table(table, group_starts(table))


def test_a_table():
    rows = [[Cell("a<"), Cell("x"), Cell("0.5", 0.5, 1, best=True)], [Cell("b"), Cell("x"), Cell("-", math.nan, 2)]]
    markup = html_of(Table("t", "T", 2, ["model", "class", "Dice"], rows, note="A & B."))
    assert '<th scope="row" class="name">a&lt;</th>' in markup and "A &amp; B." in markup
    assert '<td data-title="Dice"><strong>0.5</strong><span class="rank"> (1)</span></td>' in markup
    assert '<td data-title="Dice">-<span class="rank"> (2)</span></td>' in markup
    assert "group" not in markup  # all rows are of class x
    grouped = html_of(Table("t", "T", 2, ["m", "s"], [[Cell(a), Cell(b)] for a, b in ("ax", "ay", "bx")]))
    assert grouped.count('class="group"') == 1


def test_names_are_broken_between_words_only():
    table = Table("t", "T", 1, ["model"], [[Cell("nnUNetTrainerICI_g0p5_5epochs")]])
    assert ">nnUNetTrainer<wbr>ICI_<wbr>g0p5_<wbr>5epochs</th>" in html_of(table)
    assert words("sub-r003s005_ses-1") == ["sub-", "r003s005_", "ses-", "1"] and words("a<b") == ["a<b"]
