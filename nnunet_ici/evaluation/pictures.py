"""Pictures of cases: the image, the label, and what each model found, missed and made up."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunet_ici.evaluation.folders import FILE_ENDINGS, Case
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.evaluation.summary import Row
from nnunet_ici.images import read_image

__all__ = [
    "Scene",
    "choose_cases",
    "choose_slices",
    "draw_cases",
    "draw_scene",
    "find_image",
    "grey_window",
    "outline",
    "read_scene",
]

Array = npt.NDArray[np.generic]
BoolArray = npt.NDArray[np.bool_]

# From the palette of Okabe and Ito; they differ in lightness too.
FOUND, MISSED, FALSE, LABEL = "#56B4E9", "#D55E00", "#F0E442", "#CC79A7"
PANEL_INCHES = 4.0
# What cases are ranked by, as far as it was computed; every family has one of them.
SCORES = ("isles.lesion_f1", "atlas22.lesion_f1", "detection.lesion_dice", "paper.dsc")
MARGIN_PIXELS = 4


@dataclass(frozen=True, eq=False)
class Scene:
    """All that is drawn of one case, each array as (H, W) or (D, H, W); the image may have a last axis for RGB.

    Attributes:
        image: grey values, or RGB.
        label: the ground truth's label map.
        predictions: each model's label map.
        pixel_aspect: height of a pixel over its width.
    """

    image: Array
    label: Array
    predictions: dict[str, Array]
    pixel_aspect: float = 1.0


def choose_cases(rows: Sequence[Row], count: int) -> list[tuple[str, str]]:
    """Choose cases evenly from worst to best, by lesion F1, then Dice, of the first model, averaged over the classes.

    Of the families computed the first is taken that has them.

    Returns:
        For each chosen case, worst first: what it is ("worst", "median", "best", or its rank) and its name. Fewer than
        ``count`` where there are fewer cases.
    """
    scores: dict[str, list[list[float]]] = {}
    by = [name for name in SCORES if rows and name in rows[0]]
    for row in rows:
        if row["model"] == rows[0]["model"]:
            scores.setdefault(str(row["case"]), []).append([float(row[name]) for name in by])
    ranked = sorted(scores, key=lambda case: (*np.mean(scores[case], axis=0), case))
    last = len(ranked) - 1
    roles = {last // 2: "median", last: "best", 0: "worst"}
    ranks = dict.fromkeys(last * step // max(count - 1, 1) for step in range(count)) if ranked else {}
    return [(roles.get(rank, f"rank {rank + 1} of {last + 1}"), ranked[rank]) for rank in ranks]


def draw_cases(
    cases: Sequence[Case], rows: Sequence[Row], scheme: LabelScheme, image_folder: Path, count: int
) -> tuple[dict[str, bytes], list[str]]:
    """Draw the worst, median and best case, or more.

    Args:
        cases: the files of all cases.
        rows: the metrics of all cases.
        scheme: the meaning of the label maps.
        image_folder: holds ``CASE_0000.ENDING`` as nnU-Net names it, or ``CASE.ENDING``.
        count: number of pictures.

    Returns:
        PNG files by name, and the problems found, one sentence each.
    """
    files = {case.name: case for case in cases}
    pictures = {}
    problems = []
    for position, (role, name) in enumerate(choose_cases(rows, count), start=1):
        try:
            scene = read_scene(files[name], find_image(image_folder, name, scheme.file_ending))
        except ValueError as error:
            problems.append(str(error))
            continue
        figure = draw_scene(scene, scheme, f"{name} ({role})")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        pictures[f"{position}_{role.replace(' ', '_')}_{name}.png"] = buffer.getvalue()
    return pictures, problems


def find_image(folder: Path, case: str, file_ending: str | None) -> Path:
    """The image of a case, as nnU-Net names it (the first channel), or of the case's name.

    Raises:
        ValueError: if there is none.
    """
    endings = dict.fromkeys((*((file_ending,) if file_ending else ()), *FILE_ENDINGS))
    candidates = [folder / f"{case}{channel}{ending}" for ending in endings for channel in ("_0000", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"no image for case {case}. Expected: {candidates[0]}, or another ending. Got: no such file")


def read_scene(case: Case, image_path: Path | None) -> Scene:
    """Read all files of a case, 3D ones turned so that the slices are axial, front up and the patient's right left.

    Args:
        case: its files; a prediction that is None counts as empty.
        image_path: None for a black image.

    Raises:
        ValueError: if a file cannot be read, or has another size than the label.
    """
    label = read_image(case.label)
    paths = [image_path, *case.predictions.values()]
    images = [label * 0 if path is None else read_image(path) for path in paths]
    for path, other in zip(paths, images, strict=True):
        if other.GetSize() != label.GetSize():
            raise ValueError(
                f"{path} has another size than its label. Expected: {label.GetSize()}, as {case.label}. "
                f"Got: {other.GetSize()}"
            )
        other.CopyInformation(label)
    images.append(label)
    if label.GetDimension() == 3:
        images = [sitk.DICOMOrient(other, "LPS") for other in images]
    width_mm, height_mm = images[0].GetSpacing()[:2]
    image_array, *predictions, label_array = map(sitk.GetArrayFromImage, images)
    return Scene(image_array, label_array, dict(zip(case.predictions, predictions, strict=True)), height_mm / width_mm)


def draw_scene(scene: Scene, scheme: LabelScheme, title: str) -> Figure:
    """Draw one case: a column each for the image, the label and every model; a row for each class and slice.

    Of a volume the slice with most lesion voxels is drawn, and where there are any, the slices with most voxels of
    missed and of false lesions.
    """
    rows = []  # class, slice index (None in 2D), label mask, matching by model
    for name in scheme.classes:
        label_mask = scheme.masks(name, scene.label, scene.label)[0]
        matchings = {
            model: match_instances(*scheme.masks(name, scene.label, prediction))
            for model, prediction in scene.predictions.items()
        }
        rows += [(name, index, label_mask, matchings) for index in choose_slices(label_mask, matchings)]

    crop = _crop(scene)
    height, width = crop[0].stop - crop[0].start, crop[1].stop - crop[1].start
    columns = 2 + len(scene.predictions)
    panel_height = PANEL_INCHES * height * scene.pixel_aspect / width
    head, foot = 0.75, 0.45  # inches, for the titles and the legend
    size = (columns * PANEL_INCHES, len(rows) * panel_height + head + foot)
    figure = Figure(figsize=size, dpi=float(np.clip(width / PANEL_INCHES, 120, 300)))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    figure.subplots_adjust(0.02, foot / size[1], 0.998, 1 - head / size[1], wspace=0.02, hspace=0.02)
    window = grey_window(scene.image)
    for line, (name, index, label_mask, matchings) in zip(axes, rows, strict=True):
        for axis in line:
            _show(axis, scene.image if index is None else scene.image[index], window, scene.pixel_aspect, crop)
        label_slice = label_mask if index is None else label_mask[index]
        _overlay(line[1], label_slice, LABEL, fill=False)
        for axis, matching in zip(line[2:], matchings.values(), strict=True):
            for mask, colour in (
                (matching.found_mask(), FOUND),
                (matching.missed_mask(), MISSED),
                (matching.false_mask(), FALSE),
            ):
                _overlay(axis, mask if index is None else mask[index], colour)
        line[0].set_ylabel(name if index is None else f"{name}, slice {index}")
    for axis, text in zip(axes[0], ["image", "label", *scene.predictions], strict=True):
        axis.set_title(text)
    figure.suptitle(title, y=1 - 0.1 / size[1], va="top", fontweight="bold")
    figure.legend(
        handles=[
            Patch(facecolor="none", edgecolor=LABEL, label="label"),
            Patch(facecolor=FOUND, label="prediction that touches a lesion"),
            Patch(facecolor=MISSED, label="missed lesion"),
            Patch(facecolor=FALSE, label="false prediction"),
        ],
        loc="lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def choose_slices(label_mask: BoolArray, matchings: dict[str, Matching]) -> list[int | None]:
    """The slice with most of the label (or of the predictions, or the middle), then of missed and of false lesions."""
    if label_mask.ndim == 2:
        return [None]
    label = label_mask.sum(axis=(1, 2))
    missed = sum(matching.missed_mask().sum(axis=(1, 2)) for matching in matchings.values())
    false = sum(matching.false_mask().sum(axis=(1, 2)) for matching in matchings.values())
    chosen = [int(np.argmax(voxels)) for voxels in (label, missed, false) if np.any(voxels)]
    return list(dict.fromkeys(chosen)) or [len(label_mask) // 2]


def _crop(scene: Scene) -> tuple[slice, slice]:
    """The part of each slice that is not empty in the image, the label or a prediction, with a margin."""
    image = scene.image
    content = np.not_equal(image, image.min())
    if image.ndim > scene.label.ndim:
        content = content.any(axis=-1)
    for label_map in (scene.label, *scene.predictions.values()):
        content = content | np.not_equal(label_map, 0)
    if content.ndim == 3:
        content = content.any(axis=0)
    crop = []
    for axis, size in enumerate(content.shape):
        hits = np.flatnonzero(content.any(axis=1 - axis))
        first, last = (hits[0], hits[-1]) if hits.size else (0, size - 1)
        crop.append(slice(max(int(first) - MARGIN_PIXELS, 0), min(int(last) + 1 + MARGIN_PIXELS, size)))
    return crop[0], crop[1]


def grey_window(image: Array) -> tuple[float, float]:
    """The grey values drawn as black and white: without the darkest and the brightest half percent of the content."""
    values = image[np.isfinite(image) & np.not_equal(image, image.min())]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5))
    return float(min(low, high - 1e-6)), float(high)


def _show(
    axis: Axes, image: Array, window: tuple[float, float], pixel_aspect: float, crop: tuple[slice, slice]
) -> None:
    low, high = window
    grey = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=1, aspect=pixel_aspect, interpolation="nearest")
    rows, columns = crop
    axis.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axis.set_ylim(rows.stop - 0.5, rows.start - 0.5)
    axis.set_xticks([])
    axis.set_yticks([])


def _overlay(axis: Axes, mask: BoolArray, colour: str, fill: bool = True) -> None:
    """Draw a mask's outline along the pixels' edges, and tint the inside."""
    if fill:
        rgba = np.zeros((*mask.shape, 4), dtype=np.float32)
        rgba[..., :3] = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        rgba[..., 3] = 0.4 * mask
        axis.imshow(rgba, aspect=axis.get_aspect(), interpolation="nearest")
    axis.add_collection(LineCollection(list(outline(mask)), colors=colour, linewidths=1.2), autolim=False)


def outline(mask: BoolArray) -> npt.NDArray[np.float64]:
    """The edges between pixels inside and outside of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        (n, 2, 2): n lines from point to point, each (x, y), with the first pixel's centre at (0, 0). An empty mask has
        none.

    Example:
        >>> import numpy as np
        >>> outline(np.array([[True]])).tolist()
        [[[-0.5, -0.5], [0.5, -0.5]], [[-0.5, 0.5], [0.5, 0.5]], [[-0.5, -0.5], [-0.5, 0.5]], [[0.5, -0.5], [0.5, 0.5]]]
    """
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    across = np.stack([np.stack([x, y], axis=1), np.stack([x + 1, y], axis=1)], axis=1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    down = np.stack([np.stack([x, y], axis=1), np.stack([x, y + 1], axis=1)], axis=1)
    return np.concatenate([across, down]) - 0.5
