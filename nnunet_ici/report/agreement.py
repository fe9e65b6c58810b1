"""Figures of whole cases: distribution of the scores, and predicted against true volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from nnunet_ici.drawing import model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.report.figures import MOST_POINTS, WIDTH_INCHES

__all__ = ["draw_scores", "draw_volumes", "limits_of_agreement"]

FloatArray = npt.NDArray[np.float64]

# Distance of the limits of agreement from the mean difference, in standard deviations.
DEVIATIONS = 1.96
# On a logarithmic axis, a volume of 0 is drawn at the smallest volume divided by this.
ZERO_RATIO = 3.0
# Up to this number of cases, the markers are large.
FEW_CASES = 40
# An axis that spans fewer powers of ten than this also has ticks at 2 and 5 times each power.
FEW_POWERS = 3


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


def draw_scores(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Distribution of the scores over the cases: one point per case, and a box from the lower to the upper quartile.

    Args:
        scores: scores of the cases in [0, 1], by title (such as "Dice") and model; NaN for a case without a value.
    """
    models = list(next(iter(scores.values())))
    figure = Figure(figsize=(WIDTH_INCHES, 1.1 + 0.55 * len(models)), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    random = np.random.default_rng(0)
    for axis, (title, of_models) in zip(axes, scores.items(), strict=True):
        for number, (model, values) in enumerate(of_models.items()):
            known = np.array([value for value in values if not math.isnan(value)])
            style = model_style(models.index(model))
            axis.scatter(
                known,
                number + random.uniform(-0.3, 0.3, known.size),
                s=36 if known.size <= FEW_CASES else 14,
                color=style["color"],
                marker=style["marker"],
                alpha=0.9 if known.size <= FEW_CASES else 0.5,
                clip_on=False,
                zorder=3,
                linewidths=0,
                rasterized=known.size * len(models) > MOST_POINTS,
            )
            if known.size:
                low, median, high = np.percentile(known, (25, 50, 75))
                axis.barh(number, high - low, 0.6, low, facecolor="none", edgecolor="black", linewidth=1, zorder=4)
                axis.plot([median, median], [number - 0.3, number + 0.3], color="black", linewidth=2.5, zorder=4)
        axis.set_xlim(-0.03, 1.03)
        axis.set_xlabel(title)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(models)), [in_figure(model, 32) for model in models])
    axes[0].set_ylim(len(models) - 0.5, -0.5)
    return figure


def draw_volumes(volumes: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str, first: int = 0) -> Figure:
    """One row per model: predicted against true volume, and their difference against their mean.

    The second plot is a Bland-Altman plot (The Lancet 1986) with the mean difference and the limits of agreement.

    Args:
        volumes: total lesion volume of each case in the label and in the prediction, by model.
        unit: unit of the volumes.
        first: index of the first model, which determines the colors.
    """
    figure = Figure(figsize=(WIDTH_INCHES, 0.4 + 2.75 * len(volumes)), layout="constrained")
    axes = figure.subplots(len(volumes), 2, squeeze=False)
    for row, (model, pair) in enumerate(volumes.items()):
        label, predicted = (np.asarray(values, float) for values in pair)
        style = model_style(first + row)
        few = label.size <= FEW_CASES
        marks = {
            "s": 36 if few else 18,
            "color": style["color"],
            "marker": style["marker"],
            "linewidths": 0,
            "zorder": 3,
        }
        marks |= {"alpha": 0.9 if few else 0.6}
        left, right = axes[row]
        left.set_title(in_figure(model, 100), loc="left", fontsize=10, fontweight="bold")
        positive = np.concatenate([label, predicted])
        positive = positive[positive > 0]
        lowest = float(positive.min()) if positive.size else 1.0
        highest = float(positive.max()) if positive.size else 1.0
        limits = lowest / ZERO_RATIO / 1.5, max(highest, 10 * lowest) * 1.5
        left.plot(limits, limits, color="#777777", linewidth=1, label="equal")
        left.scatter(_with_zeros(label, lowest), _with_zeros(predicted, lowest), **marks)
        left.set(xlim=limits, ylim=limits, ylabel=f"predicted ({unit})")
        _volume_axis(left, "x", lowest)
        _volume_axis(left, "y", lowest)
        left.grid(color="#dddddd", linewidth=0.6)

        right.scatter(_with_zeros((label + predicted) / 2, lowest), predicted - label, **marks)
        right.set(xlim=limits, ylabel=f"predicted - true ({unit})")
        _volume_axis(right, "x", lowest)
        right.axhline(0, color="#777777", linewidth=1)
        mean, low, high = limits_of_agreement(label, predicted)
        for value, dashes, name, va in (
            (high, "--", "+1.96 SD", "bottom"),
            (mean, "-", "mean", "center"),
            (low, "--", "-1.96 SD", "top"),
        ):
            if math.isfinite(value):
                right.axhline(value, color="black", linewidth=1.2, linestyle=dashes)
                text = f" {name}: {value:.3g}"
                right.annotate(text, (1, value), xycoords=("axes fraction", "data"), va=va, fontsize=8.5)
        right.margins(y=0.2)
    axes[-1][0].set_xlabel(f"true ({unit})")
    axes[-1][1].set_xlabel(f"mean of predicted and true ({unit})")
    return figure


def _with_zeros(values: FloatArray, lowest: float) -> FloatArray:
    """Volumes for a logarithmic axis. A volume of 0 is placed below the smallest one."""
    return np.where(values > 0, values, lowest / ZERO_RATIO)


def _volume_axis(axis: Axes, which: str, lowest: float) -> None:
    """Make an axis logarithmic, with a tick for 0 below the smallest volume."""
    getattr(axis, f"set_{which}scale")("log")
    ticks = axis.xaxis if which == "x" else axis.yaxis
    highest = (axis.get_xlim() if which == "x" else axis.get_ylim())[1]
    few = math.log10(highest / lowest) < FEW_POWERS
    values = LogLocator(subs=(1, 2, 5) if few else (1,), numticks=6).tick_values(lowest, highest)
    ticks.set_ticks([lowest / ZERO_RATIO, *(value for value in values if lowest <= value <= highest)])
    ticks.set_major_formatter(FuncFormatter(lambda value, _: "0" if value < lowest else f"{value:g}"))
    ticks.set_minor_locator(NullLocator())
