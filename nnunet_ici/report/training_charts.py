"""Charts of training curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nnunet_ici.command import plural
from nnunet_ici.drawing import MISSED, model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.report.charts import Chart, add_grid, legend_above, make_chart, new_figure
from nnunet_ici.report.training import Curves, Series

__all__ = ["draw_dice", "draw_loss", "draw_terms", "draw_validation", "training_charts"]

# Maximum number of markers per line.
MOST_MARKERS = 12
VALIDATION = {"linestyle": "--", "markerfacecolor": "white"}


def training_charts(trainings: Sequence[Curves]) -> dict[str, list[Chart]]:
    """Charts by heading: one heading per training. Several trainings are first compared by pseudo Dice."""
    titles = [f"{curves.name}, {curves.folder.resolve().name}" for curves in trainings]
    charts: dict[str, list[Chart]] = {}
    if sum(bool(curves.dice) for curves in trainings) > 1:
        comparison = make_chart(
            draw_dice(trainings, titles),
            "Pseudo Dice of all trainings over the epochs.",
            "Pseudo Dice of all trainings: nnU-Net's estimate from validation patches, averaged over the classes.",
        )
        charts["All trainings"] = [comparison]
    for curves, title in zip(trainings, titles, strict=True):
        end = f"over {plural(curves.epochs, 'epoch')}"
        charts[title] = []
        for draw, contents in (
            (draw_terms, "loss terms, unweighted" if curves.terms else ""),
            (draw_loss, "loss" if any(curves.loss) else ""),
            (draw_validation, " and ".join(["pseudo Dice"] * bool(curves.dice) + ["mistakes"] * bool(curves.shares))),
        ):
            if contents:
                text = f"{contents}, {end}"
                lines = "" if draw is draw_validation else " Solid lines: training. Dashed lines: validation."
                caption = f"{text[0].upper()}{text[1:]}.{lines}"
                charts[title].append(make_chart(draw(curves), f"{title}: {text}.", caption))
    return charts


def draw_terms(curves: Curves) -> Figure:
    """The loss terms in training and validation."""
    figure, axis = _epochs(curves.epochs, 3.4)
    handles = {}
    for number, (term, (training, validation)) in enumerate(curves.terms.items()):
        style = model_style(number) | {"linestyle": "-"}
        handles[in_figure(term.replace("_", " "))] = _plot(axis, training, **style)
        _plot(axis, validation, **style | VALIDATION)
    axis.set_ylabel("loss term")
    legend_above(figure, list(handles.values()), list(handles))
    return figure


def draw_loss(curves: Curves) -> Figure:
    """The loss in training and validation."""
    figure, axis = _epochs(curves.epochs, 3.4)
    style = {"color": "black", "marker": "o", "linestyle": "-"}
    training, validation = curves.loss
    handles = [_plot(axis, training, **style), _plot(axis, validation, **style | VALIDATION)]
    axis.set_ylabel("loss")
    legend_above(figure, handles, ["training", "validation"])
    return figure


def draw_validation(curves: Curves) -> Figure:
    """Pseudo Dice of each class, and the shares of missed lesions and false predictions, in validation patches."""
    figure, axis = _epochs(curves.epochs, 3.4)
    handles = {}
    for number, series in enumerate(curves.dice, start=1):
        title = "pseudo Dice" if len(curves.dice) == 1 else f"pseudo Dice, class {number}"
        handles[title] = _plot(axis, series, **model_style(number - 1) | {"linestyle": "-"})
    mistakes = {"missed": ("missed lesions", MISSED, "X"), "false": ("false predictions", "#555555", "^")}
    for kind, series in curves.shares.items():
        title, color, marker = mistakes[kind]
        handles[title] = _plot(axis, series, color=color, marker=marker, linestyle=":")
    axis.set_ylim(-0.02, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_ylabel("in validation patches")
    legend_above(figure, list(handles.values()), list(handles))
    return figure


def draw_dice(trainings: Sequence[Curves], titles: Sequence[str]) -> Figure:
    """nnU-Net's pseudo Dice of several trainings, averaged over the classes."""
    figure, axis = _epochs(max(curves.epochs for curves in trainings), 3.6)
    handles = {}
    for number, (curves, title) in enumerate(zip(trainings, titles, strict=True)):
        if curves.dice:
            means = {
                epoch: sum(values) / len(values)
                for epoch in sorted(set().union(*curves.dice))
                if (values := [series[epoch] for series in curves.dice if epoch in series])
            }
            handles[in_figure(title, 46)] = _plot(axis, means, **model_style(number))
    axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel("pseudo Dice")
    legend_above(figure, list(handles.values()), list(handles))
    return figure


def _epochs(count: int, height_inches: float) -> tuple[Figure, Axes]:
    figure = new_figure(height_inches)
    axis = figure.subplots()
    axis.set(xlabel="epoch", xlim=(-0.5, count - 0.5))
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    add_grid(axis)
    return figure, axis


def _plot(axis: Axes, series: Series, **style: object) -> Line2D:
    epochs = sorted(series)
    options = {"markersize": 4.5, "markevery": max(1, len(epochs) // MOST_MARKERS), "linewidth": 1.3, **style}
    return axis.plot(epochs, [series[epoch] for epoch in epochs], **options)[0]  # type: ignore[arg-type]
