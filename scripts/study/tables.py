"""The tables of docs/results.md, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from scripts.study.bootstrap import Difference, difference
from scripts.study.run_measures import AT_HALF, Measure, measures_at
from scripts.study.sets import BASELINE
from scripts.study.stored_runs import Run

Runs = dict[str, list[Run]]

# Rachmadi et al., MIDL 2023: gains in Dice (percentage points) of ICI over two other losses.
CLAIMS = (
    ("ICI over Dice", "nnUNetTrainerICI", BASELINE, "+1.7 to +3.7"),
    ("ICI over blob loss", "nnUNetTrainerICI", "nnUNetTrainerBlob", "+0.6 to +5.0"),
)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. All columns except the first contain numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def value_table(runs: Runs, measures: Sequence[Measure], thresholds: bool = False) -> str:
    """A row for each trainer: the mean over its seeds, with the lowest and the highest value in brackets."""
    head = ["trainer", "seeds", *(measure.title for measure in measures), *(["thresholds"] if thresholds else [])]
    rows = []
    for trainer, group in runs.items():
        cells = [f"`{trainer}`", str(len(group))]
        cells += [_spread([measure.value(run) for run in group], measure.digits) for measure in measures]
        if thresholds:
            cells.append(", ".join(f"{run['best_threshold']:g}" for run in group))
        rows.append(cells)
    return markdown(head, rows)


def _spread(values: Sequence[float], digits: int) -> str:
    if not np.isfinite(values).all():
        return "-"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def paired(group: list[Run], reference: list[Run]) -> list[tuple[Run, Run]]:
    """Pairs of runs with the same seed."""
    by_seed = {run["seed"]: run for run in reference}
    return [(run, by_seed[run["seed"]]) for run in group if run["seed"] in by_seed]


def compare_runs(pairs: Sequence[tuple[Run, Run]], measure: Measure) -> Difference:
    """The difference between two trainers in a measure, over seeds and cases."""
    statistics = [
        (lambda weights, run=ours: measure.of(run, weights), lambda weights, run=theirs: measure.of(run, weights))
        for ours, theirs in pairs
    ]
    return difference(statistics, len(pairs[0][0]["test_cases"]["case"]))


def difference_table(runs: Runs, measures: Sequence[Measure]) -> str:
    """A row for each trainer except the baseline, with its difference from the baseline in each measure."""
    rows = []
    for trainer, group in runs.items():
        pairs = paired(group, runs[BASELINE])
        if trainer != BASELINE and pairs:
            cells = [_difference(compare_runs(pairs, measure), measure.digits) for measure in measures]
            rows.append([f"`{trainer}`", str(len(pairs)), *cells])
    return markdown(["trainer", "pairs", *(measure.title for measure in measures)], rows)


def _difference(result: Difference, digits: int) -> str:
    if not np.isfinite(result.mean):
        return "-"
    text = f"{result.mean:+.{digits}f} "
    if np.isfinite(result.low):
        text += f"({result.low:+.{digits}f} to {result.high:+.{digits}f}) "
    text += f"{result.up}+ {result.down}-"
    return f"**{text}**" if result.clear else text


def claims_table(runs: Runs) -> str:
    """The gains claimed in the paper and the gains found here, in percentage points of Dice at 0.5."""
    dice = measures_at(AT_HALF)[0]
    rows = []
    for name, ours, theirs, claim in CLAIMS:
        gains = [100 * (dice.value(a) - dice.value(b)) for a, b in paired(runs.get(ours, []), runs.get(theirs, []))]
        found = ", ".join(f"{gain:+.1f}" for gain in gains) + " (by seed)" if gains else "not run"
        rows.append([name, claim, found])
    return markdown(["", "paper", "here"], rows)
