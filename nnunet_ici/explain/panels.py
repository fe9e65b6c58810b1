"""Panels of the picture: label, prediction, center cubes, and shares in a loss. Each panel shows one view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize, to_rgba
from matplotlib.patheffects import withStroke
from scipy import ndimage

from nnunet_ici.drawing import FALSE, FOUND, LABEL, MISSED, SURPLUS, Scene, View, mask_loops, scale_bar
from nnunet_ici.explain.shares import IN_FALSE_CUBE, IN_HIT_CUBE, IN_LABEL_CUBE, Explained, Side

__all__ = ["DASHES", "NO_SHARE", "SMALLEST_SHARE", "Panel", "short"]

IdArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Color = str | tuple[float, float, float, float]
Dashes = str | tuple[float, tuple[float, ...]]
Box = tuple[float, float, float, float]  # x_min, x_max, y_min, y_max

PAPER = 0.93  # gray value of the background if there is no image
DASHES = (0, (4, 2))  # outlines of predictions in the panels of shares
NO_SHARE = "#9A9A9A"
FONT = 9.0  # points
MOST_NUMBERS = 50  # per panel
MOSTLY = 0.9  # smallest part of a text that lies on its instance if it is written inside
SMALLEST_SHARE = 0.00005  # shares closer to 0 are written as 0
# Distances between an instance and the text beside it, in text heights, and directions: above, below, to the sides.
DISTANCES = (0.8, 0.3, 2.0, 3.5)
DIRECTIONS = ((0, -1), (0, 1), (1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1))


class Spot(NamedTuple):
    """Location of an instance: the pixel nearest to its centroid, its pixels (x, y), and half the sides of its box."""

    x: float
    y: float
    pixels: FloatArray
    half_width: float
    half_height: float


class Panel:
    """Axes that show a view, with texts placed where there is room.

    Args:
        axis: axes to draw on.
        explained: terms and shares.
        scene: ids of the label instances as ``label``; maps "predicted", "cubes" and "error" of ``explained``.
        view: part of the scene to show.
        inches: width of the axes; the view fills them.
    """

    def __init__(self, axis: Axes, explained: Explained, scene: Scene, view: View, inches: float) -> None:
        self.axis, self.explained, self.scene, self.view = axis, explained, scene, view
        self.label_ids, self.predicted_ids = view.cut(scene.label), view.cut(scene.maps["predicted"])
        self._covered = (self.label_ids > 0) | (self.predicted_ids > 0)
        height_mm, width_mm = scene.pixel_mm(scene.plane)
        self.pixel_mm, aspect = width_mm, height_mm / width_mm
        inch = (view.columns[1] - view.columns[0]) / inches  # pixels per inch along a row
        pixels = np.concatenate([np.bincount(ids.ravel())[1:] for ids in (self.label_ids, self.predicted_ids)])
        typical = float(np.median(np.sqrt(pixels[pixels > 0]))) if pixels.any() else 1.0
        self._thin = float(np.clip(typical / inch / 0.3, 0.4, 1))  # thinner lines for small instances
        self._character, self._line = 0.64 * FONT / 72 * inch, 1.25 * FONT / 72 * inch / aspect
        self._taken: list[Box] = []
        self.written = 0
        self.left_out = False  # whether a number was left out for lack of room
        self._ink, self._halo = ("black", "white") if scene.image is None else ("white", "black")
        gray = np.full(self._covered.shape, PAPER) if scene.image is None else 0.8 * view.cut(scene.image)
        self._show(gray, cmap="gray", vmin=0, vmax=1)
        axis.set_facecolor(str(PAPER) if scene.image is None else "black")
        axis.set(aspect=aspect, xlim=view.columns, ylim=view.rows[::-1], xticks=[], yticks=[])

    def _show(self, image: npt.NDArray[np.generic], **options: object) -> None:
        row, column = self.view.corner
        height, width = image.shape[:2]
        if image.size:
            extent = (column - 0.5, column + width - 0.5, row + height - 0.5, row - 0.5)
            self.axis.imshow(image, extent=extent, aspect=self.axis.get_aspect(), interpolation="nearest", **options)  # type: ignore[arg-type]

    def fill(self, ids: IdArray, colors: Sequence[Color], alpha: float | npt.NDArray[np.floating]) -> None:
        """Tint the pixels of the instances: id i + 1 gets color i."""
        rgba = np.array([to_rgba("white"), *map(to_rgba, colors)])[ids]
        rgba[..., 3] = np.where(ids > 0, alpha, 0)
        self._show(rgba)

    def edge(self, mask: BoolArray, color: Color, width: float = 1.4, dashes: Dashes = "-") -> None:
        """Draw the outline of a mask on a wider line of contrasting lightness; thinner if instances are small."""
        corner = np.subtract(self.view.corner[::-1], 0.5)
        lines = [np.array([*loop, loop[0]]) + corner for loop in mask_loops(mask)]
        width *= self._thin
        casing = withStroke(linewidth=width + 1.2 * self._thin, foreground="white" if color == "black" else "black")
        self.axis.add_collection(
            LineCollection(lines, colors=[color], linewidths=width, linestyles=[dashes], path_effects=[casing]),
            autolim=False,
        )

    def mark(self) -> None:
        """Draw the letters of the four sides, and a scale bar."""
        (left, right), (top, bottom) = self.view.columns, self.view.rows
        across, along = 1.3 * self._character, 0.8 * self._line
        middle = (left + right) / 2, (top + bottom) / 2
        places = [(left + across, middle[1]), (right - across, middle[1])]
        places += [(middle[0], top + along), (middle[0], bottom - along)]
        length = scale_bar((right - left) * self.pixel_mm)
        text = f"{length:g} {self.scene.unit}"
        start, end = left + 0.6 * across, left + 0.6 * across + length / self.pixel_mm
        places.append((start + self._character * len(text) / 2 * 1.3, bottom - 1.9 * along))
        for word, (x, y) in zip(
            (*self.scene.plane.sides, text), places[-1 - len(self.scene.plane.sides) :], strict=True
        ):
            self._text(word, x, y, fontweight="bold")
            self._take(x, y, self._character * len(word) / 2 * 1.3, self._line / 2)
        self.axis.plot(
            [start, end], [bottom - 0.7 * along] * 2, color=self._ink, linewidth=2, solid_capstyle="butt",
            path_effects=[withStroke(linewidth=4, foreground=self._halo)], gid="scale bar",
        )  # fmt: skip
        self._taken.append((start, end, bottom - 1.4 * along, bottom))

    def _text(self, text: str, x: float, y: float, **options: object) -> None:
        self.axis.text(
            x, y, text, ha="center", va="center", color=self._ink, fontsize=FONT,
            path_effects=[withStroke(linewidth=2.2, foreground=self._halo)], **options,  # type: ignore[arg-type]
        )  # fmt: skip

    def _take(self, x: float, y: float, half_width: float, half_height: float) -> None:
        self._taken.append((x - half_width, x + half_width, y - half_height, y + half_height))

    def spots(self, ids: IdArray) -> dict[int, Spot]:
        """The location of each instance in the view, by id."""
        row, column = self.view.corner
        spots = {}
        for number, box in enumerate(ndimage.find_objects(ids), start=1):
            if box is not None:
                pixels = np.argwhere(ids[box] == number)[:, ::-1] + [column + box[1].start, row + box[0].start]
                x, y = pixels[np.argmin(((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1))]
                half_height, half_width = ((along.stop - along.start) / 2 for along in box)
                spots[number] = Spot(x, y, pixels, half_width, half_height)
        return spots

    def write(self, texts: Iterable[tuple[str, Spot]]) -> None:
        """Write texts inside large instances, and beside small ones with a leader line, as long as there is room."""
        (low_x, high_x), (low_y, high_y) = self.view.columns, self.view.rows
        for text, spot in texts:
            half_width, half_height = self._character * len(text) / 2, self._line / 2
            within = (np.abs(spot.pixels - (spot.x, spot.y)) <= (half_width, half_height)).all(axis=1)
            inside = int(np.count_nonzero(within)) >= 4 * half_width * half_height * MOSTLY
            for x, y in self._places(spot, half_width, half_height, inside):
                x = min(max(x, low_x + half_width), high_x - half_width)
                y = min(max(y, low_y + half_height), high_y - half_height)
                box = (x - half_width, x + half_width, y - half_height, y + half_height)
                if self.written >= MOST_NUMBERS or not self._is_free(box, inside):
                    continue
                if not inside:
                    leader = _leader(spot, np.array((x, y)), (half_width, half_height))
                    if self._crosses(leader):
                        continue
                    self.axis.plot(
                        *leader[[0, -1]].T, color=self._ink, linewidth=0.9, gid="leader",
                        path_effects=[withStroke(linewidth=2, foreground=self._halo)],
                    )  # fmt: skip
                self._text(text, x, y)
                self._taken.append(box)
                self.written += 1
                break
            else:
                self.left_out = True

    @staticmethod
    def _places(spot: Spot, half_width: float, half_height: float, inside: bool) -> list[tuple[float, float]]:
        """Center positions to try for a text, the nearest first."""
        if inside:
            return [(spot.x, spot.y + 2 * shift * half_height) for shift in (0, -1, 1)]
        places = []
        left, top = spot.pixels.min(axis=0)
        middle_x, middle_y = left + spot.half_width - 0.5, top + spot.half_height - 0.5
        for distance in DISTANCES:
            away = 2 * distance * half_height
            up, aside = spot.half_height + half_height + away, spot.half_width + half_width + away
            places += [(middle_x + x * aside, middle_y + y * up) for x, y in DIRECTIONS]
        return places

    def _is_free(self, box: Box, inside: bool) -> bool:
        """Whether no text and, for a text beside its instance, no instance lies under a box."""
        if any(box[0] < two[1] and two[0] < box[1] and box[2] < two[3] and two[2] < box[3] for two in self._taken):
            return False
        row, column = self.view.corner
        left, right = (max(int(np.rint(x + 0.5)) - column, 0) for x in box[:2])
        top, bottom = (max(int(np.rint(y + 0.5)) - row, 0) for y in box[2:])
        return inside or not self._covered[top:bottom, left:right].any()

    def _crosses(self, leader: FloatArray) -> bool:
        """Whether a leader line crosses a text or an instance."""
        rows, columns = (np.rint(leader[1:, axis]).astype(int) - self.view.corner[1 - axis] for axis in (1, 0))
        height, width = self._covered.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return bool(self._covered[rows[inside], columns[inside]].any()) or any(
            ((leader > two[::2]) & (leader < two[1::2])).all(axis=1).any() for two in self._taken
        )

    def names(self, side: Side, ids: IdArray) -> None:
        """Write the names of the instances of one side, larger instances first."""
        spots = self.spots(ids)
        self.write((side.name(n), spots[n]) for n in sorted(spots, key=lambda n: -side.size[n - 1]))

    def draw_label(self) -> None:
        """Draw the label instances, found or missed."""
        label = self.explained.label
        self.fill(self.label_ids, [MISSED if missed else FOUND for missed in label.unmatched], 0.8)
        self.edge(self.label_ids > 0, LABEL)
        self.mark()
        self.names(label, self.label_ids)

    def draw_prediction(self) -> None:
        """Draw the predicted instances (touching or false), the label outlines, and a line for each touching pair."""
        predicted = self.explained.predicted
        self.fill(self.predicted_ids, [FALSE if false else FOUND for false in predicted.unmatched], 0.8)
        self.edge(self.predicted_ids > 0, "black", 1.0)
        self.edge(self.label_ids > 0, LABEL)
        labels, preds = self.spots(self.label_ids), self.spots(self.predicted_ids)
        pairs = [(n, m) for m in preds for n in predicted.touched[m - 1] if n in labels]
        lines = [[labels[n][:2], preds[m][:2]] for n, m in pairs]
        self.axis.add_collection(LineCollection(lines, colors="black", linewidths=1.2 * self._thin), autolim=False)
        size, radius = 5 * self._thin, self._character / 2 * self._thin
        for x, y in {labels[n][:2] for n, _ in pairs}:
            self.axis.plot(x, y, "o", color=LABEL, markeredgecolor="black", markersize=size, markeredgewidth=self._thin)
            self._take(x, y, radius, radius)
        self.names(predicted, self.predicted_ids)

    def draw_centers(self) -> None:
        """Draw the cubes of both sides, and the error of the center term."""
        cubes, error = (self.view.cut(self.scene.maps[name]) for name in ("cubes", "error"))
        in_label, in_hit, in_false = ((cubes & bit) > 0 for bit in (IN_LABEL_CUBE, IN_HIT_CUBE, IN_FALSE_CUBE))
        self.fill(np.where(in_label, 1, 2 * (cubes > 0)), [MISSED, SURPLUS], 0.85 * error)
        for mask, color in ((in_label, LABEL), (in_hit, FOUND), (in_false, FALSE)):
            self.edge(mask, color)

    def draw_shares(self, loss: str, colors: Colormap, norm: Normalize) -> None:
        """Fill the label instances, and predicted instances outside the label, with the colors of their shares."""
        label, predicted = self.explained.label, self.explained.predicted
        of_label, of_predicted = label.share_of(loss), predicted.share_of(loss)
        shared = loss != "blob"
        predicted_colors = list(colors(norm(of_predicted))) if shared else [NO_SHARE] * len(predicted)
        self.fill(np.where(self.label_ids > 0, 0, self.predicted_ids), predicted_colors, 1.0 if shared else 0.6)
        self.fill(self.label_ids, list(colors(norm(of_label))), 1.0)
        self.edge(self.label_ids > 0, "black", 1.0)
        self.edge(self.predicted_ids > 0, "white", 1.0, DASHES)
        entries = []
        for side, ids, shares in (
            (label, self.label_ids, of_label),
            *([(predicted, self.predicted_ids, of_predicted)] if shared else []),
        ):
            for number, spot in self.spots(ids).items():
                share = float(shares[number - 1])
                if side is label or abs(share) >= SMALLEST_SHARE:
                    entries.append((abs(share), f"{side.name(number)} {short(share)}", spot))
        entries.sort(key=lambda entry: -entry[0])
        self.write((text, spot) for _, text, spot in entries)


def _leader(spot: Spot, text: FloatArray, half_sides: tuple[float, float]) -> FloatArray:
    """Points (x, y) from the edge of the pixel of an instance that is nearest to a text, to the edge of the text."""
    nearest = spot.pixels[np.argmin(((spot.pixels - text) ** 2).sum(axis=1))]
    way = text - nearest
    start, end = nearest + 0.5 * way / np.abs(way).max(), text - way / np.max(np.abs(way) / half_sides)
    return np.linspace(start, end, 3 + int(2 * np.abs(end - start).max()))


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
