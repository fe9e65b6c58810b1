"""HTML and SVG as text: elements, tables, and pictures inside the page."""

from __future__ import annotations

import base64
import html
import itertools
from collections.abc import Sequence

from nnunet_ici.evaluation.tables import Cell, Table

__all__ = ["SHORT_TABLE", "data_uri", "element", "escape", "fold", "html_table", "plural", "scrolling"]

# Tables with no more lines than this are kept on one page in print.
SHORT_TABLE = 24
# Elements without an end.
VOID = ("img", "meta", "link", "br")


def escape(text: object) -> str:
    """Text as HTML, in an element or in a quoted attribute."""
    return html.escape(str(text))


def element(name: str, *children: str, **attributes: object) -> str:
    """An element.

    Args:
        name: such as "p".
        children: HTML; texts have to be escaped.
        attributes: their values are escaped here; a last "_" of a name is dropped, other ones become "-", and "true"
            is an attribute alone.

    Example:
        >>> element("p", "5 &lt; 6", class_="note", aria_label='"')
        '<p class="note" aria-label="&quot;">5 &lt; 6</p>'
    """
    start = name
    for attribute, value in attributes.items():
        start += f" {attribute.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
    return f"<{start}>" if name in VOID else f"<{start}>{''.join(children)}</{name}>"


def plural(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> plural(1, "case"), plural(2, "case")
        ('1 case', '2 cases')
    """
    return f"{number} {noun}" + "s" * (number != 1)


def data_uri(content: bytes, kind: str) -> str:
    """A file inside the page: ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def scrolling(content: str, title: str) -> str:
    """Something wide, which scrolls by itself, with the keyboard too."""
    return element("div", content, class_="scroll", role="region", aria_label=title, tabindex=0)


def fold(title: str, *children: str, opened: bool = False, printed: bool = True) -> str:
    """Something long that can be opened and closed; ``printed``: in print it is open, whatever it is on the screen."""
    state = ({"open": True} if opened else {}) | ({"class_": "printed"} if printed else {})
    return element("details", element("summary", escape(title)), *children, **state)


def html_table(table: Table, caption: str) -> str:
    """A table: names are row headers, numbers stand to the right, ranks in brackets, the best bold."""
    head = [
        element("th", escape(title), scope="col", **({"class_": "name"} if at < table.names else {}))
        for at, title in enumerate(table.head)
    ]
    rows = []
    column = _group_column(table)
    before: Sequence[Cell] = ()
    for row in table.rows:
        names = [element("th", escape(cell.text), scope="row", class_="name") for cell in row[: table.names]]
        group = {"class_": "group"} if _parted(column, before, row) else {}
        rows.append(element("tr", *names, *map(_number, row[table.names :]), **group))
        before = row
    content = element(
        "table",
        element("caption", escape(caption)),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        **({"class_": "short"} if len(rows) <= SHORT_TABLE else {}),
    )
    note = element("p", escape(table.note), class_="note") if table.note else ""
    return scrolling(content, caption) + note


def _group_column(table: Table) -> int | None:
    """The column of names that changes least from row to row, such as the model; None where all change always."""
    texts = [[row[at].text for row in table.rows] for at in range(table.names)]
    changes = [sum(one != other for one, other in itertools.pairwise(column)) for column in texts]
    least = min(range(table.names), key=changes.__getitem__)
    return least if changes[least] < len(table.rows) - 1 else None


def _parted(column: int | None, before: Sequence[Cell], row: Sequence[Cell]) -> bool:
    return column is not None and bool(before) and before[column].text != row[column].text


def _number(cell: Cell) -> str:
    text = element("strong", escape(cell.text)) if cell.best else escape(cell.text)
    return element("td", text + ("" if cell.rank is None else element("span", f" ({cell.rank})", class_="rank")))
