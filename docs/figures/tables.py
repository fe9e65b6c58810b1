"""Write the tables in docs/*.md that are generated from the code or from measurements, between their markers.

    python docs/figures/tables.py            # rewrites the pages
    python docs/figures/tables.py --check    # names the pages with outdated tables; exit code 1 if there are any

A table is between ``<!-- table: NAME, made by docs/figures/tables.py -->`` and ``<!-- end of table -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import benchmarks  # the files next to this one
import losses as figure

from nnunet_ici.evaluation.families import FAMILIES, IN_VOXELS, METRICS
from nnunet_ici.settings import COMMON_DEFAULTS, LOSSES, OPTIONS
from nnunet_ici.trainers.names import options_of

sys.path.append(str(Path(__file__).resolve().parents[2]))
from scripts.benchmarks.goals import table as goals_table

DOCS = Path(__file__).resolve().parents[1]


def trainers() -> str:
    """All trainers with their loss, their weights, and their options, except options that every trainer has."""
    lines = ["| Trainer | Loss | Weights | Options |", "|---|---|---|---|"]
    for name, loss in LOSSES.items():
        weights = ", ".join(
            f"{attribute.removesuffix('_weight')} {value:g}" for attribute, value in loss.weights.items()
        )
        options = " ".join(
            f"`{OPTIONS[key].shown}`"
            for key in options_of(name)
            if OPTIONS[key].attribute not in ("", *COMMON_DEFAULTS)
        )
        lines.append(f"| `{name}` | {loss.summary} | {weights} | {options} |")
    return "\n".join(lines)


def options() -> str:
    """All options in the names of trainers, in the order of the name."""
    lines = ["| Option | Class attribute | Meaning |", "|---|---|---|"]
    for option in OPTIONS.values():
        attribute = f"`{option.attribute}`" if option.attribute else ""
        lines.append(f"| `_{option.shown}` | {attribute} | {option.meaning} |")
    return "\n".join(lines)


def shares() -> str:
    """The shares of the gradient of each loss in the scene of losses.py."""
    return figure.table(figure.pulls())


def metrics() -> str:
    """All metrics: the column in cases.csv, the title in the tables, the better direction, and the families."""
    lines = ["| Column of `cases.csv` | In the tables | Better | Families |", "|---|---|---|---|"]
    for metric in METRICS.values():
        needs = " (needs probabilities)" if metric.needs_probability else ""
        replaced = {name for name, in_voxels in IN_VOXELS.items() if in_voxels == metric.name}
        families = ", ".join(f"`{family}`" for family, names in FAMILIES.items() if {metric.name, *replaced} & {*names})
        lines.append(f"| `{metric.name}` | {metric.title}{needs} | {metric.better or 'neither'} | {families} |")
    return "\n".join(lines)


def goals() -> str:
    """The goals of the benchmarks, and the measurements."""
    return goals_table(benchmarks.RESULTS)


FROM_CODE = (trainers, options, shares, metrics, goals)
FROM_BENCHMARKS = (
    benchmarks.costs,
    benchmarks.losses,
    benchmarks.published,
    benchmarks.instances,
    benchmarks.sizes,
    benchmarks.labeling,
)
TABLES = {table.__name__: table for table in (*FROM_CODE, *FROM_BENCHMARKS)}
MARKED = re.compile(r"(<!-- table: (\w+), made by docs/figures/tables\.py -->\n).*?(<!-- end of table -->)", re.DOTALL)


def filled(text: str) -> str:
    """The text of a page with updated tables.

    Raises:
        KeyError: if the page contains a table that this script does not know.
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
    print(*(f"{name}: tables updated" for name in stale), sep="\n", end="\n" * bool(stale))
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
