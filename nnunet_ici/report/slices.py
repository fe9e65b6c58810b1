"""Cases as slices through their lesions, as SVG: what each model hit, missed and saw where there is nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import image as matplotlib_image

from nnunet_ici.drawing import AXIAL, Geometry, Plane, View, around, grey_levels, mask_path, scale_bar, whole_image
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.parallel import in_parallel
from nnunet_ici.report.overlap import KINDS, choose_slices, count_in_slice, overlap, project
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.rendering import data_uri, plural
from nnunet_ici.report.scenes import Array, Scene, choose_cases, find_image, read_scene

__all__ = ["DrawnCase", "DrawnSlice", "Frame", "Panel", "draw_cases", "draw_scene"]

BoolArray = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Paths = list[tuple[str, str]]

MARGIN_PIXELS = 10
SMALLEST_SIDE = 32  # pixels
LARGEST_SIDE = 1024  # pixels; larger images are thinned
OVERVIEW_SIDE = 160  # pixels
# A crop with at least this share of the slice needs no overview.
NEARLY_ALL = 0.7
# A case with at least this many lesions and false predictions of one model is also drawn as a projection.
MANY_LESIONS = 8


@dataclass(frozen=True)
class Frame:
    """A part of a slice, and what lies behind its outlines.

    Attributes:
        x, y, width, height: the part, in pixels.
        image: its grey values or colours as a data URI; "" for black.
    """

    x: int
    y: int
    width: int
    height: int
    image: str


@dataclass(frozen=True)
class Panel:
    """A picture of a slice.

    Attributes:
        title: "image", "label", or the model.
        told: what is in it, below the title.
        paths: kind and SVG path of each area, the lowest first.
    """

    title: str
    told: str = ""
    paths: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class DrawnSlice:
    """A row of panels.

    Attributes:
        title: class, plane, why this slice was chosen, and where it lies.
        frame: what the panels show.
        overview: the whole slice, where the panels show a part of it.
        overview_paths: kind and path of each area of the overview.
        aspect: height of a pixel over its width.
        sides: letters of what lies left, right, above and below.
        bar: length of the scale bar in pixels, and what it says.
        panels: from left to right.
    """

    title: str
    frame: Frame
    overview: Frame | None
    overview_paths: Sequence[tuple[str, str]]
    aspect: float
    sides: Sequence[str]
    bar: tuple[float, str]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class DrawnCase:
    """A case of the report.

    Attributes:
        role: "worst", "median", "best", or its rank.
        name: name of the case.
        slices: slices of each class.
        missing: the files that are no longer there: "label" or the model, and the path. Then there are no slices.
        turned: predictions that were turned to the axes of the ground truth.
    """

    role: str
    name: str
    slices: list[DrawnSlice] = field(default_factory=list)
    missing: list[tuple[str, Path]] = field(default_factory=list)
    turned: list[Path] = field(default_factory=list)


def draw_cases(evaluation: Evaluation, image_folder: Path | None, count: int) -> tuple[list[DrawnCase], list[str]]:
    """Draw cases evenly from the worst to the best one of the first model.

    Args:
        evaluation: what was evaluated; files that are no longer there leave a case without slices.
        image_folder: folder of the images; None for a black ground.
        count: number of cases.

    Returns:
        The cases, worst first, and the problems found, one sentence each.
    """

    def draw(chosen: tuple[str, str]) -> DrawnCase | str:
        role, name = chosen
        case = evaluation.cases[name]
        paths = {"label": case.label, **{model: path for model, path in case.predictions.items() if path is not None}}
        gone = [(what, path) for what, path in paths.items() if not path.is_file()]
        if gone:
            return DrawnCase(role, name, missing=gone)
        scheme = evaluation.settings.scheme
        try:
            image = None if image_folder is None else find_image(image_folder, name, scheme.file_ending)
            scene = read_scene(case, image)
        except ValueError as error:
            return str(error)
        return DrawnCase(role, name, draw_scene(scene, scheme), turned=scene.turned)

    results = in_parallel(draw, choose_cases(evaluation.rows, count), 1, "slices")
    drawn = [result for result in results if isinstance(result, DrawnCase)]
    return drawn, [result for result in results if isinstance(result, str)]


@dataclass(frozen=True)
class _Cut:
    """One slice of one class: what is called so, and its arrays, (H, W); the image may have a last axis for RGB."""

    title: str
    plane: Plane
    index: int | None
    label: BoolArray
    models: dict[str, Codes]
    image: Array | None


def draw_scene(scene: Scene, scheme: LabelScheme) -> list[DrawnSlice]:
    """Draw the slices of one case: a panel each for the image, the label and every model.

    Of a volume those of :func:`~nnunet_ici.report.overlap.choose_slices` are drawn; with many lesions or false
    predictions also the projection of all slices onto one.

    Args:
        scene: the arrays.
        scheme: the meaning of the label maps.
    """
    drawn = []
    levels = (0.0, 1.0) if scene.image is None else grey_levels(scene.image)
    for name in scheme.classes:
        masks = {model: scheme.masks(name, scene.label, map_) for model, map_ in scene.predictions.items()}
        matchings = {model: match_instances(*pair) for model, pair in masks.items()}
        codes = {model: overlap(*pair, matchings[model]) for model, pair in masks.items()}
        label = scheme.masks(name, scene.label, scene.label)[0]
        drawn += [_draw(cut, scene.geometry, levels, matchings) for cut in _cuts(name, scene, label, codes)]
        most = max(matching.label_instances + matching.false_instances for matching in matchings.values())
        if label.ndim == 3 and most >= MANY_LESIONS:
            projection = _Cut(
                f"{name}: all slices projected onto one, {AXIAL.name}",
                AXIAL,
                None,
                np.any(label, axis=0),
                {model: project(of_model) for model, of_model in codes.items()},
                None if scene.image is None else scene.image.mean(axis=0),
            )
            own_levels = levels if projection.image is None else grey_levels(projection.image)
            drawn.append(_draw(projection, scene.geometry, own_levels, matchings))
    return drawn


def _cuts(name: str, scene: Scene, label: BoolArray, codes: dict[str, Codes]) -> Iterator[_Cut]:
    """The slices of a class."""
    for plane, index, why in choose_slices(label, list(codes.values())):
        if index is None:
            yield _Cut(name, plane, None, label, codes, scene.image)
            continue
        yield _Cut(
            f"{name}: {plane.name} slice {why}, {plane.coordinate} = "
            f"{scene.geometry.position_mm(plane, index):.1f} mm (slice {index})",
            plane,
            index,
            plane.laid(label)[index],
            {model: plane.laid(of_model)[index] for model, of_model in codes.items()},
            None if scene.image is None else plane.laid(scene.image)[index],
        )


def _draw(cut: _Cut, geometry: Geometry, levels: tuple[float, float], matchings: dict[str, Matching]) -> DrawnSlice:
    height_mm, width_mm = cut.plane.pixel_mm(geometry.spacing_mm)
    content = cut.label | np.any(list(cut.models.values()), axis=0)
    view = around(content, None, MARGIN_PIXELS, SMALLEST_SIDE)
    counts = {model: count_in_slice(matching, cut.plane, cut.index) for model, matching in matchings.items()}
    lesions = max(of_model["found"] + of_model["missed"] for of_model in counts.values())
    outline = _paths(view, {"label": cut.label})
    panels = [Panel("image")] * (cut.image is not None)
    panels.append(Panel("label", plural(lesions, "lesion"), [("inside", path) for _, path in outline] + outline))
    for model, codes in cut.models.items():
        told = ", ".join(f"{kind}: {number}" for kind, number in counts[model].items())
        areas = _paths(view, {kind: codes == code for code, kind in enumerate(KINDS) if code})
        panels.append(Panel(model, told, areas + outline))
    frame = _frame(view, cut, levels, LARGEST_SIDE)
    whole = whole_image(cut.label.shape)
    cropped = frame.width * frame.height < NEARLY_ALL * cut.label.size
    length = scale_bar(frame.width * width_mm)
    return DrawnSlice(
        cut.title,
        frame,
        _frame(whole, cut, levels, OVERVIEW_SIDE) if cropped else None,
        _paths(whole, {"label": cut.label}),
        height_mm / width_mm,
        cut.plane.sides,
        (length / width_mm, f"{length:g} {geometry.unit}"),
        panels,
    )


def _paths(view: View, masks: dict[str, BoolArray]) -> Paths:
    """The outlines of masks in a view, by kind; those that are empty there are left out."""
    paths = [(kind, mask_path(view.cut(mask), view.corner[::-1])) for kind, mask in masks.items()]
    return [(kind, path) for kind, path in paths if path]


def _frame(view: View, cut: _Cut, levels: tuple[float, float], largest: int) -> Frame:
    """The part of a slice in a view, its image's longer side at most ``largest`` pixels."""
    height, width = view.cut(cut.label).shape
    row, column = view.corner
    if cut.image is None:
        return Frame(column, row, width, height, "")
    low, high = levels
    step = -(-max(height, width) // largest)
    grey = np.clip((view.cut(cut.image)[::step, ::step].astype(np.float32) - low) / (high - low), 0, 1)
    buffer = io.BytesIO()
    rgb = np.stack([grey] * 3, axis=-1) if grey.ndim == 2 else grey[..., :3]
    matplotlib_image.imsave(buffer, rgb, format="webp", pil_kwargs={"lossless": True})
    return Frame(column, row, width, height, data_uri(buffer.getvalue(), "image/webp"))
