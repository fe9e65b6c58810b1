"""The numbers as tables to print, and as a dictionary to write to a JSON file."""

from __future__ import annotations

from typing import Any

from nnunet_ici.evaluation.formats import to_text
from nnunet_ici.evaluation.tables import Cell, Table
from nnunet_ici.explain.shares import LOSSES, TERMS, Explained, Side

__all__ = ["as_json", "as_table"]

MOST_NAMES = 6  # names of touched instances per line of the table


def as_table(explained: Explained) -> str:
    """Two tables with aligned columns: terms and losses, and one line per instance."""
    values = {("Dice loss" if term == "dice" else term): value for term, value in explained.terms.items()}
    values |= {f"{loss}: {' + '.join(terms)}": explained.value_of(loss) for loss, terms in LOSSES.items() if terms[1:]}
    terms = [[Cell(term), Cell(f"{value:.5f}")] for term, value in values.items()]
    instances = []
    for side, other in ((explained.label, explained.predicted), (explained.predicted, explained.label)):
        for number, size, touched in _rows(side):
            names = [other.name(other_id) for other_id in touched[:MOST_NAMES]]
            more = [f"and {len(touched) - MOST_NAMES} more"] if len(touched) > MOST_NAMES else []
            shares = [f"{side.shares[term][number - 1]:.5f}" if term in side.shares else "" for term in TERMS]
            cells = [side.name(number), str(size), " ".join([*names, *more]) or "none", *shares]
            instances.append([Cell(text) for text in cells])
    head = ["id", "voxels", "touches", *TERMS]
    tables = Table("terms", "", 1, ["term", "value"], terms), Table("instances", "", 1, head, instances)
    return "\n".join(map(to_text, tables))


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
        for number, size, touched in _rows(side)
    ]


def _rows(side: Side) -> list[tuple[int, int, list[int]]]:
    """Id, size and touched ids of each instance."""
    return list(zip(range(1, len(side) + 1), side.size.tolist(), side.touched, strict=True))
