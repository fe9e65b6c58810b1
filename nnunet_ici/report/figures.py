"""Figures of an evaluation: size of each lesion, recall by size, and FROC."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy import stats

from nnunet_ici.command import plural
from nnunet_ici.drawing import lesion_style, model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.evaluation.summary import Row

__all__ = ["draw_froc", "draw_recall", "draw_sizes", "legend_above", "range_title", "wilson"]

WIDTH_INCHES = 10.0
# More points than this are rasterized, because the SVG would be too large otherwise.
MOST_POINTS = 1500
# With more models than this, there are no bars of false predictions, because they would be too thin.
MOST_BARS = 6
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---")

Groups = Sequence[dict[str, float]]


def draw_sizes(instances: dict[str, list[Row]], unit: str) -> Figure:
    """Size of each lesion, found or missed, and of each false prediction: one panel per model.

    Args:
        instances: rows of instances.csv for one class, by model.
        unit: unit of the sizes, as shown to readers.
    """
    all_sizes = [float(row["size"]) for rows in instances.values() for row in rows]
    count = sum(map(len, instances.values()))
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + 1.35 * len(instances)), layout="constrained")
    axes = figure.subplots(len(instances), 1, sharex=True, squeeze=False)[:, 0]
    random = np.random.default_rng(0)
    for axis, (model, rows) in zip(axes, instances.items(), strict=True):
        groups = (
            ("found", [row for row in rows if row["kind"] == "label" and row["found"]]),
            ("missed", [row for row in rows if row["kind"] == "label" and not row["found"]]),
            ("false", [row for row in rows if row["kind"] == "predicted" and not row["found"]]),
        )
        for height, (kind, group) in enumerate(groups):
            axis.scatter(
                [float(row["size"]) for row in group],
                height + random.uniform(-0.32, 0.32, len(group)),
                s=22,
                linewidths=0.4,
                alpha=0.85,
                rasterized=count > MOST_POINTS,
                **lesion_style(kind),
            )
        axis.set_yticks(range(3), [f"{kind}: {len(group)}" for kind, group in groups])
        axis.set_ylim(2.5, -0.5)
        axis.tick_params(axis="y", length=0)
        axis.set_title(in_figure(model, 100), loc="left", fontsize=10, fontweight="bold")
        for border in (0.5, 1.5):
            axis.axhline(border, color="#bbbbbb", linewidth=0.6)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    _size_axis(axes[-1], all_sizes)
    axes[-1].set_xlabel(f"size of the lesion or false prediction ({unit})")
    return figure


def _size_axis(axis: Axes, sizes: Sequence[float]) -> None:
    """Make an axis logarithmic, with limits and ticks at powers of ten around the sizes."""
    low, high = (min(sizes), max(sizes)) if sizes else (1.0, 10.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    axis.set_xscale("log")
    axis.set_xlim(10 ** (first - 0.1), 10 ** (max(last, first + 1) + 0.1))
    axis.xaxis.set_major_locator(FixedLocator([10.0**power for power in range(first, max(last, first + 1) + 1)]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.xaxis.set_minor_locator(NullLocator())


def _plain(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{THIN SPACE}") if value >= 1 else f"{value:g}"


def range_title(group: dict[str, float]) -> str:
    """Text for a range of sizes.

    Example:
        >>> range_title({"from": 0.0, "to": 10.0}), range_title({"from": 10.0, "to": float("inf")})
        ('below 10', '10 and more')
    """
    if not math.isfinite(group["to"]):
        return f"{group['from']:g} and more"
    return f"{group['from']:g} to {group['to']:g}" if group["from"] else f"below {group['to']:g}"


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
    models = list(sizes)
    ranges = next(iter(sizes.values()))
    with_bars = len(models) <= MOST_BARS
    figure = Figure(figsize=(WIDTH_INCHES, 6.4 if with_bars else 4.2), layout="constrained")
    axes = figure.subplots(1 + with_bars, 1, squeeze=False, height_ratios=(3, 2) if with_bars else None)[:, 0]
    places = np.arange(len(ranges))
    step = 0.7 / len(models)
    for number, (model, groups) in enumerate(sizes.items()):
        at = places + (number - (len(models) - 1) / 2) * step
        recall = np.array([group["recall"] for group in groups])
        limits = np.array([wilson(int(group["found"]), int(group["label"])) for group in groups])
        errors = np.clip(np.abs(limits.T - recall), 0, None)
        style = model_style(number) | {"linestyle": "none"}
        axes[0].errorbar(at, recall, errors, capsize=3, label=in_figure(model), clip_on=False, **style)
    titles = [f"{range_title(group)}\n{plural(int(group['label']), 'lesion')}" for group in ranges]
    _ranges_axis(axes[0], titles)
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("lesions found (recall)")
    axes[0].set_xlabel(f"size of the lesion ({unit})")
    legend_above(figure, axes[0])
    if with_bars:
        _bars(axes[1], sizes, step)
        _ranges_axis(axes[1], [range_title(group) for group in ranges])
        axes[1].set_xlabel(f"size of the prediction ({unit})")
    return figure


def _bars(axis: Axes, sizes: Mapping[str, Groups], step: float) -> None:
    for number, groups in enumerate(sizes.values()):
        at = np.arange(len(groups)) + (number - (len(sizes) - 1) / 2) * step
        bars = axis.bar(
            at,
            [group["false"] for group in groups],
            step * 0.9,
            color=model_style(number)["color"],
            hatch=HATCHES[number],
            edgecolor="white",
            linewidth=0,
        )
        axis.bar_label(bars, [f"{int(group['false'])}" for group in groups], fontsize=8, padding=1)
    axis.set_ylabel("false predictions")
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.margins(y=0.15)
    axis.set_ylim(0, max(axis.get_ylim()[1], 1))


def _ranges_axis(axis: Axes, titles: Sequence[str]) -> None:
    axis.set_xticks(range(len(titles)), titles)
    axis.set_xlim(-0.5, len(titles) - 0.5)
    axis.tick_params(axis="x", length=0)
    for before in range(len(titles) - 1):
        axis.axvline(before + 0.5, color="#cccccc", linewidth=0.6)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)


def legend_above(figure: Figure, axis: Axes) -> None:
    """Add a legend above the axes, with as many columns as fit. The figure grows with the rows of the legend."""
    handles, labels = axis.get_legend_handles_labels()
    longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
    columns = max(1, min(len(labels), int(100 / (longest + 8))))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False)


def draw_froc(curves: dict[str, dict[str, list[float]]], models: Sequence[str]) -> Figure:
    """FROC: share of lesions found against false predictions per case.

    Args:
        curves: result of :func:`~nnunet_ici.evaluation.average_precision.threshold_curve` for one class, by model.
        models: names of all models, so that each model keeps its color.
    """
    figure = Figure(figsize=(WIDTH_INCHES, 4.4), layout="constrained")
    axis = figure.subplots()
    most = 8.0
    for model, curve in curves.items():
        style = model_style(models.index(model))
        every = max(1, len(curve["sensitivity"]) // 12)
        most = max(most, *curve["false_per_case"])
        axis.step(
            curve["false_per_case"],
            curve["sensitivity"],
            where="post",
            markevery=every,
            markersize=5,
            linewidth=1.4,
            label=in_figure(model),
            **style,
        )
    ticks = [0.0, *(2.0**power for power in range(-3, math.ceil(math.log2(most)) + 1))]
    axis.set_xscale("function", functions=_stretched())
    axis.set_xlim(-0.02, ticks[-1])
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}.get(value, f"{value:g}"))
    )
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(-0.02, 1.02)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_xlabel("false predictions per case")
    axis.set_ylabel("lesions found (sensitivity)")
    legend_above(figure, axis)
    return figure


Scale = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def _stretched() -> tuple[Scale, Scale]:
    """A logarithmic scale that is defined at 0, and its inverse."""
    return (lambda x: np.log2(1 + 8 * np.asarray(x))), (lambda y: (2 ** np.asarray(y) - 1) / 8)
