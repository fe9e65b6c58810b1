"""Cases as slices through their lesions: what each model found, missed and made up, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import image as matplotlib_image

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.evaluation.pictures import Scene, choose_cases, choose_slices, find_image, grey_window, read_scene
from nnunet_ici.report.markup import data_uri, element, escape
from nnunet_ici.report.outlines import mask_path
from nnunet_ici.report.reading import Evaluation

__all__ = ["DrawnCase", "draw_cases", "draw_scene", "legend"]

BoolArray = npt.NDArray[np.bool_]

MARGIN_PIXELS = 12
SMALLEST_SIDE = 72  # pixels
LARGEST_SIDE = 1024  # pixels; larger images are thinned
# What is drawn below a line, so that it is seen on bright and on dark ground.
CASINGS = {"label": "casing", "found": "casing", "missed": "wide-casing", "false": "wide-casing"}
LEGEND = {
    "label": "lesion of the label",
    "found": "prediction that touches a lesion",
    "missed": "missed lesion",
    "false": "false prediction",
}


@dataclass(frozen=True)
class DrawnCase:
    """A case of the report.

    Attributes:
        role: "worst", "median", "best", or its rank.
        name: of the case.
        slices: a title and HTML for each slice.
        missing: why there are no slices, one sentence each.
    """

    role: str
    name: str
    slices: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Window:
    """A part of a slice: index of the slice (None in 2D), rows and columns."""

    index: int | None
    rows: slice
    columns: slice

    def cut(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return (array if self.index is None else array[self.index])[self.rows, self.columns]


def draw_cases(evaluation: Evaluation, image_folder: Path | None, count: int) -> tuple[list[DrawnCase], list[str]]:
    """Draw the worst, median and best case of the first model, or more.

    Args:
        evaluation: what was evaluated; files that are no longer there leave a case without slices.
        image_folder: of the images; None for a black ground.
        count: number of cases.

    Returns:
        The cases, worst first, and the problems found, one sentence each.
    """
    drawn = []
    problems = []
    for position, (role, name) in enumerate(choose_cases(evaluation.rows, count), start=1):
        case = evaluation.cases[name]
        paths = [case.label, *(path for path in case.predictions.values() if path is not None)]
        gone = [f"{path} is no longer there" for path in paths if not path.is_file()]
        if gone:
            drawn.append(DrawnCase(role, name, missing=gone))
            continue
        scheme = evaluation.settings.scheme
        try:
            image = None if image_folder is None else find_image(image_folder, name, scheme.file_ending)
            scene = read_scene(case, image)
        except ValueError as error:
            problems.append(str(error))
            continue
        drawn.append(DrawnCase(role, name, draw_scene(scene, scheme, f"case{position}", image is not None)))
    return drawn, problems


def draw_scene(scene: Scene, scheme: LabelScheme, prefix: str, with_image: bool) -> list[tuple[str, str]]:
    """Draw the slices of one case: a panel each for the image, the label and every model.

    Of a volume the slice with most lesion voxels is drawn, and where there are any, the slices with most voxels of
    missed and of false lesions.

    Args:
        scene: the arrays.
        scheme: the meaning of the label maps.
        prefix: of the ids, such that they are unique in the page.
        with_image: whether there is an image, which has a panel of its own.

    Returns:
        A title and HTML for each class and slice.
    """
    drawn: list[tuple[str, str]] = []
    grey_levels = grey_window(scene.image)
    for name in scheme.classes:
        label_mask = scheme.masks(name, scene.label, scene.label)[0]
        matchings = {
            model: match_instances(*scheme.masks(name, scene.label, prediction))
            for model, prediction in scene.predictions.items()
        }
        for index in choose_slices(label_mask, matchings):
            masks = [label_mask, *(matching.found_mask() | matching.false_mask() for matching in matchings.values())]
            window = _window(masks, index)
            number = f"{prefix}-{len(drawn)}"
            panels = [_panel(number, window, scene.pixel_aspect, [], "image", "image")] if with_image else []
            paths = [_path("label", label_mask, window)]
            lesions = _count(match_instances(label_mask, label_mask), window.index)["found"]
            panels.append(_panel(number, window, scene.pixel_aspect, paths, "label", f"lesions: {lesions}"))
            for model, matching in matchings.items():
                of_kind = {
                    "found": matching.found_mask(),
                    "missed": matching.missed_mask(),
                    "false": matching.false_mask(),
                }
                paths = [_path("edge", label_mask & ~of_kind["missed"], window)]
                paths += [_path(kind, mask, window) for kind, mask in of_kind.items()]
                counts = ", ".join(f"{kind}: {number}" for kind, number in _count(matching, index).items())
                panels.append(_panel(number, window, scene.pixel_aspect, paths, model, counts))
            title = name if index is None else f"{name}, slice {index}"
            background = _background(number, scene, window, grey_levels if with_image else None)
            drawn.append((title, background + element("div", *panels, class_="panels")))
    return drawn


def _count(matching: Matching, index: int | None) -> dict[str, int]:
    """How many instances of each kind reach into a slice; of the label found and missed, of the prediction false."""
    counts = {}
    for kind, ids, chosen in (
        ("found", matching.label_ids, matching.label_found),
        ("missed", matching.label_ids, ~matching.label_found),
        ("false", matching.predicted_ids, ~matching.predicted_true),
    ):
        if index is not None:
            at = index - matching.box[0].start
            ids = ids[at : at + 1] if at >= 0 else ids[:0]
        present = np.unique(ids[ids > 0])
        counts[kind] = int(np.count_nonzero(chosen[present - 1]))
    return counts


def _window(masks: Sequence[BoolArray], index: int | None) -> _Window:
    """All that is drawn of a slice, with a margin, and not less than the smallest side; all of a slice without any."""
    content = np.any([mask if index is None else mask[index] for mask in masks], axis=0)
    sides = []
    for axis, size in enumerate(content.shape):
        hits = np.flatnonzero(content.any(axis=1 - axis))
        first, last = (int(hits[0]), int(hits[-1])) if hits.size else (0, size - 1)
        margin = max(MARGIN_PIXELS, (SMALLEST_SIDE - (last + 1 - first) + 1) // 2)
        sides.append(slice(max(first - margin, 0), min(last + 1 + margin, size)))
    return _Window(index, sides[0], sides[1])


def _background(number: str, scene: Scene, window: _Window, grey_levels: tuple[float, float] | None) -> str:
    """What the panels of a slice share: the image, or black, and the pattern of missed lesions."""
    width = window.columns.stop - window.columns.start
    height = window.rows.stop - window.rows.start
    place = {"x": window.columns.start, "y": window.rows.start, "width": width, "height": height}
    ground = element("rect", id=f"{number}-ground", fill="#000", **place)
    if grey_levels is not None:
        low, high = grey_levels
        step = -(-max(width, height) // LARGEST_SIDE)
        grey = np.clip((window.cut(scene.image)[::step, ::step].astype(np.float32) - low) / (high - low), 0, 1)
        buffer = io.BytesIO()
        matplotlib_image.imsave(buffer, np.stack([grey] * 3, axis=-1) if grey.ndim == 2 else grey[..., :3])
        ground = element(
            "image",
            id=f"{number}-ground",
            preserveAspectRatio="none",
            href=data_uri(buffer.getvalue(), "image/png"),
            **place,
        )
    stripes = _stripes(f"{number}-stripes", max(width, height) / 60)
    return element("svg", element("defs", ground, stripes), class_="shared", width=0, height=0, aria_hidden="true")


def _stripes(name: str, step: float) -> str:
    """The pattern of missed lesions, stripes ``step`` apart."""
    return element(
        "pattern",
        element("rect", width=step, height=step, fill="#D55E00"),
        element("rect", width=step / 4, height=step, fill="#000"),
        id=name,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
        width=step,
        height=step,
    )


def _drawn(kind: str, path: str, number: str) -> str:
    """A path with what lies below it."""
    style = {"style": f"fill:url(#{number}-stripes)"} if kind == "missed" else {}
    casing = element("path", class_=CASINGS[kind], d=path) if kind in CASINGS else ""
    return casing + element("path", class_=kind, d=path, **style)


def _path(kind: str, mask: BoolArray, window: _Window) -> tuple[str, str]:
    return kind, mask_path(window.cut(mask).astype(bool), (window.columns.start, window.rows.start))


def _panel(number: str, window: _Window, aspect: float, paths: Sequence[tuple[str, str]], title: str, told: str) -> str:
    """A slice with the borders of masks; ``told`` stands below its title, and is read aloud with it."""
    drawn = [_drawn(kind, path, number) for kind, path in paths if path]
    box = (
        window.columns.start,
        window.rows.start * aspect,
        window.columns.stop - window.columns.start,
        (window.rows.stop - window.rows.start) * aspect,
    )
    picture = element(
        "svg",
        element("g", element("use", href=f"#{number}-ground"), *drawn, transform=f"scale(1 {aspect:g})"),
        viewBox=" ".join(f"{value:g}" for value in box),
        role="img",
        aria_label=title if title == told else f"{title}: {told}",
    )
    caption = element("b", escape(title)) + ("" if title == told else element("span", escape(told)))
    return element("figure", picture, element("figcaption", caption), class_="panel")


def legend() -> str:
    """What the colours of the panels mean."""
    samples = [
        element(
            "svg",
            *([element("defs", _stripes("legend-stripes", 4.0))] if kind == "missed" else []),
            element("rect", width=30, height=18, fill="#444"),
            _drawn(kind, "M5 4H25V14H5Z", "legend"),
            viewBox="0 0 30 18",
            aria_hidden="true",
        )
        + escape(text)
        for kind, text in LEGEND.items()
    ]
    return element("ul", *(element("li", sample) for sample in samples), class_="legend")
