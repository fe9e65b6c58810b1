"""Charts of lesions: size of each lesion, recall by size, and FROC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy import stats

from nnunet_ici.command import plural
from nnunet_ici.drawing import lesion_style, model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.evaluation.summary import Row
from nnunet_ici.report.charts import MOST_POINTS, Chart, add_grid, legend_above, make_chart, new_figure, range_title
from nnunet_ici.report.reading import Evaluation

__all__ = ["draw_froc", "draw_recall", "draw_sizes", "lesion_charts", "wilson"]

# With more models than this, there are no bars of false predictions, because they would be too thin.
MOST_BARS = 6
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---")

Groups = Sequence[dict[str, float]]


def lesion_charts(evaluation: Evaluation, of_class: str) -> list[Chart]:
    """Charts of the lesions of one class: sizes, recall by size, and FROC; none without lesions and predictions."""
    models, unit = evaluation.models, evaluation.unit_title
    instances = {model: evaluation.instances_of(model, of_class) for model in models}
    if not any(instances.values()):
        return []
    by_size = evaluation.sizes()
    bars = " Bottom: number of false predictions, by their own size." if len(models) <= MOST_BARS else ""
    charts = [
        make_chart(
            draw_sizes(instances, unit),
            "Size of each lesion, found or missed, and of each false prediction, by model.",
            "Each marker is one lesion or prediction, jittered vertically.",
        ),
        make_chart(
            draw_recall({model: by_size[model, of_class] for model in models}, unit),
            "Share of lesions found, by lesion size and model.",
            "All cases are pooled. Intervals: 95 % (Wilson). Lesions of one patient are not independent, so the true "
            f"intervals are wider.{bars}",
        ),
    ]
    curves = {model: evaluation.froc[model, of_class] for model in models if (model, of_class) in evaluation.froc}
    if curves:
        charts.append(
            make_chart(
                draw_froc(curves, models),
                "FROC: share of lesions found against false predictions per case, at 32 thresholds of the probability.",
                "Models without probabilities have no curve.",
            )
        )
    return charts


def draw_sizes(instances: dict[str, list[Row]], unit: str) -> Figure:
    """Size of each lesion, found or missed, and of each false prediction: one panel per model.

    Args:
        instances: rows of instances.csv for one class, by model.
        unit: unit of the sizes, as shown to readers.
    """
    sizes = [float(row["size"]) for rows in instances.values() for row in rows] or [1.0, 10.0]
    figure = new_figure(0.6 + 1.05 * len(instances))
    axes = figure.subplots(len(instances), 1, sharex=True, squeeze=False)[:, 0]
    random = np.random.default_rng(0)
    for axis, (model, rows) in zip(axes, instances.items(), strict=True):
        names = []
        for height, (kind, side, matched) in enumerate(
            (("found", "label", True), ("missed", "label", False), ("false", "predicted", False))
        ):
            group = [float(row["size"]) for row in rows if row["kind"] == side and bool(row["found"]) == matched]
            jitter = height + random.uniform(-0.32, 0.32, len(group))
            style = lesion_style(kind) | {"rasterized": len(sizes) > MOST_POINTS}
            axis.scatter(group, jitter, s=22, linewidths=0.4, alpha=0.85, **style)
            names.append(f"{kind}: {len(group)}")
        axis.set_yticks(range(3), names)
        axis.set_ylim(2.5, -0.5)
        axis.tick_params(axis="y", length=0)
        axis.set_title(in_figure(model, 60), loc="left", fontsize=10, fontweight="bold")
        for border in (0.5, 1.5):
            axis.axhline(border, color="#bbbbbb", linewidth=0.6)
        add_grid(axis, "x")
    first, last = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    last = max(last, first + 1)
    ticks = [10.0**power for power in range(first, last + 1)]
    shown = ticks[:: 1 + len(ticks) // 6]
    axes[-1].set(xscale="log", xlim=(ticks[0] / 1.26, ticks[-1] * 1.26))
    axes[-1].xaxis.set_major_locator(FixedLocator(shown))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}".replace(",", "\N{THIN SPACE}")))
    axes[-1].xaxis.set_minor_locator(NullLocator())
    axes[-1].set_xlabel(f"size of the lesion or false prediction ({unit})")
    return figure


def wilson(found: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson, 1927); NaN if the total is 0.

    Example:
        >>> [round(edge, 3) for edge in wilson(8, 10)]
        [0.49, 0.943]
    """
    if not total:
        return math.nan, math.nan
    interval = stats.binomtest(found, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def draw_recall(sizes: Mapping[str, Groups], unit: str) -> Figure:
    """Share of lesions found by lesion size, with 95 % confidence intervals.

    For few models, a second panel shows the number of false predictions by their own size.

    Args:
        sizes: result of :func:`~nnunet_ici.evaluation.detection.by_size` for one class, by model.
        unit: unit of the sizes, as shown to readers.
    """
    with_bars = len(sizes) <= MOST_BARS
    figure = new_figure(4.6 if with_bars else 3.2)
    axes = figure.subplots(1 + with_bars, 1, squeeze=False, height_ratios=(3, 2) if with_bars else None)[:, 0]
    step = 0.7 / len(sizes)
    for number, (model, groups) in enumerate(sizes.items()):
        at = np.arange(len(groups)) + (number - (len(sizes) - 1) / 2) * step
        recall = np.array([group["recall"] for group in groups])
        limits = np.array([wilson(int(group["found"]), int(group["label"])) for group in groups])
        errors = np.clip(np.abs(limits.T - recall), 0, None)
        style = model_style(number) | {"linestyle": "none"}
        axes[0].errorbar(at, recall, errors, capsize=3, label=in_figure(model, 46), clip_on=False, **style)
        if with_bars:
            false = [int(group["false"]) for group in groups]
            bars = axes[1].bar(
                at, false, step * 0.9, color=style["color"], hatch=HATCHES[number], edgecolor="white", linewidth=0
            )
            axes[1].bar_label(bars, fontsize=8, padding=1)
    ranges = [range_title(group).replace("to ", "to\n").replace("and ", "and\n") for group in groups]
    counts = [plural(int(group["label"]), "lesion") for group in groups]
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("lesions found (recall)")
    _ranges_axis(axes[0], [f"{one}\n{count}" for one, count in zip(ranges, counts, strict=True)])
    axes[0].set_xlabel(f"size of the lesion ({unit})")
    legend_above(figure, *axes[0].get_legend_handles_labels())
    if with_bars:
        axes[1].set_ylabel("false predictions")
        axes[1].yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes[1].margins(y=0.15)
        axes[1].set_ylim(0, max(axes[1].get_ylim()[1], 1))
        _ranges_axis(axes[1], ranges)
        axes[1].set_xlabel(f"size of the prediction ({unit})")
    return figure


def _ranges_axis(axis: Axes, titles: Sequence[str]) -> None:
    axis.set_xticks(range(len(titles)), titles, fontsize=8.5)
    axis.set_xlim(-0.5, len(titles) - 0.5)
    axis.tick_params(axis="x", length=0)
    for before in range(len(titles) - 1):
        axis.axvline(before + 0.5, color="#cccccc", linewidth=0.6)
    add_grid(axis, "y")


def draw_froc(curves: dict[str, dict[str, list[float]]], models: Sequence[str]) -> Figure:
    """FROC: share of lesions found against false predictions per case.

    Args:
        curves: result of :func:`~nnunet_ici.evaluation.average_precision.threshold_curve` for one class, by model.
        models: names of all models, so that each model keeps its color.
    """
    figure = new_figure(3.6)
    axis = figure.subplots()
    for model, curve in curves.items():
        style = model_style(models.index(model)) | {"markersize": 5, "linewidth": 1.4}
        every = max(1, len(curve["sensitivity"]) // 12)
        label = in_figure(model, 46)
        axis.step(curve["false_per_case"], curve["sensitivity"], where="post", markevery=every, label=label, **style)
    most = max(8.0, *(max(curve["false_per_case"]) for curve in curves.values()))
    ticks = [0.0, *(2.0**power for power in range(-3, math.ceil(math.log2(most)) + 1))]
    # a logarithmic scale that is defined at 0
    axis.set_xscale(
        "function", functions=(lambda x: np.log2(1 + 8 * np.asarray(x)), lambda y: (2 ** np.asarray(y) - 1) / 8)
    )
    axis.set(xlim=(-0.02, ticks[-1]), ylim=(-0.02, 1.02))
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    fractions = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fractions.get(value, f"{value:g}")))
    axis.xaxis.set_minor_locator(NullLocator())
    add_grid(axis)
    axis.set_xlabel("false predictions per case")
    axis.set_ylabel("lesions found (sensitivity)")
    legend_above(figure, *axis.get_legend_handles_labels())
    return figure
