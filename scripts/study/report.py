"""docs/RESULTS.md and its figures from the stored runs of the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ici.evaluation.comparison import compare
from scripts.study.runs import EARLIER, Run, read_runs
from scripts.study.sets import BASELINE, DATA

COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Title, value of a run from its columns of test cases, decimals, and which way is better.
Measure = tuple[str, Callable[[dict[str, np.ndarray]], float], int, int]
MEASURES: tuple[Measure, ...] = (
    ("Dice", lambda c: float(c["dice"].mean()), 3, 1),
    ("F1", lambda c: float(c["f1"].mean()), 3, 1),
    ("F1 at IoU 0.5", lambda c: float(c["f1_iou50"].mean()), 3, 1),
    ("recall, smallest third", lambda c: float(c["small_found"].sum() / max(c["small"].sum(), 1)), 3, 1),
    ("missed a case", lambda c: float((c["lesions"] - c["found"]).mean()), 2, -1),
    ("false a case", lambda c: float(c["false"].mean()), 2, -1),
    ("merged a case", lambda c: float(c["merged"].mean()), 2, -1),
)
PAIRED = (
    ("Dice", lambda c: c["dice"]),
    ("F1", lambda c: c["f1"]),
    ("F1 at IoU 0.5", lambda c: c["f1_iou50"]),
    ("missed a case", lambda c: c["lesions"] - c["found"]),
    ("false a case", lambda c: c["false"]),
)
# Rachmadi et al., MIDL 2023: gains in Dice (percentage points) of ICI over two others.
CLAIMS = (
    ("ICI over Dice", "nnUNetTrainerICI", BASELINE, "+1.7 to +3.7"),
    ("ICI over blob loss", "nnUNetTrainerICI", "nnUNetTrainerBlob", "+0.6 to +5.0"),
)


def write_report(results: Path, docs: Path) -> None:
    """Write docs/RESULTS.md and docs/results_DATA.png for each data set that has runs."""
    parts = [(results / "introduction.md").read_text()]
    for data, title in ((name, data.title) for name, data in DATA.items()):
        runs = dict(sorted(read_runs(results / data / EARLIER).items(), key=lambda item: item[0] != BASELINE))
        if runs:
            draw(runs, title, docs / f"results_{data}.png")
            notes = results / data / "notes.md"
            parts.append(section(data, title, runs, notes.read_text() if notes.is_file() else ""))
    (docs / "RESULTS.md").write_text("\n".join(parts))


def section(data: str, title: str, runs: dict[str, list[Run]], notes: str) -> str:
    """The part of one data set."""
    first = next(iter(runs.values()))[0]
    plan = first["plan"]
    seeds = sorted({run["seed"] for group in runs.values() for run in group})
    lines = [
        f"## {title}",
        "",
        notes.strip(),
        "",
        f"{first['epochs']} epochs of {first['iterations']} iterations, configuration {plan['configuration']}, patch "
        f"{' x '.join(map(str, plan['patch_size']))}, features {'-'.join(map(str, plan['features']))}, batch "
        f"{plan['batch_size']}; {len(first['test_cases']['case'])} test cases, "
        f"{sum(first['test_cases']['at_half']['lesions'])} lesions, the smallest third up to "
        f"{first['small_voxels']:g} voxels; seeds {', '.join(map(str, seeds))}; {first['device']}, "
        f"{first['machine']}. Mean over the seeds, in brackets the lowest and the highest.",
        "",
        "At probability 0.5:",
        "",
        _table(runs, "at_half"),
        "At each run's best threshold, chosen on its validation cases by the mean of Dice and F1:",
        "",
        _table(runs, "at_best"),
        _equal_false(runs),
        _differences(runs),
        _claims(runs),
        f"![F1, false and missed lesions](results_{data}.png)",
        "",
    ]
    return "\n".join(lines)


def _columns(run: Run, at: str) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=float) for name, values in run["test_cases"][at].items()}


def _table(runs: dict[str, list[Run]], at: str) -> str:
    """A line a trainer, the best value of each column in bold."""
    half = at == "at_half"
    last = ["PR-AUC", "s an epoch"] if half else ["thresholds"]
    head = ["trainer", "seeds", *(title for title, *_ in MEASURES), *last]
    values = {
        trainer: [[measure(_columns(run, at)) for run in group] for _, measure, _, _ in MEASURES]
        for trainer, group in runs.items()
    }
    best = [
        max(values, key=lambda trainer: sign * round(float(np.mean(values[trainer][column])), digits))
        for column, (_, _, digits, sign) in enumerate(MEASURES)
    ]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for trainer, group in runs.items():
        cells = [f"`{trainer}`", str(len(group))]
        for column, (_, _, digits, _) in enumerate(MEASURES):
            text = _spread(values[trainer][column], digits)
            mean, _, rest = text.partition(" ")
            cells.append(f"**{mean}** {rest}" if best[column] == trainer and len(runs) > 1 else text)
        if half:
            curves = [np.nanmean([np.nan if v is None else v for v in run["test_cases"]["pr_auc"]]) for run in group]
            cells += [_spread(curves, 3), _spread([run["epoch_seconds"] for run in group], 1)]
        else:
            cells.append(", ".join(f"{run['best_threshold']:g}" for run in group))
        rows.append(cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _spread(values: list[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _shared(group: list[Run], reference: list[Run]) -> list[tuple[Run, Run]]:
    """The runs of equal seeds."""
    by_seed = {run["seed"]: run for run in reference}
    return [(run, by_seed[run["seed"]]) for run in group if run["seed"] in by_seed]


def _differences(runs: dict[str, list[Run]]) -> str:
    """Paired differences to the baseline: the mean over seeds, an interval over cases, and how many seeds agree."""
    if BASELINE not in runs or len(runs) < 2:
        return ""
    head = ["trainer", "threshold", *(title for title, _ in PAIRED)]
    rows = [head, ["---", "---", *["---:"] * len(PAIRED)]]
    for trainer, group in runs.items():
        if trainer == BASELINE:
            continue
        pairs = _shared(group, runs[BASELINE])
        for at, name in (("at_half", "0.5"), ("at_best", "best")):
            cells = [f"`{trainer}`", name]
            for _, of_cases in PAIRED:
                ours = [of_cases(_columns(run, at)) for run, _ in pairs]
                theirs = [of_cases(_columns(run, at)) for _, run in pairs]
                result = compare(np.mean(ours, axis=0).tolist(), np.mean(theirs, axis=0).tolist())
                up = sum(float(np.mean(a)) > float(np.mean(b)) for a, b in zip(ours, theirs, strict=True))
                text = f"{result.difference:+.3f} ({result.low:+.3f} to {result.high:+.3f}; {up}/{len(pairs)})"
                cells.append(f"**{text}**" if result.low > 0 or result.high < 0 else text)
            rows.append(cells)
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return (
        "Differences to `nnUNetTrainer`, paired by seed and case: mean, 95 % interval over resampled cases (bold where "
        f"it leaves 0 out), and the share of seeds that are higher:\n\n{table}"
    )


def recall_within(run: Run, false: int) -> float:
    """The highest recall over the thresholds with at most so many false lesions in all test cases; NaN without any."""
    curve = run["curves"]["test"]
    within = [found for found, at in zip(curve["found"], curve["false"], strict=True) if at <= false]
    return max(within) / curve["lesions"][0] if within else float("nan")


def _equal_false(runs: dict[str, list[Run]]) -> str:
    """Recall where no more false lesions are allowed than the baseline of the same seed has."""
    if BASELINE not in runs or len(runs) < 2:
        return ""
    rows = [["trainer", "recall, a seed each"], ["---", "---:"]]
    for trainer, group in runs.items():
        pairs = _shared(group, runs[BASELINE])
        allowed = [base["curves"]["test"]["false"][base["thresholds"].index(0.5)] for _, base in pairs]
        values = [recall_within(run, false) for (run, _), false in zip(pairs, allowed, strict=True)]
        cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
        rows.append([f"`{trainer}`", ", ".join(cells)])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return (
        "At no more false lesions than `nnUNetTrainer` of the same seed has at 0.5, the threshold chosen for that on "
        f"the test cases (a point of the curve, no operating point):\n\n{table}"
    )


def _claims(runs: dict[str, list[Run]]) -> str:
    """The paper's claims, in points of Dice, beside what was found."""
    lines = []
    for name, ours, theirs, claim in CLAIMS:
        found = "not run"
        if ours in runs and theirs in runs:
            pairs = _shared(runs[ours], runs[theirs])
            gains = [
                100 * float((_columns(a, "at_half")["dice"] - _columns(b, "at_half")["dice"]).mean()) for a, b in pairs
            ]
            found = ", ".join(f"{gain:+.1f}" for gain in gains) + " (a seed each)"
        lines.append(f"| {name} | {claim} | {found} |\n")
    head = "| | paper | here |\n| --- | --- | --- |\n"
    return f"Claims of the paper (ATLAS R2.0 in 3D, other networks), in points of Dice:\n\n{head}{''.join(lines)}"


def draw(runs: dict[str, list[Run]], title: str, path: Path) -> None:
    """F1 over the threshold (a line a seed), and missed against false lesions at 0.5 (a marker a seed)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for at, (trainer, group) in enumerate(runs.items()):
        style: dict[str, Any] = {"color": COLORS[at % len(COLORS)], "marker": MARKERS[at % len(MARKERS)]}
        for number, run in enumerate(group):
            label = trainer if number == 0 else None
            f1 = run["curves"]["test"]["f1"]
            left.plot(run["thresholds"], f1, alpha=0.8, linewidth=1.2, markersize=4, label=label, **style)
            columns = _columns(run, "at_half")
            missed = (columns["lesions"] - columns["found"]).mean()
            right.scatter(columns["false"].mean(), missed, s=40, label=label, **style)
    left.set(xlabel="threshold of the probability", ylabel="lesion-wise F1, mean over test cases", title=title)
    right.set(xlabel="false lesions a case, at 0.5", ylabel="missed lesions a case, at 0.5")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
