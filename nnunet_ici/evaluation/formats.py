"""Export of tables to Markdown, LaTeX, CSV and aligned text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable

from nnunet_ici.evaluation.tables import Cell, Table

__all__ = ["remarks", "to_csv", "to_latex", "to_markdown", "to_text"]

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def remarks(table: Table) -> str:
    """What the values are averaged over, followed by the table's note."""
    return " ".join(f"{text.rstrip('.')}." for text in (table.over, table.note) if text)


def to_markdown(table: Table) -> str:
    """The table as Markdown, without its title; names are left-aligned, numbers right-aligned.

    Example:
        >>> table = Table("x", "X", 1, ["model", "Dice"], [[Cell("a"), Cell("0.5", 0.5, 1, best=True)]])
        >>> print(to_markdown(table), end="")
        | model | Dice |
        | --- | ---: |
        | a | **0.5** (1) |
    """
    head = [_escape_markdown(title) for title in table.titles]
    lines = [head, ["---" if at < table.names else "---:" for at in range(len(head))]]
    lines += [[_marked(cell, "**{}**", _escape_markdown) for cell in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: Table) -> str:
    r"""The table as a LaTeX ``table`` with caption and label; needs the package booktabs.

    Example:
        >>> table = Table("x", "X", 1, ["model", "Dice"], [[Cell("a_1"), Cell("0.5", 0.5, 1, best=True)]])
        >>> print(to_latex(table), end="")
        \begin{table}
        \caption{X.}
        \label{tab:x}
        \begin{tabular}{lr}
        \toprule
        model & Dice \\
        \midrule
        a\_1 & \textbf{0.5} (1) \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    caption = _escape_latex(f"{table.title}. {remarks(table)}".strip())
    lines = [
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{'l' * table.names}{'r' * (len(table.head) - table.names)}}}",
        r"\toprule",
        " & ".join(map(_escape_latex, table.titles)) + r" \\",
        r"\midrule",
        *(" & ".join(_marked(cell, r"\textbf{{{}}}", _escape_latex) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def to_text(table: Table) -> str:
    """The table as aligned columns for a terminal, without its title; a star replaces bold type.

    Example:
        >>> rows = [[Cell("a"), Cell("0.5", 0.5, 1, best=True)], [Cell("long"), Cell("-")]]
        >>> print(to_text(Table("x", "X", 1, ["model", "Dice"], rows, better=["", "higher"])), end="")
        model  Dice ↑
        a      0.5* (1)
        long   -
    """
    lines = [table.titles, *([_marked(cell, "{}*", str) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{line.rstrip()}\n" for line in padded)


def to_csv(tables: Iterable[Table]) -> str:
    """All tables as one CSV with a line per cell.

    The columns are ``table``, ``row`` (the names in the row, joined by " / "), ``column``, ``value`` (in full
    precision, empty for NaN), ``text`` (as printed) and ``rank``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "text", "rank"])
    for table in tables:
        for row in table.rows:
            label = " / ".join(cell.text for cell in row[: table.names])
            for title, cell in zip(table.head[table.names :], row[table.names :], strict=True):
                value = "" if cell.value is None or cell.value != cell.value else cell.value
                rank = "" if cell.rank is None else cell.rank
                writer.writerow([table.name, label, title, value, cell.text, rank])
    return buffer.getvalue()


def _marked(cell: Cell, bold: str, escape: Callable[[str], str]) -> str:
    text = escape(cell.text)
    return (bold.format(text) if cell.best else text) + ("" if cell.rank is None else f" ({cell.rank})")


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|")


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
