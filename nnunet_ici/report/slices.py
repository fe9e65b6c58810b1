"""Cases as slices through their lesions: what each model found, missed and saw where there is nothing, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import image as matplotlib_image

from nnunet_ici.drawing import View, around, grey_levels, mask_path
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.rendering import data_uri
from nnunet_ici.report.scenes import Array, Scene, choose_cases, find_image, read_scene

__all__ = ["DrawnCase", "DrawnSlice", "Panel", "draw_cases", "draw_scene"]

BoolArray = npt.NDArray[np.bool_]

MARGIN_PIXELS = 12
SMALLEST_SIDE = 72  # pixels
LARGEST_SIDE = 1024  # pixels; larger images are thinned


@dataclass(frozen=True)
class Panel:
    """A picture of a slice.

    Attributes:
        title: "image", "label", or the model.
        told: what is in it, below the title.
        paths: kind and SVG path of each outline, the lowest first.
    """

    title: str
    told: str = ""
    paths: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class DrawnSlice:
    """A row of panels.

    Attributes:
        title: class and slice.
        place: x, y, width and height of what is shown, in pixels.
        aspect: height of a pixel over its width.
        image: PNG of the place as a data URI; None for black.
        panels: from left to right.
    """

    title: str
    place: tuple[int, int, int, int]
    aspect: float
    image: str | None
    panels: list[Panel]


@dataclass(frozen=True)
class DrawnCase:
    """A case of the report.

    Attributes:
        role: "worst", "median", "best", or its rank.
        name: of the case.
        slices: of each class.
        missing: why there are no slices, one sentence each.
        turned: predictions that were turned to the axes of the ground truth.
    """

    role: str
    name: str
    slices: list[DrawnSlice] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    turned: list[Path] = field(default_factory=list)


def draw_cases(evaluation: Evaluation, image_folder: Path | None, count: int) -> tuple[list[DrawnCase], list[str]]:
    """Draw the worst, median and best case of the first model, or more.

    Args:
        evaluation: what was evaluated; files that are no longer there leave a case without slices.
        image_folder: folder of the images; None for a black ground.
        count: number of cases.

    Returns:
        The cases, worst first, and the problems found, one sentence each.
    """
    drawn = []
    problems = []
    for role, name in choose_cases(evaluation.rows, count):
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
        drawn.append(DrawnCase(role, name, draw_scene(scene, scheme), turned=scene.turned))
    return drawn, problems


def draw_scene(scene: Scene, scheme: LabelScheme) -> list[DrawnSlice]:
    """Draw the slices of one case: a panel each for the image, the label and every model.

    Of a volume the slice with most lesion voxels is drawn, and where there are any, the slices with most voxels of
    missed and of false lesions.

    Args:
        scene: the arrays.
        scheme: the meaning of the label maps.
    """
    drawn = []
    levels = None if scene.image is None else grey_levels(scene.image)
    for name in scheme.classes:
        label_mask = scheme.masks(name, scene.label, scene.label)[0]
        matchings = {
            model: match_instances(*scheme.masks(name, scene.label, prediction))
            for model, prediction in scene.predictions.items()
        }
        for index in choose_slices(label_mask, matchings):
            masks = [label_mask, *(matching.found_mask() | matching.false_mask() for matching in matchings.values())]
            content = np.any([mask if index is None else mask[index] for mask in masks], axis=0)
            view = around(content, index, MARGIN_PIXELS, SMALLEST_SIDE)
            lesions = _count(match_instances(label_mask, label_mask), index)["found"]
            panels = [Panel("image")] * (scene.image is not None)
            panels.append(Panel("label", f"lesions: {lesions}", _paths(view, label=label_mask)))
            for model, matching in matchings.items():
                missed = matching.missed_mask()
                paths = _paths(
                    view,
                    edge=label_mask & ~missed,
                    found=matching.found_mask(),
                    missed=missed,
                    false=matching.false_mask(),
                )
                counts = ", ".join(f"{kind}: {number}" for kind, number in _count(matching, index).items())
                panels.append(Panel(model, counts, paths))
            height, width = view.cut(label_mask).shape
            row, column = view.corner
            drawn.append(
                DrawnSlice(
                    name if index is None else f"{name}, slice {index}",
                    (column, row, width, height),
                    scene.pixel_aspect,
                    None if scene.image is None or levels is None else _png(view.cut(scene.image), levels),
                    panels,
                )
            )
    return drawn


def choose_slices(label_mask: BoolArray, matchings: dict[str, Matching]) -> list[int | None]:
    """The slice with most of the label (or of the predictions, or the middle), then of missed and of false lesions."""
    if label_mask.ndim == 2:
        return [None]
    label = label_mask.sum(axis=(1, 2))
    missed = sum(matching.missed_mask().sum(axis=(1, 2)) for matching in matchings.values())
    false = sum(matching.false_mask().sum(axis=(1, 2)) for matching in matchings.values())
    chosen = [int(np.argmax(voxels)) for voxels in (label, missed, false) if np.any(voxels)]
    return list(dict.fromkeys(chosen)) or [len(label_mask) // 2]


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


def _paths(view: View, **masks: BoolArray) -> list[tuple[str, str]]:
    """The outlines of masks in a view, by kind; those that are empty there are left out."""
    paths = [(kind, mask_path(view.cut(mask), view.corner[::-1])) for kind, mask in masks.items()]
    return [(kind, path) for kind, path in paths if path]


def _png(image: Array, levels: tuple[float, float]) -> str:
    """Grey values or colours, (H, W) or (H, W, C), as a data URI."""
    low, high = levels
    step = -(-max(image.shape[:2]) // LARGEST_SIDE)
    grey = np.clip((image[::step, ::step].astype(np.float32) - low) / (high - low), 0, 1)
    buffer = io.BytesIO()
    matplotlib_image.imsave(buffer, np.stack([grey] * 3, axis=-1) if grey.ndim == 2 else grey[..., :3])
    return data_uri(buffer.getvalue(), "image/png")
