"""Where the instances of a case are: their centroids and overlaps for instances.csv, and maps of their outcomes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching
from nnunet_ici.geometry import Grid
from nnunet_ici.images import write_image

__all__ = ["FALSE", "FOUND", "LOCATION_COLUMNS", "MISSED", "OUTSIDE", "locate_instances", "outcome_map", "write_map"]

# Columns of instances.csv after those of instance_rows.
LOCATION_COLUMNS = ("i", "j", "k", "x_mm", "y_mm", "z_mm", "overlaps")
# Values of a map of outcomes.
FOUND, MISSED, FALSE, OUTSIDE = 1, 2, 3, 4


def locate_instances(matching: Matching, grid: Grid) -> list[dict[str, str | float]]:
    """The centroid of each instance, and the instances of the other mask that it overlaps.

    Args:
        matching: matching of one case and class.
        grid: grid of the masks.

    Returns:
        A dictionary with the keys :data:`LOCATION_COLUMNS` for each instance, first those of the label, then those of
        the prediction, by id.

        - ``i``, ``j``, ``k``: centroid in voxel indices of the file, from 0; ``k`` is NaN in 2D.
        - ``x_mm``, ``y_mm``, ``z_mm``: centroid in mm, RAS+ as in NIfTI; NaN for formats without a voxel size.
        - ``overlaps``: id and number of shared voxels of each overlapping instance, such as "1:20 3:4".
    """
    rows: list[dict[str, str | float]] = []
    for ids, voxels, own in (
        (matching.label_ids, matching.label_voxels, 0),
        (matching.predicted_ids, matching.predicted_voxels, 1),
    ):
        voxels_inside = np.flatnonzero(ids > 0)  # on bool and in one dimension it is ten times as fast as nonzero
        inside = np.unravel_index(voxels_inside, ids.shape)
        of_voxel = ids.ravel()[voxels_inside] - 1
        indices = [axis + part.start for axis, part in zip(inside, matching.box, strict=True)][::-1]  # x first
        centers = np.stack([np.bincount(of_voxel, axis, voxels.size) for axis in indices], axis=1) / voxels[:, None]
        positions = centers @ grid.affine[:-1, :-1].T + grid.affine[:-1, -1]
        if not grid.in_mm:
            positions[:] = np.nan
        overlaps: list[list[str]] = [[] for _ in voxels]
        for pair, shared in zip(matching.pairs, matching.shared_voxels, strict=True):
            overlaps[pair[own] - 1].append(f"{pair[1 - own]}:{shared}")
        flat = [math.nan] * (3 - centers.shape[1])
        for center, position, of_instance in zip(centers.tolist(), positions.tolist(), overlaps, strict=True):
            values = [*center, *flat, *position, *flat, " ".join(of_instance)]
            rows.append(dict(zip(LOCATION_COLUMNS, values, strict=True)))
    return rows


def outcome_map(matching: Matching) -> npt.NDArray[np.uint8]:
    """The outcome of every voxel, uint8, shape of the masks.

    Returns:
        :data:`FOUND` and :data:`MISSED` in the label, by instance; outside the label :data:`FALSE` in false components
        and :data:`OUTSIDE` in all others; 0 elsewhere.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> matching = match_instances(np.array([[1, 1, 0, 0, 1, 0, 0]]), np.array([[0, 1, 1, 0, 0, 0, 1]]))
        >>> outcome_map(matching).tolist()
        [[1, 1, 4, 0, 2, 0, 3]]
    """
    of_label = np.append(0, np.where(matching.label_found, FOUND, MISSED))[matching.label_ids]
    of_prediction = np.append(0, np.where(matching.predicted_true, OUTSIDE, FALSE))[matching.predicted_ids]
    outcomes = np.zeros(matching.shape, np.uint8)
    outcomes[matching.box] = np.where(of_label, of_label, of_prediction)
    return outcomes


def write_map(matching: Matching, grid: Grid, path: Path) -> None:
    """Write the :func:`outcome_map` in the geometry of the label; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(grid.image_of(outcome_map(matching)), path)
