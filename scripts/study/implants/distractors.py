"""Distractors: bright objects that are not lesions. Their position, shape or profile distinguishes them from lesions.

====== ============================================================== ===========================================
kind   description                                                    difference from a lesion
====== ============================================================== ===========================================
spot   ellipsoid in the cortex, 5 to 100 mm3, edge as in lesions      position: it is not in white matter
vessel winding tube, 12 to 30 mm long and about 2 mm thick            shape
haze   Gaussian in the white matter, 6 to 9 mm wide at half maximum   profile: it has neither an edge nor a plateau
====== ============================================================== ===========================================

A distractor has the contrast of a lesion of the same volume. Its distance from all lesions is more than two voxels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from scripts.study.implants.contrast import BLUR_MM, draw_contrast

__all__ = ["KINDS", "add_distractors"]

KINDS = {"spot": 1, "vessel": 2, "haze": 3}
COUNT = (4, 10)
TRIES = 30
FAR_VOXELS = 2
REACH_MM = 17.0  # half the edge length of the box of a distractor
SPOT_MM3, VESSEL_MM, HAZE_MM = (5.0, 100.0), (12.0, 30.0), (6.0, 9.0)
VESSEL_RADIUS_MM, STEP_MM = 1.0, 0.5

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def add_distractors(
    image: FloatArray,
    white_matter: FloatArray,
    cortex: BoolArray,
    mask: BoolArray,
    spacing_mm: float,
    sd: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Add 4 to 10 distractors to the image, in place. A distractor is omitted if there is no room for it.

    Args:
        image: image (D, H, W), 0 outside the brain; modified in place.
        white_matter: probability of white matter (D, H, W).
        cortex: mask of the voxels in which spots may be centered (D, H, W).
        mask: lesion mask (D, H, W).
        spacing_mm: voxel spacing.
        sd: standard deviation of brain tissue, the unit of contrast.
        rng: random number generator for all random choices.

    Returns:
        The map of the distractors, uint8 (D, H, W), and the kind of each distractor. The voxels above half the maximum
        of a distractor have the number of its kind (see ``KINDS``). All other voxels are 0.
    """
    near = ndimage.binary_dilation(mask, np.ones((3, 3, 3)), iterations=FAR_VOXELS) if mask.any() else mask
    kinds = np.zeros(image.shape, np.uint8)
    places = {"spot": np.flatnonzero(cortex & ~near), "vessel": np.flatnonzero((white_matter > 0.5) & ~near)}
    places["haze"] = np.flatnonzero((white_matter > 0.9) & ~near)
    placed: list[str] = []
    reach = math.ceil(REACH_MM / spacing_mm)
    for _ in range(int(rng.integers(COUNT[0], COUNT[1] + 1))):
        kind = str(rng.choice(list(KINDS)))
        for _ in range(TRIES if places[kind].size else 0):
            center = np.unravel_index(int(rng.choice(places[kind])), image.shape)
            box = tuple(slice(max(0, int(c) - reach), int(c) + reach + 1) for c in center)
            sides = [np.arange(n)[side] - c for n, side, c in zip(image.shape, box, center, strict=True)]
            offsets_mm = spacing_mm * np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).astype(np.float32)
            weight = SHAPES[kind](offsets_mm, spacing_mm, rng) * (image[box] > 0)
            core = weight > 0.5
            if not core.any() or (near[box] & (weight > 0.05)).any() or kinds[box][core].any():
                continue
            image[box] += weight * sd * draw_contrast(float(core.sum() * spacing_mm**3), rng)
            kinds[box][core] = KINDS[kind]
            placed.append(kind)
            break
    return kinds, placed


def _spot(offsets_mm: FloatArray, spacing_mm: float, rng: np.random.Generator) -> FloatArray:
    """An ellipsoid, blurred in the same way as lesions."""
    volume_mm3 = np.exp(rng.uniform(*np.log(SPOT_MM3)))
    axes_mm = (0.75 / math.pi * volume_mm3) ** (1 / 3) * np.exp(0.25 * rng.standard_normal(3))
    inside = ((offsets_mm / axes_mm) ** 2).sum(-1) <= 1
    blurred = ndimage.gaussian_filter(inside.astype(np.float32), BLUR_MM / spacing_mm)
    return blurred / blurred.max()


def _vessel(offsets_mm: FloatArray, spacing_mm: float, rng: np.random.Generator) -> FloatArray:
    """A tube along a random walk from the center in both directions, which turns slightly at every step."""
    half_mm = rng.uniform(*VESSEL_MM) / 2
    first = rng.standard_normal(3)
    points = [np.zeros(3)]
    for way in (1.0, -1.0):
        point, direction = np.zeros(3), way * first / np.linalg.norm(first)
        for _ in range(math.ceil(half_mm / STEP_MM)):
            direction = direction + 0.15 * rng.standard_normal(3)
            direction = direction / np.linalg.norm(direction)
            point = point + STEP_MM * direction
            points.append(point)
    radius_mm = max(VESSEL_RADIUS_MM, 0.7 * spacing_mm)  # a thinner tube would be disconnected
    distance_mm, _ = cKDTree(points).query(offsets_mm, distance_upper_bound=radius_mm + spacing_mm)
    return np.clip((radius_mm - distance_mm) / spacing_mm + 0.5, 0, 1).astype(np.float32)


def _haze(offsets_mm: FloatArray, spacing_mm: float, rng: np.random.Generator) -> FloatArray:
    """A Gaussian of random width."""
    sd_mm = rng.uniform(*HAZE_MM) / math.sqrt(8 * math.log(2))
    return np.exp(-(offsets_mm**2).sum(-1) / (2 * sd_mm**2)).astype(np.float32)


SHAPES = {"spot": _spot, "vessel": _vessel, "haze": _haze}
