"""The figures of the page, each with a caption and an alternative text for readers who cannot see it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from nnunet_ici.command import plural
from nnunet_ici.drawing.style import svg_of
from nnunet_ici.evaluation.tables import format_value
from nnunet_ici.report.agreement import draw_scores, draw_volumes, limits_of_agreement
from nnunet_ici.report.curves import draw_dice, draw_training
from nnunet_ici.report.figures import MOST_BARS, draw_froc, draw_recall, draw_sizes, range_title
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.rendering import data_uri
from nnunet_ici.report.training import Curves

__all__ = ["Chart", "case_charts", "lesion_charts", "training_charts"]

# Maximum number of models in one figure of volumes.
MOST_ROWS = 4


@dataclass(frozen=True)
class Chart:
    """A figure in the page.

    Attributes:
        source: SVG of the figure as a data URI.
        alternative: alternative text for readers who cannot see the figure.
        caption: caption of the figure.
    """

    source: str
    alternative: str
    caption: str


def _chart(figure: Figure, alternative: str, caption: str) -> Chart:
    return Chart(data_uri(svg_of(figure), "image/svg+xml"), alternative, caption)


def case_charts(evaluation: Evaluation, of_class: str) -> list[Chart]:
    """Figures of all cases for one class: scores, and predicted against true volumes."""
    models = evaluation.models
    scores = {
        title: {model: [float(row[metric]) for row in evaluation.rows_of(model, of_class)] for model in models}
        for title, metric in evaluation.scores.items()
    }
    charts = []
    if scores:
        medians = "; ".join(
            f"{model}: {', '.join(f'{title} {_median(values[model])}' for title, values in scores.items())}"
            for model in models
        )
        titles = " (left) and ".join(scores) + " (right)" * (len(scores) > 1)
        charts.append(
            _chart(
                draw_scores(scores),
                f"{' and '.join(scores)} of each case by model, median: {medians}.",
                f"{titles} of each case, by model. Each marker is one case. Markers are jittered vertically for "
                "legibility. The box spans the lower to the upper quartile, and the thick line is the median.",
            )
        )
    unit, scale = ("ml", 1000.0) if evaluation.unit == "mm3" else (evaluation.unit_title, 1.0)
    lesions = evaluation.lesions
    volumes = {}
    for model in models:
        cases = [lesions[model, str(row["case"]), of_class] for row in evaluation.rows_of(model, of_class)]
        volumes[model] = (
            [case.label_size / scale for case in cases],
            [case.predicted_size / scale for case in cases],
        )
    noun = "area" if evaluation.unit == "mm2" else "volume"
    for first in range(0, len(models), MOST_ROWS):
        part = {model: volumes[model] for model in models[first : first + MOST_ROWS]}
        limits = {model: limits_of_agreement(*pair) for model, pair in part.items()}
        agreement = "; ".join(
            f"{model}: mean {mean:+.3g}, limits {low:+.3g} and {high:+.3g} {unit}"
            for model, (mean, low, high) in limits.items()
        )
        charts.append(
            _chart(
                draw_volumes(part, unit, first),
                f"Predicted against true total lesion {noun} of each case. {agreement}.",
                f"Left: predicted against true total lesion {noun} of each case. On the line, both are equal. Values "
                "of 0 are drawn at the edge. Right: difference between predicted and true against their mean "
                "(Bland-Altman plot). The solid line is the mean difference. The dashed lines are the limits of "
                "agreement, 1.96 standard deviations above and below it.",
            )
        )
    return charts


def _median(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return format_value(statistics.median(known) if known else math.nan)


def lesion_charts(evaluation: Evaluation, of_class: str) -> list[Chart]:
    """Figures of the lesions of one class: sizes, recall by size, and FROC; none without lesions and predictions."""
    models, unit = evaluation.models, evaluation.unit_title
    instances = {model: evaluation.instances_of(model, of_class) for model in models}
    if not any(instances.values()):
        return []
    by_size = evaluation.sizes()
    sizes = {model: by_size[model, of_class] for model in models}
    counts = "; ".join(f"{model}: {_counts(groups)}" for model, groups in sizes.items())
    recalls = "; ".join(f"{model}: {_recalls(groups)}" for model, groups in sizes.items())
    charts = [
        _chart(
            draw_sizes(instances, unit),
            f"Size of each lesion, found or missed, and of each false prediction. {counts}.",
            "Size of each lesion, found or missed, and of each false prediction, in three rows per model. Each marker "
            "is one lesion or prediction. Markers are jittered vertically for legibility.",
        ),
        _chart(
            draw_recall(sizes, unit),
            f"Share of lesions found, by lesion size. {recalls}.",
            ("Top: share" if len(models) <= MOST_BARS else "Share")
            + " of lesions found, by lesion size, pooled over all cases, with 95 % confidence intervals (Wilson). "
            "Lesions of one patient are not independent, so the true intervals are wider."
            + " Bottom: number of false predictions, by their own size."
            * (len(models) <= MOST_BARS),
        ),
    ]
    curves = {model: evaluation.froc[model, of_class] for model in models if (model, of_class) in evaluation.froc}
    if curves:
        ends = "; ".join(
            f"{model} ends at {format_value(curve['sensitivity'][-1])} with "
            f"{format_value(curve['false_per_case'][-1])} false predictions per case"
            for model, curve in curves.items()
        )
        charts.append(
            _chart(
                draw_froc(curves, models),
                f"FROC: share of lesions found against false predictions per case. {ends}.",
                "FROC: share of lesions found against false predictions per case, as the least certain predictions are "
                "removed step by step. Models without probabilities have no curve.",
            )
        )
    return charts


def _counts(groups: Sequence[dict[str, float]]) -> str:
    label, found, false = (int(sum(group[key] for group in groups)) for key in ("label", "found", "false"))
    return f"{found} found, {label - found} missed, {false} false"


def _recalls(groups: Sequence[dict[str, float]]) -> str:
    return ", ".join(f"{format_value(group['recall'])} (size {range_title(group)})" for group in groups)


def training_charts(trainings: Sequence[Curves]) -> list[tuple[str, Chart]]:
    """Headings and curves of all trainings. Several trainings are first compared by pseudo Dice, without a heading."""
    titles = [f"{curves.name}, {curves.folder.resolve().name}" for curves in trainings]
    charts = []
    with_dice = [(curves, title) for curves, title in zip(trainings, titles, strict=True) if curves.dice]
    if len(with_dice) > 1:
        comparison = _chart(
            draw_dice(*zip(*with_dice, strict=True)),
            "Pseudo Dice of all trainings over the epochs.",
            "Pseudo Dice of all trainings: nnU-Net's estimate from validation patches, averaged over the classes.",
        )
        charts.append(("", comparison))
    for curves, title in zip(trainings, titles, strict=True):
        contents = ["loss terms"] * bool(curves.terms) + ["loss"] * any(curves.loss)
        contents += ["pseudo Dice"] * bool(curves.dice)
        contents += ["missed lesions and false predictions"] * bool(curves.shares)
        text = f"{title}, {plural(curves.epochs, 'epoch')}: {', '.join(contents)}"
        drawn = _chart(
            draw_training(curves),
            f"{text}, over the epochs.",
            f"{text}. Solid lines: training. Dashed lines: validation.",
        )
        charts.append((title, drawn))
    return charts
