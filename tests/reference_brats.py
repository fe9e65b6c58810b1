"""Lesion-wise Dice and HD95 of BraTS from the definition, voxel by voxel: slow, simple, the reference for the tests.

Equal to the challenge's own script (github.com/rachitsaluja/BraTS-2023-Metrics) on the masks named in
tests/test_brats.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from tests.reference_metrics import components, dice, f1, whole

WORST_MM = 374


def dilate(mask, times):
    """Dilate repeatedly, each time by the neighbors that are one step away along at most two axes."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=mask.ndim) if np.count_nonzero(step) <= 2]
    mask = np.pad(mask, times)
    for _ in range(times):
        for at in np.argwhere(mask):
            mask[tuple((at + steps).T)] = True
    return mask[tuple(slice(times, length - times) for length in mask.shape)]


def touching(one, other):
    """Whether two masks share a voxel, or have neighbors (through corners too)."""
    others = np.argwhere(other)
    return any((np.abs(others - at).max(axis=1) <= 1).any() for at in np.argwhere(one))


def joined_lesions(truth, times):
    """Masks of the lesions. Components whose dilations touch are one lesion."""
    lesions = [whole(component, truth.shape) for component in components(truth, corners=True)]
    grown = [dilate(lesion, times) for lesion in lesions]
    touch = np.eye(len(lesions), dtype=bool)
    for i, j in itertools.combinations(range(len(lesions)), 2):
        touch[i, j] = touching(grown[i], grown[j])
    count, group = connected_components(touch) if lesions else (0, np.array([]))
    return [np.logical_or.reduce([lesions[n] for n in np.flatnonzero(group == one)]) for one in range(count)]


def surface(mask, spacing_mm):
    """Points in mm and areas: one for each corner between voxels of both kinds, the areas by MONAI's table."""
    from monai.metrics.utils import get_code_to_measure_table

    table, kernel = (np.asarray(array, dtype=float) for array in get_code_to_measure_table(spacing_mm))
    weights = kernel.reshape((2,) * mask.ndim)
    padded = np.pad(mask, 1)
    points, areas = [], []
    for corner in np.ndindex(*(length + 1 for length in mask.shape)):
        block = padded[tuple(slice(at, at + 2) for at in corner)]
        if block.any() and not block.all():
            points.append([at * edge for at, edge in zip(corner, spacing_mm, strict=True)])
            areas.append(table[int((block * weights).sum())])
    return np.array(points), np.array(areas)


def directed95(points, areas, others):
    """The distance within which 95 % of the area lies."""
    pairs = sorted(zip(cdist(points, others).min(axis=1), areas, strict=True))
    reached = 0.0
    for distance, area in pairs:
        reached += area
        if reached / areas.sum() >= 0.95:
            return distance
    return pairs[-1][0]


def hd95_mm(truth, pred, spacing_mm):
    """The larger of both directions; neither mask is empty."""
    (points, areas), (others, other_areas) = surface(truth, spacing_mm), surface(pred, spacing_mm)
    return max(directed95(points, areas, others), directed95(others, other_areas, points))


def brats(truth, pred, spacing_mm, dilation, smallest_mm3):
    """Found, missed and false lesions, and the means of Dice and HD95 over them: 1 and 0 if there are none."""
    predicted = [whole(component, pred.shape) for component in components(pred, corners=True)]
    false = set(range(len(predicted)))
    found = missed = 0
    dices, distances = [], []
    for lesion in joined_lesions(truth, dilation):
        grown = dilate(lesion, dilation)
        belonging = [n for n, mask in enumerate(predicted) if (mask & grown).any()]
        false -= set(belonging)
        if lesion.sum() * math.prod(spacing_mm) <= smallest_mm3:
            continue
        union = np.logical_or.reduce([predicted[n] for n in belonging], axis=0) if belonging else None
        found += union is not None
        missed += union is None
        dices.append(0 if union is None else dice(lesion, union))
        distances.append(WORST_MM if union is None else hd95_mm(lesion, union, spacing_mm))
    dices += [0] * len(false)
    distances += [WORST_MM] * len(false)
    return {
        "brats_lesion_dice": sum(dices) / len(dices) if dices else 1,
        "brats_lesion_hd95_mm": sum(distances) / len(distances) if distances else 0,
        "brats_lesion_f1": f1(found, missed, len(false)),
        "brats_found": found,
        "brats_missed": missed,
        "brats_false": len(false),
    }
