"""The picture: rows of panels, the values of the terms, a color bar and a legend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from nnunet_ici.command import plural
from nnunet_ici.drawing import FALSE, FOUND, LABEL, MISSED, SURPLUS, View, whole_image
from nnunet_ici.explain.canvas import Canvas, Window
from nnunet_ici.explain.panels import DASHES, NO_SHARE, Panel
from nnunet_ici.explain.shares import LOSSES, Explained
from nnunet_ici.explain.views import choose_views, not_in_view

__all__ = ["draw"]

COLORS = colormaps["viridis"]
# Inches.
HEAD, TITLE, LEGEND, BAR, GAP = 0.85, 0.32, 1.0, 0.95, 0.08
FLAT, SLICE = (4.3, 7.0), 2.6  # panel width: minimum and maximum for a 2D image; width for a slice


def draw(canvas: Canvas, title: str, count: int = 6) -> Figure:
    """Draw how the losses see a label and a prediction.

    A 2D image is drawn whole, in two rows of panels: label, prediction and center cubes, then the shares in each loss.
    A volume has one row of these panels per slice. Each slice is chosen for one instance, and the panels show the
    region around it. The whole slice is shown beside the row.

    Args:
        canvas: arrays to draw.
        title: title of the picture.
        count: maximum number of slices of a volume.
    """
    flat = canvas.label_ids.ndim == 2
    if flat:
        views = [_within_ratio(whole_image(canvas.label_ids.shape), canvas.pixel_aspect)]
    else:
        views = choose_views(canvas.explained, canvas.label_ids, canvas.predicted_ids, count, canvas.pixel_aspect)
    columns, lines = (4, 2) if flat else (8, len(views))
    width, height = _panel_inches(canvas, views[0]) if flat else (SLICE, SLICE)
    left, between = (GAP, TITLE) if flat else (1.2, GAP)
    size = (left + columns * (width + GAP) + BAR, HEAD + TITLE + lines * height + (lines - 1) * between + LEGEND)
    figure = Figure(figsize=size, dpi=120)
    FigureCanvasAgg(figure)
    norm = Normalize(0, _largest_share(canvas.explained))

    left_out = False
    for row, view in enumerate(views):
        window = Window(canvas, view)
        for position, (name, paint) in enumerate(_contents(canvas.explained, norm).items()):
            line, column = divmod(position, columns) if flat else (row, position)
            bottom = size[1] - HEAD - TITLE - (line + 1) * height - line * between
            place = (left + column * (width + GAP), bottom, width, height)
            axis = figure.add_axes(tuple(np.divide(place, (*size, *size))))
            panel = Panel(axis, window, (width, height), 8 if flat else 7)
            if position == 0:
                panel.mark(canvas.plane.sides, canvas.pixel_mm[1], canvas.geometry.unit)
            paint(panel)
            left_out |= panel.left_out
            if line == 0 or flat:
                axis.set_title(name, fontsize=10, pad=4)
            if column == 0 and view.index is not None:
                inches = (0.05, bottom + 0.05, left - 0.15, 0.45 * height)
                _locate(figure.add_axes(tuple(np.divide(inches, (*size, *size)))), canvas, view)
                title_place = (left - 0.1) / size[0], (bottom + height) / size[1]
                figure.text(*title_place, _row_title(canvas, view), fontsize=9, ha="right", va="top")

    figure.text(
        0.5,
        1 - 0.12 / size[1],
        title,
        ha="center",
        va="top",
        fontsize=min(12, 105 * size[0] / len(title)),
        fontweight="bold",
    )
    figure.text(0.5, 1 - 0.42 / size[1], _summary(canvas, views, left_out), ha="center", va="top", fontsize=9.5)
    bar_bottom = size[1] - HEAD - TITLE - height - (height + between if flat else 0)  # beside the first panel of shares
    place = (size[0] - BAR + 0.05, bar_bottom, 0.16, height)
    bar_axis = figure.add_axes(tuple(np.divide(place, (*size, *size))))
    bar = figure.colorbar(ScalarMappable(norm, COLORS), cax=bar_axis)
    bar.set_label("share in the loss", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _add_legend(figure)
    return figure


def _panel_inches(canvas: Canvas, view: View) -> tuple[float, float]:
    """Width and height of a panel of a 2D image, in inches."""
    pixels = view.columns[1] - view.columns[0]
    width = float(np.clip(pixels / 100, *FLAT))
    return width, width * (view.rows[1] - view.rows[0]) * canvas.pixel_aspect / pixels


def _within_ratio(view: View, pixel_aspect: float) -> View:
    """The view, padded at both ends of a long image so that its height is 0.5 to 1.5 times its width."""
    height, width = (view.rows[1] - view.rows[0]) * pixel_aspect, view.columns[1] - view.columns[0]
    more_rows = max(0.5 * width - height, 0) / pixel_aspect / 2
    more_columns = max(height / 1.5 - width, 0) / 2
    return View(
        view.index,
        (view.rows[0] - more_rows, view.rows[1] + more_rows),
        (view.columns[0] - more_columns, view.columns[1] + more_columns),
    )


def _largest_share(explained: Explained) -> float:
    """The upper end of the color scale; 1 if no instance has a share."""
    shares = [side.share_of(loss) for loss in LOSSES for side in (explained.label, explained.predicted)]
    return max([float(of_side.max()) for of_side in shares if of_side.size and of_side.max() > 0], default=1.0)


def _contents(explained: Explained, norm: Normalize) -> dict[str, Callable[[Panel], None]]:
    """The drawing function of each panel, by title."""

    def shares(loss: str) -> Callable[[Panel], None]:
        return lambda panel: panel.draw_shares(loss, COLORS, norm)

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


def _locate(axis: Axes, canvas: Canvas, view: View) -> None:
    """Draw the whole slice, with a frame around the view of the row."""
    assert view.index is not None
    if canvas.background is None:
        ids = np.maximum(canvas.label_ids, canvas.predicted_ids)[view.index]
        axis.imshow(ids > 0, cmap="gray_r", vmin=0, vmax=2, aspect=canvas.pixel_aspect)
    else:
        axis.imshow(canvas.background[view.index], cmap="gray", vmin=0, vmax=1, aspect=canvas.pixel_aspect)
    height, width = canvas.label_ids.shape[1:]
    top, bottom = np.clip(view.rows, -0.5, height - 0.5)
    left, right = np.clip(view.columns, -0.5, width - 0.5)
    frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=1.2)
    frame.set_path_effects([withStroke(linewidth=2.6, foreground="black")])
    axis.add_patch(frame)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_anchor("SE")


def _row_title(canvas: Canvas, view: View) -> str:
    assert view.index is not None
    explained, plane = canvas.explained, canvas.plane
    position = canvas.geometry.position_mm(plane, view.index)
    location = f"slice {view.index}\n{plane.coordinate} = {position:.1f} mm"
    if not view.name:
        return location
    side = explained.label if view.name[0] == explained.label.prefix else explained.predicted
    number = int(view.name[1:])
    kinds = ("found", "missed") if side is explained.label else ("touching", "false")
    voxels = plural(int(side.size[number - 1]), "voxel")
    return f"{view.name}\n{kinds[int(side.unmatched[number - 1])]}\n{voxels}\n{location}"


def _summary(canvas: Canvas, views: list[View], left_out: bool) -> str:
    """The values of the terms, the numbers of instances, and the numbers of instances not drawn."""
    explained = canvas.explained
    terms = "   ".join(f"{name} {value:.3f}" for name, value in explained.terms.items()).replace("dice", "Dice loss")
    label, predicted = explained.label, explained.predicted
    counts = (
        f"label instances: {len(label)}, missed {np.count_nonzero(label.unmatched)}; "
        f"predicted instances: {len(predicted)}, false {np.count_nonzero(predicted.unmatched)}"
    )
    if views[0].index is not None:
        unseen = not_in_view(explained, canvas.label_ids, canvas.predicted_ids, views)
        counts += f"; not drawn: {unseen[0]} label, {unseen[1]} predicted"
    if left_out:
        counts += "; some numbers do not fit, see the table"
    return f"{terms}\n{counts}"


def _add_legend(figure: Figure) -> None:
    halo = [withStroke(linewidth=2.5, foreground="black")]
    figure.legend(
        handles=[
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
        ],
        loc="lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
