"""Outlines of masks along the pixel edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["mask_loops", "mask_path"]

Point = tuple[int, int]


def mask_loops(mask: npt.NDArray[np.bool_]) -> list[list[Point]]:
    """The outlines of a mask as closed loops, including outlines of holes.

    Args:
        mask: (H, W).

    Returns:
        The corners of each loop as (x, y) on the grid of pixel corners. The first pixel spans (0, 0) to (1, 1). The
        list is empty for an empty mask.

    Example:
        >>> mask_loops(np.array([[True, True]]))
        [[(0, 0), (2, 0), (2, 1), (0, 1)]]
    """
    padded = np.pad(mask, 1)
    ends: dict[Point, list[Point]] = {}
    # Each edge is added once, directed so that the mask lies on its right: the top edge of a pixel points right, the
    # bottom edge left, the right edge down and the left edge up.
    below, above = padded[1:, 1:-1], padded[:-1, 1:-1]
    right, left = padded[1:-1, 1:], padded[1:-1, :-1]
    for edges, start, end in (
        (below & ~above, (0, 0), (1, 0)),
        (above & ~below, (1, 0), (0, 0)),
        (left & ~right, (0, 0), (0, 1)),
        (right & ~left, (0, 1), (0, 0)),
    ):
        for y, x in np.argwhere(edges).tolist():
            ends.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    loops = []
    while ends:
        first = next(iter(ends))
        loop = [first]
        while True:
            point = ends[loop[-1]].pop()
            if not ends[loop[-1]]:
                del ends[loop[-1]]
            if point == first:
                break
            loop.append(point)
        loops.append(_corners(loop))
    return loops


def _corners(loop: list[Point]) -> list[Point]:
    """The points at which a loop turns: the points before and after differ in x and in y."""
    around = zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
    return [here for before, here, after in around if before[0] != after[0] and before[1] != after[1]]


def mask_path(mask: npt.NDArray[np.bool_], origin: Point = (0, 0)) -> str:
    """The outlines of a mask as SVG path data, for the fill rule "evenodd".

    Args:
        mask: (H, W).
        origin: x and y of the top left corner of the mask.

    Example:
        >>> mask_path(np.array([[True, True]]), origin=(10, 20))
        'M10 20H12V21H10Z'
    """
    parts = []
    for loop in mask_loops(mask):
        parts.append(f"M{loop[0][0] + origin[0]} {loop[0][1] + origin[1]}")
        for (x, y), (before_x, _) in zip(loop[1:], loop, strict=False):
            parts.append(f"V{y + origin[1]}" if x == before_x else f"H{x + origin[0]}")
        parts.append("Z")
    return "".join(parts)
