"""Figures of training curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nnunet_ici.drawing import MISSED, model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.report.figures import WIDTH_INCHES, legend_above
from nnunet_ici.report.training import Curves, Series

__all__ = ["draw_dice", "draw_training"]

# Maximum number of markers per line.
MOST_MARKERS = 12


def draw_training(curves: Curves) -> Figure:
    """Curves of one training: loss terms, total loss, and scores of the validation patches."""
    panels = [_draw_terms] * bool(curves.terms) + [_draw_loss] * any(curves.loss)
    panels += [_draw_validation] * bool(curves.dice or curves.shares)
    figure = Figure(figsize=(WIDTH_INCHES, 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, draw in zip(axes, panels, strict=True):
        draw(axis, curves)
        axis.set_xlabel("epoch")
        axis.set_xlim(-0.5, curves.epochs - 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axis.grid(color="#dddddd", linewidth=0.6)
    return figure


def _draw_terms(axis: Axes, curves: Curves) -> None:
    handles = []
    for number, (term, (training, validation)) in enumerate(curves.terms.items()):
        style = model_style(number) | {"linestyle": "-"}
        _plot(axis, training, **style)
        _plot(axis, validation, **style | {"linestyle": "--", "markerfacecolor": "white"})
        handles.append(Line2D([], [], label=in_figure(term.replace("_", " ")), **style))
    axis.set_title("loss terms, unweighted", fontsize=10)
    _legend(axis, [*handles, *_phases()])


def _phases(color: str = "#555555") -> list[Line2D]:
    """Legend entries of the solid lines (training) and the dashed lines (validation)."""
    return [
        Line2D([], [], label="training", linestyle="-", marker="o", color=color),
        Line2D([], [], label="validation", linestyle="--", marker="o", markerfacecolor="white", color=color),
    ]


def _draw_loss(axis: Axes, curves: Curves) -> None:
    training, validation = curves.loss
    _plot(axis, training, color="black", marker="o", linestyle="-")
    _plot(axis, validation, color="black", marker="o", linestyle="--", markerfacecolor="white")
    axis.set_title("loss", fontsize=10)
    _legend(axis, _phases("black"))


def _draw_validation(axis: Axes, curves: Curves) -> None:
    handles = []
    for number, series in enumerate(curves.dice):
        style = model_style(number) | {"linestyle": "-"}
        _plot(axis, series, **style)
        title = "pseudo Dice" if len(curves.dice) == 1 else f"pseudo Dice, class {number + 1}"
        handles.append(Line2D([], [], label=title, **style))
    for (title, series), (color, marker) in zip(curves.shares.items(), ((MISSED, "X"), ("#555555", "^")), strict=False):
        style = {"color": color, "marker": marker, "linestyle": ":"}
        _plot(axis, series, **style)
        label = "missed lesions" if title == "missed" else "false predictions"
        handles.append(Line2D([], [], label=label, **style))
    axis.set_ylim(-0.02, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_title("validation patches", fontsize=10)
    _legend(axis, handles)


def draw_dice(trainings: Sequence[Curves], titles: Sequence[str]) -> Figure:
    """nnU-Net's pseudo Dice of several trainings, averaged over the classes."""
    figure = Figure(figsize=(WIDTH_INCHES, 4.2), layout="constrained")
    axis = figure.subplots()
    for number, (curves, title) in enumerate(zip(trainings, titles, strict=True)):
        epochs = sorted(set().union(*curves.dice))
        means = {
            epoch: sum(values) / len(values)
            for epoch in epochs
            if (values := [series[epoch] for series in curves.dice if epoch in series])
        }
        _plot(axis, means, label=in_figure(title), **model_style(number))
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("epoch")
    axis.set_ylabel("pseudo Dice")
    axis.set_xlim(-0.5, max(curves.epochs for curves in trainings) - 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axis.grid(color="#dddddd", linewidth=0.6)
    legend_above(figure, axis)
    return figure


def _plot(axis: Axes, series: Series, **style: object) -> None:
    epochs = sorted(series)
    every = max(1, len(epochs) // MOST_MARKERS)
    axis.plot(
        epochs,
        [series[epoch] for epoch in epochs],
        markersize=4.5,
        markevery=every,
        linewidth=1.3,
        **style,  # type: ignore[arg-type]
    )


def _legend(axis: Axes, handles: Sequence[Line2D]) -> None:
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=9)
