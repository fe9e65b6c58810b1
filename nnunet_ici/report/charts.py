"""The parts of the page that are figures: lesions and training curves, each with a text that says the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from nnunet_ici.evaluation.tables import format_value
from nnunet_ici.report.curves import draw_dice, draw_training
from nnunet_ici.report.figures import draw_froc, draw_recall, draw_sizes, range_title
from nnunet_ici.report.look import svg_of
from nnunet_ici.report.markup import data_uri, element, escape, plural, scrolling
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.training import Curves

__all__ = ["lesions", "training"]


def lesions(evaluation: Evaluation) -> str:
    """The size of each lesion, recall by size and FROC, of each class."""
    unit = evaluation.unit_title
    several = len(evaluation.classes) > 1
    by_size = evaluation.sizes()
    parts = []
    for name in evaluation.classes:
        instances = {model: evaluation.instances_of(model, name) for model in evaluation.models}
        sizes = {model: by_size[model, name] for model in evaluation.models}
        parts.append(element("h3", escape(name)) if several else "")
        if not any(instances.values()):
            parts.append(element("p", "There are neither lesions nor predictions."))
            continue
        counts = "; ".join(f"{model}: {_counts(groups)}" for model, groups in sizes.items())
        parts.append(
            _chart(
                draw_sizes,
                f"Size of each lesion, found or missed, and of each false prediction. {counts}.",
                "Size of each lesion, found or missed, and of each false prediction, by model. Each mark is one lesion "
                "or prediction; its height within its line means nothing.",
                instances,
                unit,
            )
        )
        recalls = "; ".join(f"{model}: {_recalls(groups)}" for model, groups in sizes.items())
        parts.append(
            _chart(
                draw_recall,
                f"Share of lesions found by size. {recalls}.",
                "Share of the lesions of each size that were found, with 95 % intervals (Wilson), all cases together. "
                "Lesions of one patient are not independent, so the true intervals are wider. For up to 6 models "
                "false predictions by their own size are drawn below.",
                sizes,
                unit,
            )
        )
        curves = {
            model: evaluation.froc[model, name] for model in evaluation.models if (model, name) in evaluation.froc
        }
        if curves:
            ends = "; ".join(
                f"{model} ends at {format_value(curve['sensitivity'][-1])} with "
                f"{format_value(curve['false_per_case'][-1])} false a case"
                for model, curve in curves.items()
            )
            parts.append(
                _chart(
                    draw_froc,
                    f"FROC: share of lesions found against false predictions a case. {ends}.",
                    "FROC: share of the lesions found against false predictions a case, as predictions are dropped "
                    "from the least certain on. Models without probabilities have no curve.",
                    curves,
                    evaluation.models,
                )
            )
    return "".join(parts)


def _counts(groups: Sequence[dict[str, float]]) -> str:
    label, found, false = (int(sum(group[key] for group in groups)) for key in ("label", "found", "false"))
    return f"{found} found, {label - found} missed, {false} false"


def _recalls(groups: Sequence[dict[str, float]]) -> str:
    return ", ".join(f"{format_value(group['recall'])} of size {range_title(group)}" for group in groups)


def training(trainings: Sequence[Curves]) -> str:
    """The curves of each training, and of several their pseudo Dice side by side."""
    if not trainings:
        return element(
            "p",
            "No training is known. The predictions are not the validation of a fold in nnU-Net's results folder, and "
            "no other folder was given (--training NAME=FOLDER).",
        )
    titles = [f"{curves.name}, {curves.folder.resolve().name}" for curves in trainings]
    parts = []
    with_dice = [(curves, title) for curves, title in zip(trainings, titles, strict=True) if curves.dice]
    if len(with_dice) > 1:
        parts.append(
            _chart(
                draw_dice,
                "Pseudo Dice over the epochs of all trainings.",
                "Pseudo Dice: nnU-Net's estimate from validation patches, mean over the classes, of all trainings.",
                *zip(*with_dice, strict=True),
            )
        )
    for curves, title in zip(trainings, titles, strict=True):
        what = ["the terms of the loss"] * bool(curves.terms) + ["the loss"] * any(curves.loss)
        what += ["pseudo Dice"] * bool(curves.dice)
        what += ["missed lesions and false predictions"] * bool(curves.shares)
        text = f"{title}, {plural(curves.epochs, 'epoch')}: {', '.join(what)}"
        parts.append(
            element("h3", escape(title))
            + _chart(draw_training, f"{text}, over the epochs.", f"{text}. Read from {curves.folder}.", curves)
        )
    return "".join(parts)


def _chart(draw: Callable[..., Figure], alternative: str, caption: str, *args: object) -> str:
    """A figure that is drawn here, with a text in its place for those who do not see it, and a caption."""
    picture = element("img", src=data_uri(svg_of(draw(*args)), "image/svg+xml"), alt=alternative)
    return element(
        "figure", scrolling(picture, caption.split(".")[0]), element("figcaption", escape(caption)), class_="chart"
    )
