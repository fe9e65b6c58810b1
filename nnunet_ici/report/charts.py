"""A chart of the page, and what all charts share: size, grid lines, ranges of lesion sizes and legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_ici.drawing.style import svg_of
from nnunet_ici.report.rendering import data_uri

__all__ = ["FEW_CASES", "MOST_POINTS", "Chart", "add_grid", "legend_above", "make_chart", "new_figure", "range_title"]

# Two charts fit beside each other in a page, and one on a phone, where its text can still be read.
WIDTH_INCHES = 5.2
# More points than this are rasterized, because the SVG would be too large otherwise.
MOST_POINTS = 1500
# Up to this number of cases, the markers are large.
FEW_CASES = 40
LEGEND_CHARACTERS = 52  # in a line of the legend


class Chart(NamedTuple):
    """A figure in the page: its SVG as a data URI, its title, which also stands for it in words, and an explanation."""

    source: str
    title: str
    note: str


def make_chart(figure: Figure, title: str, note: str) -> Chart:
    """Embed a figure."""
    return Chart(data_uri(svg_of(figure), "image/svg+xml"), title, note)


def new_figure(height_inches: float) -> Figure:
    """An empty figure of the width of all charts."""
    return Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")


def add_grid(axis: Axes, which: str = "both") -> None:
    """Add the thin grid lines of all charts along "x", "y" or both."""
    axis.grid(axis=which, color="#dddddd", linewidth=0.6)  # type: ignore[arg-type]


def range_title(group: dict[str, float]) -> str:
    """Text for a range of sizes.

    Example:
        >>> range_title({"from": 0.0, "to": 10.0}), range_title({"from": 10.0, "to": float("inf")})
        ('below 10', '10 and more')
    """
    if not math.isfinite(group["to"]):
        return f"{group['from']:g} and more"
    return f"{group['from']:g} to {group['to']:g}" if group["from"] else f"below {group['to']:g}"


def legend_above(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Add a legend above the axes, with as many columns as fit. The figure grows with the rows of the legend."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
    columns = max(1, min(len(labels), LEGEND_CHARACTERS // (longest + 6)))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False)
