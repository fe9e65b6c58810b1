"""Write the tables of docs/*.md that follow from the code or from measurements, between their marks.

    python docs/figures/tables.py            # rewrites the pages
    python docs/figures/tables.py --check    # names the tables that are stale, exit code 1

A table stands between ``<!-- table: NAME, made by docs/figures/tables.py -->`` and ``<!-- end of table -->``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import losses as figure  # the file beside this one

from nnunet_ici.evaluation.families import FAMILIES
from nnunet_ici.settings import EVERYWHERE, LOSSES, OPTIONS
from nnunet_ici.trainers.names import options_of

DOCS = Path(__file__).resolve().parents[1]
TIMES = DOCS.parent / "scripts" / "benchmarks" / "results" / "losses_cpu.json"
STAGES = ("noise", "half-trained", "converged")
# What was timed of each trainer's loss, and what its global loss adds to that: 1 for Dice + CE, 0.5 for Dice alone.
TIMED = {
    "nnUNetTrainerICI": ("ICI", 0.0),
    "nnUNetTrainerDICI": ("DICI", 0.0),
    "nnUNetTrainerDual": ("Dual", 0.0),
    "nnUNetTrainerLesionWise": ("LesionWise term", 1.0),
    "nnUNetTrainerPQ": ("PQ term", 1.0),
    "nnUNetTrainerBlob": ("blob term", 1.0),
    "nnUNetTrainerCCDiceCE": ("CC-DiceCE term", 1.0),
    "nnUNetTrainerCATMIL": ("CATMIL terms", 1.0),
    "nnUNetTrainerRRW": ("region-wise", 0.0),
    "nnUNetTrainerBoundary": ("boundary term", 1.0),
    "nnUNetTrainerDBCE": ("dilated balanced CE", 0.0),
    "nnUNetTrainerDiceDBCE": ("dilated balanced CE", 0.5),
    "nnUNetTrainerIW": ("inverse weighting", 0.0),
}


def trainers() -> str:
    """Every trainer: its loss, its weights, and the options of its name besides those that all have."""
    lines = ["| Trainer | Loss | Weights | Options |", "|---|---|---|---|"]
    for name, loss in LOSSES.items():
        weights = ", ".join(
            f"{attribute.removesuffix('_weight')} {value:g}" for attribute, value in loss.weights.items()
        )
        options = " ".join(f"`{OPTIONS[key].shown}`" for key in options_of(name) if key not in EVERYWHERE)
        lines.append(f"| `{name}` | {loss.summary} | {weights} | {options} |")
    return "\n".join(lines)


def options() -> str:
    """Every option of a trainer's name, in the order in which they are written."""
    lines = ["| Option | Class attribute | Meaning |", "|---|---|---|"]
    for option in OPTIONS.values():
        attribute = f"`{option.attribute}`" if option.attribute else ""
        lines.append(f"| `_{option.shown}` | {attribute} | {option.meaning} |")
    return "\n".join(lines)


def costs() -> str:
    """Forward and backward of each trainer's loss relative to nnU-Net's Dice + CE, from the stored benchmark."""
    results = json.loads(TIMES.read_text())["results"]
    lines = [f"| Trainer | {' | '.join(STAGES)} |", "|---|---:|---:|---:|"]
    for trainer, (name, added) in TIMED.items():
        cells = [
            f"{results[stage][name]['ratio'] + added:.1f}" if name in results[stage] else "not measured"
            for stage in STAGES
        ]
        lines.append(f"| `{trainer}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def shares() -> str:
    """What each loss pulls up and pushes down in the scene of losses.py."""
    return figure.table(figure.pulls())


def metrics() -> str:
    """Every metric of every family: its column in cases.csv and in the tables, and which way is better."""
    lines = ["| Column of `cases.csv` | In the tables | Better |", "|---|---|---|"]
    for family in FAMILIES.values():
        for metric in family:
            needs = " (needs probabilities)" if metric.needs_probability else ""
            lines.append(f"| `{metric.name}` | {metric.title}{needs} | {metric.better or 'neither'} |")
    return "\n".join(lines)


TABLES = {"trainers": trainers, "options": options, "costs": costs, "shares": shares, "metrics": metrics}
MARKED = re.compile(r"(<!-- table: (\w+), made by docs/figures/tables\.py -->\n).*?(<!-- end of table -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with its tables made anew.

    Raises:
        KeyError: for the name of a table that is not made here.
    """
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


def main() -> int:
    stale = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if new == text:
            continue
        stale.append(page.name)
        if "--check" not in sys.argv[1:]:
            page.write_text(new, encoding="utf-8")
    print(*(f"{name}: tables made anew" for name in stale), sep="\n", end="\n" * bool(stale))
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
