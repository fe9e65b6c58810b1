"""The numbers as tables to print, and as what a JSON file holds."""

from __future__ import annotations

from typing import Any

from nnunet_ici.explain.shares import LOSSES, Explained, Side

__all__ = ["as_json", "as_table"]

SHARED_TERMS = ("instance", "predicted", "center", "lesionwise", "pq", "blob")
MOST_NAMES = 6  # of touched instances in a line of the table


def as_table(explained: Explained) -> str:
    """Two Markdown tables: the terms and losses, and a line for each instance."""
    lines = ["| term | value |", "|---|---:|"]
    lines += [f"| {'Dice loss' if term == 'dice' else term} | {value:.5f} |" for term, value in explained.terms.items()]
    lines += [
        f"| {loss}: {' + '.join(terms)} | {explained.value_of(loss):.5f} |"
        for loss, terms in LOSSES.items()
        if len(terms) > 1
    ]
    lines += [
        "",
        f"| id | voxels | touches | {' | '.join(SHARED_TERMS)} |",
        "|---|---:|---|" + "---:|" * len(SHARED_TERMS),
    ]
    for side, other in ((explained.label, explained.predicted), (explained.predicted, explained.label)):
        for number, size, touched in _rows(side):
            names = [other.name(one) for one in touched[:MOST_NAMES]]
            more = [f"and {len(touched) - MOST_NAMES} more"] if len(touched) > MOST_NAMES else []
            shares = [f"{side.shares[term][number - 1]:.5f}" if term in side.shares else "" for term in SHARED_TERMS]
            cells = [side.name(number), str(size), " ".join([*names, *more]) or "none", *shares]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_json(explained: Explained) -> dict[str, Any]:
    """The terms, the losses without their global loss, and the instances with all they touch and their shares."""
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
            "touches": [other.name(one) for one in touched],
            "shares": {term: float(shares[number - 1]) for term, shares in side.shares.items()},
        }
        for number, size, touched in _rows(side)
    ]


def _rows(side: Side) -> list[tuple[int, int, list[int]]]:
    """Id, size and what it touches, for each instance."""
    return list(zip(range(1, len(side) + 1), side.size.tolist(), side.touched, strict=True))
