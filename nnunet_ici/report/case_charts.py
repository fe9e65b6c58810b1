"""Charts of whole cases: distribution of the scores, and predicted against true volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from nnunet_ici.drawing import model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.report.charts import FEW_CASES, MOST_POINTS, Chart, add_grid, make_chart, new_figure
from nnunet_ici.report.reading import Evaluation

__all__ = ["case_charts", "draw_agreement", "draw_scores", "draw_volumes", "limits_of_agreement"]

# True and predicted volume of each case, by model.
Volumes = Mapping[str, tuple[Sequence[float], Sequence[float]]]

# Distance of the limits of agreement from the mean difference, in standard deviations.
DEVIATIONS = 1.96


def limits_of_agreement(label: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[float, float, float]:
    """Mean of predicted - label over the cases, and the limits 1.96 standard deviations below and above it.

    Source: Bland and Altman, The Lancet 1986.

    Args:
        label: true volume of each case, (N,).
        predicted: predicted volume of each case, (N,).

    Returns:
        The mean, the lower limit and the upper limit. The limits are NaN for fewer than two cases. The mean is NaN if
        there are no cases.

    Example:
        >>> [round(value, 2) for value in limits_of_agreement([1.0, 2.0, 3.0], [2.0, 2.0, 5.0])]
        [1.0, -0.96, 2.96]
    """
    differences = np.subtract(predicted, label)
    mean = float(differences.mean()) if differences.size else math.nan
    spread = DEVIATIONS * float(differences.std(ddof=1)) if differences.size > 1 else math.nan
    return mean, mean - spread, mean + spread


def case_charts(evaluation: Evaluation, of_class: str) -> list[Chart]:
    """Charts of all cases for one class: each score, predicted against true volumes, and their agreement."""
    charts = []
    for title, metric in evaluation.scores.items():
        scores = {
            model: [float(row[metric]) for row in evaluation.rows_of(model, of_class)] for model in evaluation.models
        }
        charts.append(
            make_chart(
                draw_scores(scores, title),
                f"{title[0].upper()}{title[1:]} of each case, by model.",
                "Each marker is one case, jittered vertically. The box spans the lower to the upper quartile, and the "
                "thick line is the median.",
            )
        )
    unit, scale = ("ml", 1000.0) if evaluation.unit == "mm3" else (evaluation.unit_title, 1.0)
    noun = "area" if evaluation.unit == "mm2" else "volume"
    lesions = evaluation.lesions
    volumes = {}
    for model in evaluation.models:
        cases = [lesions[model, str(row["case"]), of_class] for row in evaluation.rows_of(model, of_class)]
        volumes[model] = [case.label_size / scale for case in cases], [case.predicted_size / scale for case in cases]
    agreement = "; ".join(
        f"{model}: mean {mean:+.3g} {unit}" + (f", limits {low:+.3g} and {high:+.3g}" if math.isfinite(low) else "")
        for model, pair in volumes.items()
        for mean, low, high in [limits_of_agreement(*pair)]
    )
    return [
        *charts,
        make_chart(
            draw_volumes(volumes, unit),
            f"Predicted against true total lesion {noun} of each case, by model.",
            "On the line, both are equal.",
        ),
        make_chart(
            draw_agreement(volumes, unit),
            f"Difference between predicted and true {noun} of each case against their mean (Bland-Altman plot).",
            "The solid line is the mean difference. The dashed lines are the limits of agreement, 1.96 standard "
            f"deviations above and below it. {agreement}.",
        ),
    ]


def draw_scores(scores: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Distribution of a score over the cases: one point per case, and a box from the lower to the upper quartile.

    Args:
        scores: score of each case in [0, 1], by model; NaN for a case without a value.
        title: title of the score.
    """
    figure = new_figure(0.75 + 0.45 * len(scores))
    axis = figure.subplots()
    random = np.random.default_rng(0)
    known = [np.array(values)[~np.isnan(values)] for values in scores.values()]
    for number, values in enumerate(known):
        few = values.size <= FEW_CASES
        style = model_style(number)
        axis.scatter(
            values,
            number + random.uniform(-0.3, 0.3, values.size),
            s=36 if few else 14,
            alpha=0.9 if few else 0.5,
            color=style["color"],
            marker=style["marker"],
            linewidths=0,
            rasterized=values.size * len(scores) > MOST_POINTS,
            clip_on=False,
            zorder=3,
        )
    median = {"color": "black", "linewidth": 2.5}
    options = {"whis": 0, "showfliers": False, "showcaps": False, "medianprops": median, "zorder": 4}
    axis.boxplot(known, positions=range(len(known)), orientation="horizontal", widths=0.6, **options)  # type: ignore[arg-type]
    axis.set(xlim=(-0.03, 1.03), xlabel=title, ylim=(len(scores) - 0.5, -0.5))
    axis.set_yticks(range(len(scores)), [in_figure(model, 26) for model in scores])
    axis.tick_params(axis="y", length=0)
    add_grid(axis, "x")
    return figure


def _facets(volumes: Volumes, height_inches: float) -> tuple[Figure, list[Axes]]:
    """One axes per model in two columns; all have the same limits."""
    rows = -(-len(volumes) // 2)
    figure = new_figure(0.5 + height_inches * rows)
    axes = figure.subplots(rows, min(len(volumes), 2), sharex=True, sharey=True, squeeze=False).ravel()
    for axis, model in zip(axes, volumes, strict=False):
        axis.set_title(in_figure(model, 24), loc="left", fontsize=9, fontweight="bold")
        add_grid(axis)
    for axis in axes[len(volumes) :]:
        axis.remove()
        axes[len(volumes) - 2].tick_params(labelbottom=True)
    return figure, list(axes[: len(volumes)])


def _points(number: int, count: int) -> dict[str, object]:
    style = model_style(number)
    few = count <= FEW_CASES
    size = {"s": 36, "alpha": 0.9} if few else {"s": 18, "alpha": 0.6}
    return {"color": style["color"], "marker": style["marker"], "linewidths": 0, "zorder": 3, **size}


def _volume_axis(axis: Axes, volumes: Volumes, which: str) -> None:
    """Make an axis logarithmic above the smallest volume, and linear from there to 0, with limits for all models."""
    values = np.concatenate([np.concatenate(pair) for pair in volumes.values()])
    positive = values[values > 0] if (values > 0).any() else np.ones(1)
    lowest = 10.0 ** math.floor(math.log10(positive.min()))
    highest = max(float(positive.max()), 10 * lowest)
    getattr(axis, f"set_{which}scale")("symlog", linthresh=lowest, linscale=0.5)
    getattr(axis, f"set_{which}lim")(-0.3 * lowest, 1.5 * highest)
    ticks = axis.xaxis if which == "x" else axis.yaxis
    powers = range(round(math.log10(lowest)), math.floor(math.log10(highest)) + 1)
    ticks.set_ticks([0.0, *(10.0**power for power in powers[:: 1 + len(powers) // 5])])
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_locator(NullLocator())


def draw_volumes(volumes: Volumes, unit: str) -> Figure:
    """Predicted against true volume of each case: one panel per model, on the same axes."""
    figure, axes = _facets(volumes, 2.3 if len(volumes) > 1 else 3.2)
    for number, (axis, (label, predicted)) in enumerate(zip(axes, volumes.values(), strict=True)):
        axis.axline((0, 0), slope=1, color="#777777", linewidth=1, transform=axis.transAxes)
        axis.scatter(label, predicted, **_points(number, len(label)))  # type: ignore[arg-type]
    _volume_axis(axes[0], volumes, "x")
    _volume_axis(axes[0], volumes, "y")
    figure.supxlabel(f"true ({unit})", fontsize=10)
    figure.supylabel(f"predicted ({unit})", fontsize=10)
    return figure


def draw_agreement(volumes: Volumes, unit: str) -> Figure:
    """Difference between predicted and true volume of each case (Bland-Altman plot): one panel per model."""
    figure, axes = _facets(volumes, 2.1 if len(volumes) > 1 else 3.0)
    for number, (axis, pair) in enumerate(zip(axes, volumes.values(), strict=True)):
        label, predicted = (np.asarray(values, float) for values in pair)
        axis.scatter((label + predicted) / 2, predicted - label, **_points(number, label.size))  # type: ignore[arg-type]
        axis.axhline(0, color="#777777", linewidth=1)
        mean, low, high = limits_of_agreement(label, predicted)
        for value, dashes in ((low, "--"), (mean, "-"), (high, "--")):
            if math.isfinite(value):
                axis.axhline(value, color="black", linewidth=1.2, linestyle=dashes)
    axes[0].margins(y=0.15)
    _volume_axis(axes[0], volumes, "x")
    figure.supxlabel(f"mean of predicted and true ({unit})", fontsize=10)
    figure.supylabel(f"predicted - true ({unit})", fontsize=10)
    return figure
