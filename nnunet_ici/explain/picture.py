"""The picture: blocks of panels, the values of the terms, a color bar and a legend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from nnunet_ici.command import plural
from nnunet_ici.drawing import FALSE, FOUND, LABEL, MISSED, SURPLUS, Scene, View, whole
from nnunet_ici.explain.panels import DASHES, NO_SHARE, SMALLEST_SHARE, Panel
from nnunet_ici.explain.shares import LOSSES, Explained
from nnunet_ici.explain.views import choose_views, not_in_view

__all__ = ["NEGATIVE", "draw", "has_negative"]

NEGATIVE = (
    "A share below 0 (purple) lowers the loss: in the PQ loss, a lesion that is not yet a hit although its soft Dice "
    "exceeds one half."
)
COLUMNS, LINES = 4, 2  # panels of a view
# Inches.
HEAD, TITLE, LEGEND, BAR, GAP, BESIDE = 0.85, 0.28, 1.0, 0.95, 0.08, 1.2
WIDTHS = (3.2, 7.0)  # minimum and maximum width of a panel; a slice of a volume has the minimum
RATIOS = (0.5, 1.5)  # minimum and maximum height of a panel divided by its width


def draw(explained: Explained, scene: Scene, title: str, count: int = 6) -> Figure:
    """Draw how the losses see a label and a prediction.

    Each view has two lines of panels: label, prediction and center cubes, then the shares in each loss. A 2D image is
    one view. In a volume, each view is the region around one instance in a slice, with the whole slice beside it.

    Args:
        explained: terms and shares.
        scene: as in :class:`~nnunet_ici.explain.panels.Panel`.
        title: title of the picture.
        count: maximum number of views of a volume.
    """
    flat = scene.label.ndim == 2
    height_mm, width_mm = scene.pixel_mm(scene.plane)
    views = [whole(scene.label.shape)] if flat else choose_views(explained, scene, count)
    views = [_within_ratio(view, height_mm / width_mm) for view in views]
    pixels = views[0].columns[1] - views[0].columns[0]
    width = float(np.clip(pixels / 100, *WIDTHS)) if flat else WIDTHS[0]
    heights = [width * _ratio(view, height_mm / width_mm) for view in views]
    left = GAP if flat else BESIDE
    size = (left + COLUMNS * (width + GAP) + BAR, HEAD + LEGEND + LINES * sum(h + TITLE for h in heights))
    figure = Figure(figsize=size, dpi=120)
    FigureCanvasAgg(figure)

    def add_axes(x: float, y: float, wide: float, high: float) -> Axes:
        return figure.add_axes((x / size[0], y / size[1], wide / size[0], high / size[1]))

    colors, norm = _scale(explained)
    left_out = False
    bottom = size[1] - HEAD
    for view, height in zip(views, heights, strict=True):
        for position, (name, paint) in enumerate(_contents(explained, colors, norm).items()):
            column = position % COLUMNS
            if not column:
                bottom -= TITLE + height
            panel = Panel(add_axes(left + column * (width + GAP), bottom, width, height), explained, scene, view, width)
            paint(panel)
            panel.axis.set_title(name, fontsize=10, pad=4)
            left_out |= panel.left_out
        if not flat:
            top = bottom + 2 * height + TITLE
            _locate(add_axes(0.05, top - 1.0 - left, left - 0.15, left - 0.15), scene, view)
            text = _view_title(explained, scene, view)
            figure.text((left - 0.1) / size[0], top / size[1], text, fontsize=9, ha="right", va="top")

    font = min(12, 105 * size[0] / len(title))
    figure.text(0.5, 1 - 0.12 / size[1], title, ha="center", va="top", fontsize=font, fontweight="bold")
    summary = _summary(explained, scene, views, left_out)
    figure.text(0.5, 1 - 0.42 / size[1], summary, ha="center", va="top", fontsize=9.5)
    beside = add_axes(size[0] - BAR + 0.05, size[1] - HEAD - 2 * (TITLE + heights[0]), 0.16, heights[0])
    bar = figure.colorbar(ScalarMappable(norm, colors), cax=beside)
    bar.set_label("share in the loss", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _add_legend(figure)
    if norm.vmin:
        figure.text(0.5, 0.05 / size[1], NEGATIVE, ha="center", va="bottom", fontsize=9)
    return figure


def _ratio(view: View, pixel_aspect: float) -> float:
    """Height of a view divided by its width, as drawn."""
    return (view.rows[1] - view.rows[0]) * pixel_aspect / (view.columns[1] - view.columns[0])


def _within_ratio(view: View, pixel_aspect: float) -> View:
    """The view, padded at both ends so that its height divided by its width is within :data:`RATIOS`."""
    ratio = _ratio(view, pixel_aspect)

    def padded(edges: tuple[float, float], factor: float) -> tuple[float, float]:
        more = (max(factor, 1) - 1) * (edges[1] - edges[0]) / 2
        return edges[0] - more, edges[1] + more

    return replace(view, rows=padded(view.rows, RATIOS[0] / ratio), columns=padded(view.columns, ratio / RATIOS[1]))


def has_negative(explained: Explained) -> bool:
    """Whether the share of an instance in a loss is below 0."""
    return any(shares.min() <= -SMALLEST_SHARE for shares in _shares(explained))


def _shares(explained: Explained) -> list[np.ndarray]:
    sides = (explained.label, explained.predicted)
    return [shares for loss in LOSSES for side in sides if (shares := side.share_of(loss)).size]


def _scale(explained: Explained) -> tuple[Colormap, Normalize]:
    """The color scale of the shares: from 0 to the largest; diverging around 0 if a share is negative."""
    largest = max((float(np.abs(shares).max()) for shares in _shares(explained)), default=0.0) or 1.0
    if has_negative(explained):
        return colormaps["PuOr_r"], Normalize(-largest, largest)
    return colormaps["viridis"], Normalize(0, largest)


def _contents(explained: Explained, colors: Colormap, norm: Normalize) -> dict[str, Callable[[Panel], None]]:
    """The drawing function of each panel, by title."""

    def shares(loss: str) -> Callable[[Panel], None]:
        return lambda panel: panel.draw_shares(loss, colors, norm)

    titles = {
        "ICI": "ICI (instance + center)",
        "DICI": "DICI (ICI + predicted)",
        "LesionWise": "lesion-wise",
        "PQ": "PQ",
        "blob": "blob loss",
    }
    return {
        "label instances": Panel.draw_label,
        "predicted instances and pairs": Panel.draw_prediction,
        f"center cubes: {explained.terms['center']:.3f}": Panel.draw_centers,
        **{f"{titles[loss]}: {explained.value_of(loss):.3f}": shares(loss) for loss in LOSSES},
    }


def _locate(axis: Axes, scene: Scene, view: View) -> None:
    """Draw the whole slice, with a frame around the view."""
    ids = np.maximum(scene.label, scene.maps["predicted"])
    image = 1 - 0.5 * (ids > 0) if scene.image is None else scene.image
    height, width = ids.shape[1:]
    aspect = np.divide(*scene.pixel_mm(scene.plane))
    axis.imshow(image[view.index], cmap="gray", vmin=0, vmax=1, aspect=aspect)
    top, bottom = np.clip(view.rows, -0.5, height - 0.5)
    left, right = np.clip(view.columns, -0.5, width - 0.5)
    frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=1.2)
    frame.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
    axis.add_patch(frame)
    axis.set(xticks=[], yticks=[], anchor="NE")


def _view_title(explained: Explained, scene: Scene, view: View) -> str:
    """Name, kind, size and slice of the instance at the center of a view."""
    assert view.index is not None
    position = scene.position_mm(scene.plane, view.index)
    location = f"slice {view.index}\n{scene.plane.coordinate} = {position:.1f} {scene.unit}"
    if not view.name:
        return location
    side = explained.label if view.name[0] == explained.label.prefix else explained.predicted
    number = int(view.name[1:])
    kinds = ("found", "missed") if side is explained.label else ("touching", "false")
    voxels = plural(int(side.size[number - 1]), "voxel")
    return f"{view.name}\n{kinds[int(side.unmatched[number - 1])]}\n{voxels}\n{location}"


def _summary(explained: Explained, scene: Scene, views: list[View], left_out: bool) -> str:
    """The values of the terms, the numbers of instances, and the numbers of instances not drawn."""
    terms = "   ".join(f"{name} {value:.3f}" for name, value in explained.terms.items()).replace("dice", "Dice loss")
    label, predicted = explained.label, explained.predicted
    counts = (
        f"label instances: {len(label)}, missed {np.count_nonzero(label.unmatched)}; "
        f"predicted instances: {len(predicted)}, false {np.count_nonzero(predicted.unmatched)}"
    )
    if views[0].index is not None:
        unseen = not_in_view(scene, views)
        counts += f"; not drawn: {unseen[0]} label, {unseen[1]} predicted"
    if left_out:
        counts += "; some numbers do not fit, see the table"
    return f"{terms}\n{counts}"


def _add_legend(figure: Figure) -> None:
    halo = [withStroke(linewidth=2.5, foreground="black")]
    handles = [
        Patch(facecolor=FOUND, label="found label or touching prediction"),
        Patch(facecolor=MISSED, label="missed label"),
        Patch(facecolor=FALSE, label="false prediction"),
        Line2D([], [], color=LABEL, label="outline of a label"),
        Line2D([], [], color="black", marker="o", markerfacecolor=LABEL, label="touching pair (dot: label)"),
        Patch(facecolor="none", edgecolor=LABEL, label="cube of a label"),
        Patch(facecolor="none", edgecolor=FOUND, label="cube of a touching prediction (false: yellow)"),
        Patch(facecolor=MISSED, label="center error: label cube not covered"),
        Patch(facecolor=SURPLUS, label="center error: predicted cube outside label cubes"),
        Line2D([], [], color="black", label="shares: outline of a label"),
        Line2D([], [], color="white", linestyle=DASHES, path_effects=halo, label="shares: outline of a prediction"),
        Patch(facecolor=NO_SHARE, label="prediction without a share"),
    ]
    top = (LEGEND - 0.05) / figure.get_figheight()
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=4, frameon=False, fontsize=9)
