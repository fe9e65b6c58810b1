"""Export of tables to Markdown, LaTeX, CSV and aligned text."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from nnunet_ici.evaluation.tables import Cell, Table

__all__ = ["remarks", "to_csv", "to_latex", "to_markdown", "to_text"]

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
LATEX |= {"↑": r"$\uparrow$", "↓": r"$\downarrow$"} | {character: f"\\{character}" for character in "&%$#_{}"}


def remarks(table: Table) -> str:
    """What the values are averaged over, followed by the table's note."""
    return " ".join(f"{text.rstrip('.')}." for text in (table.over, table.note) if text)


def _lines(table: Table, bold: str, escape: Callable[[str], str]) -> list[list[str]]:
    """The escaped texts of the head and the rows, with bold type and ranks."""

    def marked(cell: Cell) -> str:
        text = escape(cell.text)
        return (bold.format(text) if cell.best else text) + ("" if cell.rank is None else f" ({cell.rank})")

    return [[escape(title) for title in table.titles], *([marked(cell) for cell in row] for row in table.rows)]


def to_markdown(table: Table) -> str:
    """The table as Markdown, without its title; names are left-aligned, numbers right-aligned.

    Example:
        >>> table = Table("x", "X", 1, ["model", "Dice"], [[Cell("a"), Cell("0.5", 0.5, 1, best=True)]])
        >>> print(to_markdown(table), end="")
        | model | Dice |
        | --- | ---: |
        | a | **0.5** (1) |
    """
    head, *rows = _lines(table, "**{}**", lambda text: text.replace("|", "\\|"))
    ruler = ["---" if at < table.names else "---:" for at in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ruler, *rows))


def to_latex(table: Table) -> str:
    """The table as a LaTeX ``table`` with caption and label; needs the package booktabs."""

    def escape(text: str) -> str:
        return "".join(LATEX.get(character, character) for character in text)

    head, *rows = _lines(table, r"\textbf{{{}}}", escape)
    frame = pd.DataFrame(rows, columns=pd.Index(head, dtype=object))
    kinds = "l" * table.names + "r" * (len(head) - table.names)
    caption = escape(f"{table.title}. {remarks(table)}".strip())
    return frame.to_latex(index=False, column_format=kinds, caption=caption, label=f"tab:{table.name}")


def to_text(table: Table) -> str:
    """The table as aligned columns for a terminal, without its title; a star replaces bold type.

    Example:
        >>> rows = [[Cell("a"), Cell("0.5", 0.5, 1, best=True)], [Cell("long"), Cell("-")]]
        >>> print(to_text(Table("x", "X", 1, ["model", "Dice"], rows, better=["", "higher"])), end="")
        model  Dice ↑
        a      0.5* (1)
        long   -
    """
    lines = _lines(table, "{}*", str)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{line.rstrip()}\n" for line in padded)


def to_csv(tables: Iterable[Table]) -> str:
    """All tables as one CSV with a line per cell.

    The columns are ``table``, ``row`` (the names in the row, joined by " / "), ``column``, ``value`` (in full
    precision, empty for NaN), ``text`` (as printed) and ``rank``.
    """
    cells = [
        (table.name, " / ".join(cell.text for cell in row[: table.names]), title, cell.value, cell.text, cell.rank)
        for table in tables
        for row in table.rows
        for title, cell in list(zip(table.head, row, strict=True))[table.names :]
    ]
    frame = pd.DataFrame(cells, columns=["table", "row", "column", "value", "text", "rank"], dtype=object)
    return frame.where(frame.notna(), "").to_csv(index=False)
