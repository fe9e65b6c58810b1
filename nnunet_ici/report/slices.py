"""Slices through the lesions of a case, as SVG: what each model found, missed and marked falsely."""

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
LARGEST_SIDE = 1024  # pixels; larger images are thinned
BRIEF_SIDE = 256  # pixels, likewise in a case drawn briefly
OVERVIEW_SIDE = 160  # pixels
# Images with more pixels than this are compressed with loss, as are all of a case drawn briefly.
MOST_LOSSLESS = 256 * 256
QUALITY = {True: 75, False: 90}  # of compression with loss, by whether the case is drawn briefly
# A crop with at least this share of the slice needs no overview.
NEARLY_ALL = 0.7
# A case with at least this many lesions and false predictions of one model is also drawn as a projection.
MANY_LESIONS = 8
# Shares of the longer side of a panel: instances that are smaller get a ring, as their color would not be seen; and
# the radius of the ring.
TINY = 0.025
RING = 0.03


@dataclass(frozen=True)
class Frame:
    """A part of a slice, and what lies behind its outlines.

    Attributes:
        x, y, width, height: the part, in pixels.
        image: its gray values or colors as a data URI; "" for black.
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
        outline: SVG path of the label in the frame, which most panels show; "" where it is empty.
        aspect: height of a pixel over its width.
        sides: letters of what lies left, right, above and below.
        bar: length of the scale bar in pixels, and what it says.
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
    """One slice of one class: its title and its arrays, (H, W); the image may have a last axis for RGB."""

    title: str
    plane: Plane
    index: int | None
    label: BoolArray
    models: dict[str, Codes]
    image: Array | None
    levels: tuple[float, float]
    brief: bool


def draw_scene(scene: Scene, scheme: LabelScheme, brief: bool = False) -> list[DrawnSlice]:
    """Draw the slices of one case: a panel each for the image, the label and every model.

    Of a volume those of :func:`~nnunet_ici.report.overlap.choose_slices` are drawn, and with many lesions or false
    predictions the projection of all slices onto one. A case drawn briefly has the first of these slices only, and
    the projection where that slice does not show everything.

    Args:
        scene: the arrays.
        scheme: the meaning of the label maps.
        brief: whether the case is drawn briefly, in a file of a few kilobytes.
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
    """All axial slices of a class as one, on the mean of the image."""
    image = None if scene.image is None else scene.image.mean(axis=0)
    return _Cut(
        f"{name}: all slices projected onto one, {AXIAL.name}",
        AXIAL,
        None,
        np.any(label, axis=0),
        {model: project(of_model) for model, of_model in codes.items()},
        image,
        (0.0, 1.0) if image is None else gray_levels(image),
        brief,
    )


def _most(matchings: Matchings) -> int:
    """The largest number of lesions and false predictions of a model."""
    return max(matching.label_instances + matching.false_instances for matching in matchings.values())


def _is_hidden(cut: _Cut, matchings: Matchings) -> bool:
    """Whether a lesion or a false prediction lies outside of a slice."""
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
        told = ", ".join(f"{kind}: {number}" for kind, number in counts[model].items())
        areas = _paths(view, {kind: codes == code for code, kind in enumerate(KINDS) if code})
        pixels, tiny = find_tiny(codes, longer * TINY, aspect)
        edges = _paths(view, {"label": cut.label & ~pixels})
        panels.append(Panel(model, told, areas + edges + _rings(tiny, longer * RING, aspect)))
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
    """The outlines of masks in a view, by kind; those that are empty there are left out."""
    paths = [(kind, mask_path(view.cut(mask), view.corner[::-1])) for kind, mask in masks.items()]
    return [(kind, path) for kind, path in paths if path]


def _rings(tiny: Sequence[Tiny], radius: float, aspect: float) -> Paths:
    """A ring around each tiny instance, by kind: round once the page has stretched the pixels.

    Args:
        tiny: result of :func:`~nnunet_ici.report.overlap.find_tiny`.
        radius: radius of the rings, in widths of a pixel.
        aspect: height of a pixel over its width.
    """
    circles: dict[str, str] = {}
    for kind, x, y in tiny:
        arc = f"a{radius:.2f} {radius / aspect:.2f} 0 1 0"
        circle = f"M{x - radius:.2f} {y:.2f}{arc} {2 * radius:.2f} 0{arc} {-2 * radius:.2f} 0Z"
        circles[f"ring {kind}"] = circles.get(f"ring {kind}", "") + circle
    return list(circles.items())


def _frame(view: View, cut: _Cut, largest: int) -> Frame:
    """The part of a slice in a view, its image's longer side at most ``largest`` pixels."""
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
