"""Slices through the lesions of a case as SVG: found lesions, missed lesions and false predictions of each model."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import image as matplotlib_image

from nnunet_ici.command import plural
from nnunet_ici.drawing import AXIAL, Geometry, Plane, View, around, gray_levels, mask_path, scale_bar, whole_image
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.report.overlap import KINDS, Tiny, choose_slices, count_in_slice, find_tiny, overlap, project
from nnunet_ici.report.rendering import data_uri
from nnunet_ici.report.scenes import Array, Scene

__all__ = ["DrawnSlice", "Frame", "Panel", "draw_scene"]

BoolArray = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Matchings = dict[str, Matching]
Paths = list[tuple[str, str]]

MARGIN_PIXELS = 10
SMALLEST_SIDE = 32  # pixels
LARGEST_SIDE = 1024  # pixels; larger images are downsampled
BRIEF_SIDE = 256  # pixels, the same limit for a case drawn in brief
OVERVIEW_SIDE = 160  # pixels
# Images with more pixels than this use lossy compression, and so do all images of a case drawn in brief.
MOST_LOSSLESS = 256 * 256
QUALITY = {True: 75, False: 90}  # of lossy compression, by whether the case is drawn in brief
# A crop that covers at least this fraction of the slice has no overview.
NEARLY_ALL = 0.7
# A case with at least this many lesions and false predictions of one model is also drawn as a projection.
MANY_LESIONS = 8
# Fractions of the longer side of a panel: largest side of an instance that gets a ring, because its color would not be
# visible, and radius of the ring.
TINY = 0.025
RING = 0.03


@dataclass(frozen=True)
class Frame:
    """A part of a slice, and the image behind the outlines.

    Attributes:
        x, y, width, height: position and size of the part, in pixels.
        image: gray values or colors as a data URI; "" for black.
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
        title: "image", "label", or the name of the model.
        summary: numbers of lesions and predictions, shown below the title.
        paths: kind and SVG path of each area, bottom layer first.
    """

    title: str
    summary: str = ""
    paths: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class DrawnSlice:
    """A row of panels.

    Attributes:
        title: class, plane, reason for the choice, and position of the slice.
        frame: part of the slice shown in the panels.
        overview: the whole slice if the panels show only a part of it, otherwise None.
        overview_paths: kind and SVG path of each area of the overview.
        outline: SVG path of the label in the frame, shared by most panels; "" if the label is empty there.
        aspect: height of a pixel divided by its width.
        sides: letters at the left, right, top and bottom edge.
        bar: length of the scale bar in pixels, and its text.
        panels: from left to right.
    """

    title: str
    frame: Frame
    overview: Frame | None
    overview_paths: Sequence[tuple[str, str]]
    outline: str
    aspect: float
    sides: Sequence[str]
    bar: tuple[float, str]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class _Cut:
    """One slice of one class: title and arrays, (H, W). The image may have a last axis for RGB."""

    title: str
    plane: Plane
    index: int | None
    label: BoolArray
    models: dict[str, Codes]
    image: Array | None
    levels: tuple[float, float]
    brief: bool


def draw_scene(scene: Scene, scheme: LabelScheme, brief: bool = False) -> list[DrawnSlice]:
    """Draw the slices of one case. Each slice has one panel for the image, one for the label, and one per model.

    The slices of a volume are chosen by :func:`~nnunet_ici.report.overlap.choose_slices`. If there are many lesions or
    false predictions, a projection of all slices is added. A case drawn in brief has only the first slice. The
    projection is added if that slice does not show every lesion and false prediction.

    Args:
        scene: arrays of the case.
        scheme: classes of the label maps.
        brief: whether to draw the case in brief, which takes a few kilobytes.
    """
    drawn = []
    levels = (0.0, 1.0) if scene.image is None else gray_levels(scene.image)
    for name in scheme.classes:
        masks = {model: scheme.masks(name, scene.label, map_) for model, map_ in scene.predictions.items()}
        matchings = {model: match_instances(*pair) for model, pair in masks.items()}
        codes = {model: overlap(*pair, matchings[model]) for model, pair in masks.items()}
        label = scheme.masks(name, scene.label, scene.label)[0]
        cuts = list(_cuts(name, scene, label, codes, levels, brief))
        if label.ndim == 3 and (_is_hidden(cuts[0], matchings) if brief else _most(matchings) >= MANY_LESIONS):
            cuts.append(_projection(name, scene, label, codes, brief))
        drawn += [_draw(cut, scene.geometry, matchings) for cut in cuts]
    return drawn


def _cuts(
    name: str, scene: Scene, label: BoolArray, codes: dict[str, Codes], levels: tuple[float, float], brief: bool
) -> Iterator[_Cut]:
    """The slices of a class."""
    for plane, index, why in choose_slices(label, list(codes.values()))[: 1 if brief else None]:
        if index is None:
            yield _Cut(name, plane, None, label, codes, scene.image, levels, brief)
            continue
        yield _Cut(
            f"{name}: {plane.name} slice {why}, {plane.coordinate} = "
            f"{scene.geometry.position_mm(plane, index):.1f} mm (slice {index})",
            plane,
            index,
            plane.slices(label)[index],
            {model: plane.slices(of_model)[index] for model, of_model in codes.items()},
            None if scene.image is None else plane.slices(scene.image)[index],
            levels,
            brief,
        )


def _projection(name: str, scene: Scene, label: BoolArray, codes: dict[str, Codes], brief: bool) -> _Cut:
    """All axial slices of a class projected onto one, over the mean of the image."""
    image = None if scene.image is None else scene.image.mean(axis=0)
    return _Cut(
        f"{name}: {AXIAL.name} projection of all slices",
        AXIAL,
        None,
        np.any(label, axis=0),
        {model: project(of_model) for model, of_model in codes.items()},
        image,
        (0.0, 1.0) if image is None else gray_levels(image),
        brief,
    )


def _most(matchings: Matchings) -> int:
    """The number of lesions and false predictions, for the model with the most."""
    return max(matching.label_instances + matching.false_instances for matching in matchings.values())


def _is_hidden(cut: _Cut, matchings: Matchings) -> bool:
    """Whether a slice does not show every lesion and false prediction."""
    counts = (
        (matching.label_instances + matching.false_instances, count_in_slice(matching, cut.plane, cut.index))
        for matching in matchings.values()
    )
    return any(total > sum(shown.values()) for total, shown in counts)


def _draw(cut: _Cut, geometry: Geometry, matchings: Matchings) -> DrawnSlice:
    height_mm, width_mm = cut.plane.pixel_mm(geometry.spacing_mm)
    content = cut.label | np.any(list(cut.models.values()), axis=0)
    view = around(content, None, MARGIN_PIXELS, SMALLEST_SIDE)
    counts = {model: count_in_slice(matching, cut.plane, cut.index) for model, matching in matchings.items()}
    lesions = max(of_model["found"] + of_model["missed"] for of_model in counts.values())
    outline = _paths(view, {"label": cut.label})
    frame = _frame(view, cut, BRIEF_SIDE if cut.brief else LARGEST_SIDE)
    aspect = height_mm / width_mm
    longer = max(frame.width, frame.height * aspect)
    panels = [Panel("image")] * (cut.image is not None)
    panels.append(Panel("label", plural(lesions, "lesion"), [("inside", path) for _, path in outline] + outline))
    for model, codes in cut.models.items():
        summary = ", ".join(f"{kind}: {number}" for kind, number in counts[model].items())
        areas = _paths(view, {kind: codes == code for code, kind in enumerate(KINDS) if code})
        pixels, tiny = find_tiny(codes, longer * TINY, aspect)
        edges = _paths(view, {"label": cut.label & ~pixels})
        panels.append(Panel(model, summary, areas + edges + _rings(tiny, longer * RING, aspect)))
    whole = whole_image(cut.label.shape)
    cropped = frame.width * frame.height < NEARLY_ALL * cut.label.size
    length = scale_bar(frame.width * width_mm)
    return DrawnSlice(
        cut.title,
        frame,
        _frame(whole, cut, OVERVIEW_SIDE) if cropped else None,
        _paths(whole, {"label": cut.label}) if cropped else [],
        outline[0][1] if outline else "",
        aspect,
        cut.plane.sides,
        (length / width_mm, f"{length:g} {geometry.unit}"),
        panels,
    )


def _paths(view: View, masks: dict[str, BoolArray]) -> Paths:
    """Outlines of masks in a view, by kind. Masks that are empty in the view are left out."""
    paths = [(kind, mask_path(view.cut(mask), view.corner[::-1])) for kind, mask in masks.items()]
    return [(kind, path) for kind, path in paths if path]


def _rings(tiny: Sequence[Tiny], radius: float, aspect: float) -> Paths:
    """Rings around the tiny instances, by kind. They become round when the page stretches the pixels.

    Args:
        tiny: result of :func:`~nnunet_ici.report.overlap.find_tiny`.
        radius: radius of the rings in pixel widths.
        aspect: height of a pixel divided by its width.
    """
    circles: dict[str, str] = {}
    for kind, x, y in tiny:
        arc = f"a{radius:.2f} {radius / aspect:.2f} 0 1 0"
        circle = f"M{x - radius:.2f} {y:.2f}{arc} {2 * radius:.2f} 0{arc} {-2 * radius:.2f} 0Z"
        circles[f"ring {kind}"] = circles.get(f"ring {kind}", "") + circle
    return list(circles.items())


def _frame(view: View, cut: _Cut, largest: int) -> Frame:
    """The part of a slice in a view. The longer side of its image has at most ``largest`` pixels."""
    height, width = view.cut(cut.label).shape
    row, column = view.corner
    if cut.image is None:
        return Frame(column, row, width, height, "")
    low, high = cut.levels
    step = -(-max(height, width) // largest)
    gray = np.clip((view.cut(cut.image)[::step, ::step].astype(np.float32) - low) / (high - low), 0, 1)
    buffer = io.BytesIO()
    rgb = np.stack([gray] * 3, axis=-1) if gray.ndim == 2 else gray[..., :3]
    lossless = not cut.brief and rgb.shape[0] * rgb.shape[1] <= MOST_LOSSLESS
    options = {"lossless": True} if lossless else {"quality": QUALITY[cut.brief]}
    matplotlib_image.imsave(buffer, rgb, format="webp", pil_kwargs=options)
    return Frame(column, row, width, height, data_uri(buffer.getvalue(), "image/webp"))
