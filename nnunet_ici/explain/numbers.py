"""The numbers as tables to print, and as a dictionary to write to a JSON file."""

from __future__ import annotations

from typing import Any

from nnunet_ici.evaluation.formats import to_text
from nnunet_ici.evaluation.tables import Cell, Table
from nnunet_ici.explain.shares import LOSSES, TERMS, Explained, Side

__all__ = ["as_json", "as_table"]

MOST_NAMES = 6  # names of touched instances per line of the table


def as_json(explained: Explained) -> dict[str, Any]:
    """The terms, the losses without their global loss, and the instances with touched instances and shares."""
    return {
        "terms": explained.terms,
        "losses": {loss: explained.value_of(loss) for loss in LOSSES},
        "label_instances": _instances(explained.label, explained.predicted),
        "predicted_instances": _instances(explained.predicted, explained.label),
    }


def _instances(side: Side, other: Side) -> list[dict[str, Any]]:
    return [
        {
            "id": side.name(number),
            "voxels": size,
            "touches": [other.name(other_id) for other_id in touched],
            "shares": {term: float(shares[number - 1]) for term, shares in side.shares.items()},
        }
        for number, (size, touched) in enumerate(zip(side.size.tolist(), side.touched, strict=True), start=1)
    ]


def as_table(explained: Explained) -> str:
    """Two tables with aligned columns: terms and losses, and one line per instance."""
    numbers = as_json(explained)
    values = {("Dice loss" if term == "dice" else term): value for term, value in explained.terms.items()}
    values |= {f"{loss}: {' + '.join(terms)}": explained.value_of(loss) for loss, terms in LOSSES.items() if terms[1:]}
    lines = []
    for one in (*numbers["label_instances"], *numbers["predicted_instances"]):
        more = len(one["touches"]) - MOST_NAMES
        names = " ".join(one["touches"][:MOST_NAMES] + [f"and {more} more"] * (more > 0)) or "none"
        shares = [f"{one['shares'][term]:.5f}" if term in one["shares"] else "" for term in TERMS]
        lines.append([one["id"], str(one["voxels"]), names, *shares])
    heads = ["term", "value"], ["id", "voxels", "touches", *TERMS]
    tables = [[term, f"{value:.5f}"] for term, value in values.items()], lines
    return "\n".join(
        to_text(Table("", "", 1, head, [[Cell(text) for text in line] for line in table]))
        for head, table in zip(heads, tables, strict=True)
    )
