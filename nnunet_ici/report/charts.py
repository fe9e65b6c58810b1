"""The figures of the page, each with a caption and a text that says the same to those who do not see it."""

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

# Models in one figure of volumes.
MOST_ROWS = 4


@dataclass(frozen=True)
class Chart:
    """A figure in the page.

    Attributes:
        source: its SVG as a data URI.
        alternative: what is in it, for those who do not see it.
        caption: what it shows.
    """

    source: str
    alternative: str
    caption: str


def _chart(figure: Figure, alternative: str, caption: str) -> Chart:
    return Chart(data_uri(svg_of(figure), "image/svg+xml"), alternative, caption)


def case_charts(evaluation: Evaluation, of_class: str) -> list[Chart]:
    """The scores of all cases, and their predicted against their true volumes, of a class."""
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
                f"{titles} of each case, by model. Each mark is one case. Marks are spread vertically for legibility; "
                "the box runs from the lower to the upper quartile, the thick line in it is the median.",
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
                f"Predicted against true {noun} of all lesions of each case. {agreement}.",
                f"Left: predicted against true {noun} of all lesions of each case; on the line both are equal, and 0 "
                "is drawn at the edge. Right: their difference against their mean (Bland and Altman); the solid line "
                "is the mean difference, the dashed lines are the limits of agreement, 1.96 standard deviations from "
                "it.",
            )
        )
    return charts


def _median(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return format_value(statistics.median(known) if known else math.nan)


def lesion_charts(evaluation: Evaluation, of_class: str) -> list[Chart]:
    """The size of each lesion, recall by size and FROC of a class; none without lesions and predictions."""
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
            "Size of each lesion, found or missed, and of each false prediction, three lines for each "
            "model. Each mark is one lesion or prediction. Marks are spread vertically for legibility.",
        ),
        _chart(
            draw_recall(sizes, unit),
            f"Share of lesions found by size. {recalls}.",
            ("Above: share" if len(models) <= MOST_BARS else "Share")
            + " of the lesions of each size that were found, with 95 % intervals (Wilson), all cases together. "
            "Lesions of one patient are not independent, so the true intervals are wider."
            + " Below: false predictions by their own size."
            * (len(models) <= MOST_BARS),
        ),
    ]
    curves = {model: evaluation.froc[model, of_class] for model in models if (model, of_class) in evaluation.froc}
    if curves:
        ends = "; ".join(
            f"{model} ends at {format_value(curve['sensitivity'][-1])} with "
            f"{format_value(curve['false_per_case'][-1])} false per case"
            for model, curve in curves.items()
        )
        charts.append(
            _chart(
                draw_froc(curves, models),
                f"FROC: share of lesions found against false predictions per case. {ends}.",
                "FROC: share of the lesions found against false predictions per case, as predictions are dropped from "
                "the least certain on. Models without probabilities have no curve.",
            )
        )
    return charts


def _counts(groups: Sequence[dict[str, float]]) -> str:
    label, found, false = (int(sum(group[key] for group in groups)) for key in ("label", "found", "false"))
    return f"{found} found, {label - found} missed, {false} false"


def _recalls(groups: Sequence[dict[str, float]]) -> str:
    return ", ".join(f"{format_value(group['recall'])} of size {range_title(group)}" for group in groups)


def training_charts(trainings: Sequence[Curves]) -> list[tuple[str, Chart]]:
    """The curves of each training with a heading, before them the pseudo Dice of several side by side without one."""
    titles = [f"{curves.name}, {curves.folder.resolve().name}" for curves in trainings]
    charts = []
    with_dice = [(curves, title) for curves, title in zip(trainings, titles, strict=True) if curves.dice]
    if len(with_dice) > 1:
        comparison = _chart(
            draw_dice(*zip(*with_dice, strict=True)),
            "Pseudo Dice over the epochs of all trainings.",
            "Pseudo Dice: nnU-Net's estimate from validation patches, mean over the classes, of all trainings.",
        )
        charts.append(("", comparison))
    for curves, title in zip(trainings, titles, strict=True):
        what = ["the terms of the loss"] * bool(curves.terms) + ["the loss"] * any(curves.loss)
        what += ["pseudo Dice"] * bool(curves.dice)
        what += ["missed lesions and false predictions"] * bool(curves.shares)
        text = f"{title}, {plural(curves.epochs, 'epoch')}: {', '.join(what)}"
        drawn = _chart(
            draw_training(curves),
            f"{text}, over the epochs.",
            f"{text}. Solid lines are the training, dashed ones the validation.",
        )
        charts.append((title, drawn))
    return charts
