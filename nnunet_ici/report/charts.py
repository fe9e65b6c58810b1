"""The figures of the page, each with a caption and a text that says the same to those who do not see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from nnunet_ici.drawing.style import svg_of
from nnunet_ici.evaluation.tables import format_value
from nnunet_ici.report.curves import draw_dice, draw_training
from nnunet_ici.report.figures import draw_froc, draw_recall, draw_sizes, range_title
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.rendering import data_uri, plural
from nnunet_ici.report.training import Curves

__all__ = ["Chart", "lesion_charts", "training_charts"]


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
            "Size of each lesion, found or missed, and of each false prediction, by model. Each mark is one lesion or "
            "prediction; its height within its line means nothing.",
        ),
        _chart(
            draw_recall(sizes, unit),
            f"Share of lesions found by size. {recalls}.",
            "Share of the lesions of each size that were found, with 95 % intervals (Wilson), all cases together. "
            "Lesions of one patient are not independent, so the true intervals are wider. For up to 6 models false "
            "predictions by their own size are drawn below.",
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
        drawn = _chart(draw_training(curves), f"{text}, over the epochs.", f"{text}. Read from {curves.folder}.")
        charts.append((title, drawn))
    return charts
