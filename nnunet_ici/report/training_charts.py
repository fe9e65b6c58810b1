"""Charts of training curves."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_ici.command import plural
from nnunet_ici.drawing import model_style
from nnunet_ici.drawing.style import in_figure
from nnunet_ici.report.charts import Chart, add_grid, legend_above, make_chart, new_figure
from nnunet_ici.report.training import Curves

__all__ = ["draw_curves", "training_charts"]

# Maximum number of markers per line.
MOST_MARKERS = 12
# Title of each chart and label of its axis.
CHARTS = {
    # Most losses draw their threshold in training and have 0.5 in validation: not on one axis.
    "terms": ("Loss terms in training, unweighted", "loss term"),
    "validation terms": ("Loss terms in validation, unweighted", "loss term"),
    "scores": ("Lesion F1 and lesion-wise Dice of the validation patches at 0.5", "score"),
    "loss": ("Loss", "loss"),
    "dice": ("Pseudo Dice, nnU-Net's estimate from validation patches", "pseudo Dice"),
    "mistakes": ("Shares of missed lesions and false predictions in validation patches", "share"),
}


def training_charts(trainings: Sequence[Curves]) -> dict[str, list[Chart]]:
    """Charts by heading: one heading per training. Several trainings are first compared by pseudo Dice."""
    charts: dict[str, list[Chart]] = {}
    dice = []
    for one in trainings:
        points = one.points[one.points["chart"] == "dice"]
        dice.append(points.groupby("epoch", as_index=False)["value"].mean().assign(curve=one.title))
    if sum(not one.empty for one in dice) > 1:
        text = "Pseudo Dice of all trainings: nnU-Net's estimate from validation patches, averaged over the classes."
        figure = draw_curves(pd.concat(dice).assign(phase="validation"), "pseudo Dice", whole=True)
        charts["All trainings"] = [make_chart(figure, text, "")]
    for one in trainings:
        charts[one.title] = []
        for chart, points in one.points.groupby("chart", sort=False):
            title, label = CHARTS[chart]
            text = f"{title}, over {plural(one.epochs, 'epoch')}."
            lines = "Solid lines: training. Dashed lines: validation." if points["phase"].nunique() > 1 else ""
            figure = draw_curves(points, label, whole=chart in ("dice", "mistakes", "scores"))
            charts[one.title].append(make_chart(figure, text, lines))
    return charts


def draw_curves(points: pd.DataFrame, label: str, whole: bool = False) -> Figure:
    """Curves over the epochs: a color for each, solid for training, and dashed for validation if both are drawn.

    Args:
        points: as in :class:`~nnunet_ici.report.training.Curves`.
        label: label of the vertical axis.
        whole: whether to draw the axis from 0 to 1.
    """
    figure = new_figure(3.3)
    axis = figure.subplots()
    both = points["phase"].nunique() > 1
    handles: dict[str, Artist] = {}
    for number, (curve, of_curve) in enumerate(points.groupby("curve", sort=False)):
        style = model_style(number) | {"linestyle": "-", "markersize": 4.5, "linewidth": 1.3}
        for phase, line in of_curve.groupby("phase", sort=False):
            dashed = {"linestyle": "--", "markerfacecolor": "white"} if both and phase == "validation" else {}
            every = max(1, len(line) // MOST_MARKERS)
            drawn = axis.plot(line["epoch"], line["value"], markevery=every, **style | dashed)
            handles.setdefault(in_figure(curve, 46), drawn[0])
    axis.set(xlabel="epoch", ylabel=label, xlim=(-0.5, points["epoch"].max() + 0.5))
    if whole:
        axis.set_ylim(-0.02, 1.02)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    add_grid(axis)
    if len(handles) > 1:
        legend_above(figure, list(handles.values()), list(handles))
    return figure
