"""Panels of the picture: label, prediction, center cubes, and shares in a loss. Each panel shows one view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize, to_rgba
from matplotlib.patheffects import withStroke

from nnunet_ici.drawing import FALSE, FOUND, LABEL, MISSED, SURPLUS, mask_loops, scale_bar
from nnunet_ici.explain.canvas import PAPER, Box, FloatArray, IdArray, Spot, Window
from nnunet_ici.explain.shares import IN_FALSE_CUBE, IN_HIT_CUBE, IN_LABEL_CUBE, Side

__all__ = ["DASHES", "NO_SHARE", "Panel", "short"]

Array = npt.NDArray[np.generic]
BoolArray = npt.NDArray[np.bool_]
Color = str | tuple[float, float, float, float]

Dashes = str | tuple[float, tuple[float, ...]]

DASHES = (0, (4, 2))  # outlines of predictions in the panels of shares
NO_SHARE = "#9A9A9A"
MOST_NUMBERS = 50  # per panel
SMALLEST_SHARE = 0.00005  # shares closer to 0 are written as 0


class Panel:
    """Axes that show a window, with numbers placed where there is room.

    Args:
        axis: axes to draw on.
        window: window to show.
        inches: width and height of the axes; the window fills them.
        font_size: font size of the numbers in points.
    """

    def __init__(self, axis: Axes, window: Window, inches: tuple[float, float], font_size: float) -> None:
        self.axis, self.window, self.font_size = axis, window, font_size
        view = window.view
        rows, columns = view.rows[1] - view.rows[0], view.columns[1] - view.columns[0]
        inch = max(columns / inches[0], rows * window.pixel_aspect / inches[1])  # pixels per inch along a row
        self._thin = float(np.clip(window.typical_width / inch / 0.3, 0.4, 1))  # thinner lines for small instances
        self._character = 0.62 * font_size / 72 * inch
        self._line = 1.2 * font_size / 72 * inch / window.pixel_aspect
        self._taken: list[Box] = []
        self._written = 0
        self.left_out = False  # whether a number was left out for lack of room
        self._ink, self._halo = ("white", "black") if window.on_image else ("black", "white")
        self._show(window.background, cmap="gray", vmin=0, vmax=1)
        axis.set_facecolor("black" if window.on_image else str(PAPER))
        axis.set_aspect(window.pixel_aspect)
        axis.set_xlim(*view.columns)
        axis.set_ylim(*view.rows[::-1])
        axis.set_xticks([])
        axis.set_yticks([])

    def _show(self, image: Array, **options: object) -> None:
        row, column = self.window.view.corner
        height, width = image.shape[:2]
        if image.size:
            extent = (column - 0.5, column + width - 0.5, row + height - 0.5, row - 0.5)
            self.axis.imshow(image, extent=extent, aspect=self.window.pixel_aspect, interpolation="nearest", **options)  # type: ignore[arg-type]

    def fill(self, ids: IdArray, colors: Sequence[Color], alpha: float | FloatArray) -> None:
        """Tint the pixels of the instances: id i + 1 gets color i."""
        rgba = np.array([to_rgba("white"), *map(to_rgba, colors)])[ids]
        rgba[..., 3] = np.where(ids > 0, alpha, 0)
        self._show(rgba)

    def edge(self, mask: BoolArray, color: Color, width: float = 1.4, dashes: Dashes = "-") -> None:
        """Draw the outline of a mask on a wider line of contrasting lightness; thinner if instances are small."""
        corner = np.subtract(self.window.view.corner[::-1], 0.5)
        lines = [np.array([*loop, loop[0]]) + corner for loop in mask_loops(mask)]
        width *= self._thin
        casing = withStroke(linewidth=width + 1.2 * self._thin, foreground="white" if color == "black" else "black")
        self.axis.add_collection(
            LineCollection(lines, colors=[color], linewidths=width, linestyles=[dashes], path_effects=[casing]),
            autolim=False,
        )

    def mark(self, sides: Sequence[str], pixel_width: float, unit: str) -> None:
        """Draw the letters of the four sides, and a scale bar.

        Args:
            sides: letters at the left, right, top and bottom edge; empty for none.
            pixel_width: width of a pixel.
            unit: unit of the width.
        """
        (left, right), (top, bottom) = self.window.view.columns, self.window.view.rows
        across, along = 1.3 * self._character, 0.8 * self._line
        middle = (left + right) / 2, (top + bottom) / 2
        beside = [(left + across, middle[1]), (right - across, middle[1])]
        places = [*beside, (middle[0], top + along), (middle[0], bottom - along)]
        for letter, place in zip(sides, places, strict=False):
            self._mark(letter, *place)
        length = scale_bar((right - left) * pixel_width)
        text = f"{length:g} {unit}"
        start, end = left + 0.6 * across, left + 0.6 * across + length / pixel_width
        self._mark(text, start + self._character * len(text) / 2 * 1.3, bottom - 1.9 * along)
        self.axis.plot(
            [start, end], [bottom - 0.7 * along] * 2, color=self._ink, linewidth=2, solid_capstyle="butt",
            path_effects=[withStroke(linewidth=4, foreground=self._halo)], gid="scale bar",
        )  # fmt: skip
        self._taken.append((start, end, bottom - 1.4 * along, bottom))

    def _mark(self, text: str, x: float, y: float) -> None:
        half_width, half_height = self._character * len(text) / 2 * 1.3, self._line / 2 * 1.15
        self._taken.append((x - half_width, x + half_width, y - half_height, y + half_height))
        self.axis.text(
            x, y, text, ha="center", va="center", color=self._ink, fontsize=self.font_size + 1, fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground=self._halo)],
        )  # fmt: skip

    def write(self, texts: Iterable[tuple[str, Spot]]) -> None:
        """Write texts inside large instances and beside small ones, in this order, as long as there is room."""
        low_x, high_x = self.window.view.columns
        low_y, high_y = self.window.view.rows
        for text, spot in texts:
            lines = text.split("\n")
            half_width, half_height = self._character * max(map(len, lines)) / 2, self._line * len(lines) / 2
            inside = spot.inside(half_width, half_height)
            for x, y in inside or spot.beside(half_width, half_height):
                x = min(max(x, low_x + half_width), high_x - half_width)
                y = min(max(y, low_y + half_height), high_y - half_height)
                box = (x - half_width, x + half_width, y - half_height, y + half_height)
                free = not any(_overlap(box, other) for other in self._taken)
                if self._written < MOST_NUMBERS and free and (inside or self.window.is_free(box)):
                    self._taken.append(box)
                    self._written += 1
                    self.axis.text(
                        x, y, text, ha="center", va="center", color=self._ink, fontsize=self.font_size,
                        linespacing=1.0, path_effects=[withStroke(linewidth=2, foreground=self._halo)],
                    )  # fmt: skip
                    break
            else:
                self.left_out = True

    def names(self, side: Side, ids: IdArray) -> None:
        """Write the names of the instances of one side, larger instances first."""
        spots = self.window.spots(ids)
        self.write((side.name(n), spots[n]) for n in sorted(spots, key=lambda n: -side.size[n - 1]))

    def draw_label(self) -> None:
        """Draw the label instances, found or missed."""
        label, ids = self.window.sides[0]
        self.fill(ids, [MISSED if missed else FOUND for missed in label.unmatched], 0.8)
        self.edge(ids > 0, LABEL)
        self.names(label, ids)

    def draw_prediction(self) -> None:
        """Draw the predicted instances (touching or false), the label outlines, and a line for each touching pair."""
        (_, label_ids), (predicted, ids) = self.window.sides
        self.fill(ids, [FALSE if false else FOUND for false in predicted.unmatched], 0.8)
        self.edge(ids > 0, "black", 1.0)
        self.edge(label_ids > 0, LABEL)
        labels, preds = self.window.spots(label_ids), self.window.spots(ids)
        pairs = [(n, m) for m in preds for n in predicted.touched[m - 1] if n in labels]
        lines = [[labels[n][:2], preds[m][:2]] for n, m in pairs]
        self.axis.add_collection(LineCollection(lines, colors="black", linewidths=1.2 * self._thin), autolim=False)
        size, edge = 5 * self._thin, self._thin
        for x, y in {labels[n][:2] for n, _ in pairs}:
            self.axis.plot(x, y, "o", color=LABEL, markeredgecolor="black", markersize=size, markeredgewidth=edge)
            radius = self._character / 2 * self._thin
            self._taken.append((x - radius, x + radius, y - radius, y + radius))
        self.names(predicted, ids)

    def draw_centers(self) -> None:
        """Draw the cubes of both sides, and the error of the center term."""
        cubes, error = self.window.cubes, self.window.center_error
        in_label = (cubes & IN_LABEL_CUBE) > 0
        self.fill(np.where(in_label, 1, 2 * (cubes > 0)), [MISSED, SURPLUS], 0.85 * error)
        self.edge(in_label, LABEL)
        self.edge((cubes & IN_HIT_CUBE) > 0, FOUND)
        self.edge((cubes & IN_FALSE_CUBE) > 0, FALSE)

    def draw_shares(self, loss: str, colors: Colormap, norm: Normalize) -> None:
        """Fill the label instances, and predicted instances outside the label, with the colors of their shares."""
        (label, label_ids), (predicted, predicted_ids) = self.window.sides
        of_label, of_predicted = label.share_of(loss), predicted.share_of(loss)
        shared = loss != "blob"
        predicted_colors = colors(norm(of_predicted)) if shared else [NO_SHARE] * len(predicted)
        self.fill(np.where(label_ids > 0, 0, predicted_ids), list(predicted_colors), 1.0 if shared else 0.6)
        self.fill(label_ids, list(colors(norm(of_label))), 1.0)
        self.edge(label_ids > 0, "black", 1.0)
        self.edge(predicted_ids > 0, "white", 1.0, DASHES)
        entries = []
        for side, ids, shares in ((label, label_ids, of_label), (predicted, predicted_ids, of_predicted)):
            if side is label or shared:
                spots = self.window.spots(ids)
                entries += [
                    (shares[n - 1], f"{side.name(n)}\n{short(shares[n - 1])}", spots[n])
                    for n in spots
                    if side is label or abs(shares[n - 1]) >= SMALLEST_SHARE
                ]
        entries.sort(key=lambda entry: -entry[0])
        self.write((text, spot) for _, text, spot in entries)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def short(share: float) -> str:
    """A share with three decimals, or four if it is below 0.01, without the leading zero.

    Shares in panoptic quality can be negative for probabilities between 0 and 1.

    Example:
        >>> short(0.0831), short(0.00271), short(1.0), short(0.0), short(-0.0077)
        ('.083', '.0027', '1.000', '0', '-.0077')
    """
    size = abs(share)
    if size < SMALLEST_SHARE:
        return "0"
    return ("-" if share < 0 else "") + f"{size:.{4 if size < 0.01 else 3}f}".removeprefix("0")
