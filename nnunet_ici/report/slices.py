"""Slices through the lesions of a case as SVG: found lesions, missed lesions and false predictions of each model."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import image as matplotlib_image

from nnunet_ici.command import plural
from nnunet_ici.drawing import AXIAL, Plane, Scene, View, around, mask_path, scale_bar, to_gray, whole
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.report.overlap import KINDS, choose_slices, count_in_slice, find_tiny, overlap_codes
from nnunet_ici.report.rendering import data_uri

__all__ = ["DrawnSlice", "Frame", "ModelPanel", "draw_scene"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Matchings = dict[str, Matching]
Paths = list[tuple[str, str]]  # kind and SVG path of each area, bottom layer first

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


class Frame(NamedTuple):
    """A part of a slice, in pixels, and the image behind the outlines as a data URI; "" for black."""

    x: int
    y: int
    width: int
    height: int
    image: str


class ModelPanel(NamedTuple):
    """A picture of a slice: "image", "label" or the name of a model; its counts; and its areas."""

    title: str
    summary: str = ""
    paths: Sequence[tuple[str, str]] = ()


class DrawnSlice(NamedTuple):
    """A row of panels.

    Attributes:
        title: class, plane, reason for the choice, and position of the slice.
        frame: part of the slice shown in the panels.
        overview: the whole slice if the panels show only a part of it, otherwise None.
        overview_paths: areas of the overview.
        outline: SVG path of the label in the frame, shared by most panels; "" if the label is empty there.
        aspect: height of a pixel divided by its width.
        sides: letters at the left, right, top and bottom edge.
        bar: length of the scale bar in pixels, and its text.
        panels: from left to right.
    """

    title: str
    frame: Frame
    overview: Frame | None
    overview_paths: Paths
    outline: str
    aspect: float
    sides: Sequence[str]
    bar: tuple[float, str]
    panels: list[ModelPanel]


@dataclass(frozen=True, eq=False)
class _Cut:
    """One slice, or the projection of all slices, of one class: its arrays, (H, W)."""

    title: str
    plane: Plane
    index: int | None
    label: BoolArray
    codes: dict[str, Codes]
    image: FloatArray | None


def draw_scene(scene: Scene, scheme: LabelScheme, brief: bool = False, overlap: float = 0.0) -> list[DrawnSlice]:
    """Draw the slices of one case. Each slice has one panel for the image, one for the label, and one per model.

    The slices of a volume are chosen by :func:`~nnunet_ici.report.overlap.choose_slices`. If there are many lesions or
    false predictions, a projection of all slices is added. A case drawn in brief has only the first slice, and the
    projection if that slice does not show every lesion and false prediction.

    Args:
        scene: label map, image, and the label map of each model.
        scheme: classes of the label maps.
        brief: whether to draw the case in brief, which takes a few kilobytes.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel.
    """
    drawn = []
    for name in scheme.classes:
        masks = {model: scheme.masks(name, scene.label, map_) for model, map_ in scene.maps.items()}
        matchings = {model: match_instances(*pair, overlap=overlap) for model, pair in masks.items()}
        codes = {model: overlap_codes(*pair, matchings[model]) for model, pair in masks.items()}
        label = scheme.masks(name, scene.label, scene.label)[0]
        cuts = list(_slices(name, scene, label, codes))[: 1 if brief else None]
        totals = {model: one.label_instances + one.false_instances for model, one in matchings.items()}
        hidden = any(
            totals[model] > sum(count_in_slice(one, cuts[0].plane, cuts[0].index).values())
            for model, one in matchings.items()
        )
        if label.ndim == 3 and (hidden if brief else max(totals.values()) >= MANY_LESIONS):
            projections = {model: one.max(axis=0) for model, one in codes.items()}
            image = None if scene.image is None else to_gray(scene.image.mean(axis=0))
            title = f"{name}: {AXIAL.name} projection of all slices"
            cuts.append(_Cut(title, AXIAL, None, np.any(label, axis=0), projections, image))
        drawn += [_draw(cut, scene, matchings, brief) for cut in cuts]
    return drawn


def _slices(name: str, scene: Scene, label: BoolArray, codes: dict[str, Codes]) -> Iterator[_Cut]:
    """The slices of a class; the whole image if it is 2D."""
    for plane, index, why in choose_slices(label, list(codes.values())):
        if index is None:
            yield _Cut(name, plane, None, label, codes, scene.image)
        else:
            position = f"{plane.coordinate} = {scene.position_mm(plane, index):.1f} {scene.unit} (slice {index})"
            yield _Cut(
                f"{name}: {plane.name} slice {why}, {position}",
                plane,
                index,
                plane.slices(label)[index],
                {model: plane.slices(one)[index] for model, one in codes.items()},
                None if scene.image is None else plane.slices(scene.image)[index],
            )


def _draw(cut: _Cut, scene: Scene, matchings: Matchings, brief: bool) -> DrawnSlice:
    height_mm, width_mm = scene.pixel_mm(cut.plane)
    aspect = height_mm / width_mm
    view = around(cut.label | np.any(list(cut.codes.values()), axis=0), MARGIN_PIXELS, SMALLEST_SIDE)
    frame = _frame(view, cut, BRIEF_SIDE if brief else LARGEST_SIDE, brief)
    longer = max(frame.width, frame.height * aspect)
    counts = {model: count_in_slice(matching, cut.plane, cut.index) for model, matching in matchings.items()}
    lesions = max(of_model["found"] + of_model["missed"] for of_model in counts.values())
    outline = _paths(view, {"label": cut.label})
    panels = [ModelPanel("image")] * (cut.image is not None)
    panels.append(ModelPanel("label", plural(lesions, "lesion"), [("inside", path) for _, path in outline] + outline))
    for model, codes in cut.codes.items():
        areas = _paths(view, {kind: codes == code for code, kind in enumerate(KINDS) if code})
        pixels, tiny = find_tiny(codes, longer * TINY, aspect)
        edges = _paths(view, {"label": cut.label & ~pixels})
        summary = ", ".join(f"{kind}: {number}" for kind, number in counts[model].items())
        panels.append(ModelPanel(model, summary, areas + edges + _rings(tiny, longer * RING, aspect)))
    entire = whole(cut.label.shape)
    cropped = frame.width * frame.height < NEARLY_ALL * cut.label.size
    length = scale_bar(frame.width * width_mm)
    return DrawnSlice(
        cut.title,
        frame,
        _frame(entire, cut, OVERVIEW_SIDE, brief) if cropped else None,
        _paths(entire, {"label": cut.label}) if cropped else [],
        outline[0][1] if outline else "",
        aspect,
        cut.plane.sides,
        (length / width_mm, f"{length:g} {scene.unit}"),
        panels,
    )


def _paths(view: View, masks: dict[str, BoolArray]) -> Paths:
    """Outlines of masks in a view, by kind. Masks that are empty in the view are left out."""
    paths = [(kind, mask_path(view.cut(mask), view.corner[::-1])) for kind, mask in masks.items()]
    return [(kind, path) for kind, path in paths if path]


def _rings(tiny: Sequence[tuple[str, float, float]], radius: float, aspect: float) -> Paths:
    """Rings around the tiny instances, by kind, with a radius in pixel widths. They are round in the stretched page."""
    circles: dict[str, str] = {}
    for kind, x, y in tiny:
        arc = f"a{radius:.2f} {radius / aspect:.2f} 0 1 0"
        circle = f"M{x - radius:.2f} {y:.2f}{arc} {2 * radius:.2f} 0{arc} {-2 * radius:.2f} 0Z"
        circles[f"ring {kind}"] = circles.get(f"ring {kind}", "") + circle
    return list(circles.items())


def _frame(view: View, cut: _Cut, largest: int, brief: bool) -> Frame:
    """The part of a slice in a view. The longer side of its image has at most ``largest`` pixels."""
    height, width = view.cut(cut.label).shape
    row, column = view.corner
    if cut.image is None:
        return Frame(column, row, width, height, "")
    step = -(-max(height, width) // largest)
    gray = view.cut(cut.image)[::step, ::step]
    rgb = np.stack([gray] * 3, axis=-1) if gray.ndim == 2 else gray[..., :3]
    lossless = not brief and rgb.shape[0] * rgb.shape[1] <= MOST_LOSSLESS
    buffer = io.BytesIO()
    options = {"lossless": True} if lossless else {"quality": QUALITY[brief]}
    matplotlib_image.imsave(buffer, rgb, format="webp", pil_kwargs=options)
    return Frame(column, row, width, height, data_uri(buffer.getvalue(), "image/webp"))
