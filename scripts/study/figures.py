"""Draw the figures of docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnunet_ici.drawing.palette import model_style
from scripts.study.free_response import rates_reached
from scripts.study.run_measures import AT_BEST, Measure, curve, mean_free_response, measures_at, pr_auc
from scripts.study.sets import BASELINE
from scripts.study.tables import Runs, compare_runs, paired

DPI = 110


def overview_measures(runs: Runs) -> tuple[Measure, ...]:
    """The four measures of the overview: two without a threshold, and two at the chosen threshold."""
    rates = rates_reached([curve(run)[0] for group in runs.values() for run in group])
    dice, f1, *_ = measures_at(AT_BEST)
    return mean_free_response(rates), pr_auc, f1, dice


def draw_overview(parts: Sequence[tuple[str, Runs]], path: Path) -> None:
    """Draw the difference of every trainer from the baseline on every dataset, with the best trainer at the top.

    Args:
        parts: title and runs of each dataset, including the baseline.
        path: path of the PNG.
    """
    heights = [max(len(runs) - 1, 1) for _, runs in parts]
    figure = Figure(figsize=(12, 1.2 + sum(0.34 * height + 0.75 for height in heights)), layout="constrained")
    axes = figure.subplots(len(parts), 4, squeeze=False, height_ratios=[height + 1 for height in heights])
    for line, (title, runs) in zip(axes, parts, strict=True):
        pairs = {trainer: paired(runs[trainer], runs[BASELINE]) for trainer in runs if trainer != BASELINE}
        measures = overview_measures(runs)
        results = {
            trainer: [compare_runs(both, measure) for measure in measures] for trainer, both in pairs.items() if both
        }
        best_first = sorted(results, key=lambda trainer: -results[trainer][0].mean)
        for column, (axis, measure) in enumerate(zip(line, measures, strict=True)):
            for at, trainer in enumerate(best_first):
                result = results[trainer][column]
                color = "#0072B2" if result.clear and result.mean > 0 else "#D55E00" if result.clear else "#777777"
                axis.plot([result.low, result.high], [at, at], color=color, linewidth=2)
                axis.plot(result.by_seed, [at + 0.2] * len(result.by_seed), "|", color=color, markersize=7)
                axis.plot(result.mean, at, "o", color=color, markersize=6)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set(yticks=range(len(results)), ylim=(len(results) - 0.4, -0.6))
            axis.set_title(f"{title}\n{measure.title}" if column == 0 else measure.title, fontsize=10, loc="left")
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(axis="x", alpha=0.3)
            names = [f"{trainer.removeprefix(BASELINE)} ({len(pairs[trainer])})" for trainer in best_first]
            axis.set_yticklabels(names if column == 0 else [])
    figure.suptitle("Difference from nnU-Net's own loss; F1 and Dice at the threshold chosen on the validation cases")
    figure.savefig(path, dpi=DPI)


def draw_curves(runs: Runs, title: str, path: Path) -> None:
    """Draw the free-response curve, and F1 versus threshold, with a line for each run and a style for each trainer."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (trainer, group) in enumerate(runs.items()):
        for run in group:
            style = {**model_style(number), "alpha": 0.75, "linewidth": 1.1, "markersize": 3}
            label = trainer if run is group[0] else None
            false, recall = curve(run)
            left.plot(np.maximum(false, 1 / 16), recall, label=label, **style)
            right.plot(run["thresholds"], run["curves"]["test"]["f1"], label=label, **style)
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set(xlabel="false lesions per case", ylabel="share of lesions found", title=title)
    right.set(xlabel="probability threshold", ylabel="lesion-wise F1, mean over test cases")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=DPI)
