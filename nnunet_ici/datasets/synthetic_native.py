"""A synthetic subject on a grid of its own, as in the native space of ATLAS R3.0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.datasets.synthetic import Subject
from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = ["to_native"]

MARGIN_MM = (1.0, 16.0)  # around the brain, on each of the six sides
ZOOM = (0.9, 1.2)
ISOTROPIC = 0.6  # fraction of the subjects
TILT_DEGREES = 6.0
FLIPPED = 0.4  # fraction of the subjects whose x axis runs the other way

FloatArray = npt.NDArray[np.float64]


def to_native(subject: Subject, seed: int | Sequence[int]) -> Subject:
    """The same brain on a grid of its own.

    The grid is rotated by a few degrees, its voxels have 0.9 to 1.2 times the size along each axis (the same along all
    axes in about 6 of 10 subjects), and it leaves a margin of 1 to 16 mm around the brain. Every lesion keeps at least
    one voxel.

    Args:
        subject: a subject whose image is 0 outside the brain, as made by
            :func:`~nnunet_ici.datasets.synthetic.synthesize_subject`.
        seed: seed of the grid.

    Returns:
        Image (int16, 0 outside the brain) and mask (uint8) on the new grid.
    """
    rng = np.random.default_rng(seed)
    zoom = np.full(3, rng.uniform(*ZOOM)) if rng.random() < ISOTROPIC else rng.uniform(*ZOOM, 3)
    spacing_mm = np.array(subject.image.GetSpacing()) * zoom
    direction = _tilt(rng) @ np.array(subject.image.GetDirection()).reshape(3, 3)
    direction[:, 0] *= rng.choice([-1, 1], p=[FLIPPED, 1 - FLIPPED])
    low, high = _extent(subject.image, direction)
    low, high = low - rng.uniform(*MARGIN_MM, 3), high + rng.uniform(*MARGIN_MM, 3)
    size = [math.ceil(length) + 1 for length in (high - low) / spacing_mm]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing(spacing_mm.tolist())
    grid.SetDirection(direction.ravel().tolist())
    grid.SetOrigin((direction @ low).tolist())
    image = sitk.Resample(subject.image, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkInt16)
    mask = sitk.Resample(subject.mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)
    _keep_each_lesion(subject.mask, mask)
    return Subject(image, mask)


def _tilt(rng: np.random.Generator) -> FloatArray:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.radians(rng.uniform(-TILT_DEGREES, TILT_DEGREES, 3)).tolist())
    return np.array(turn.GetMatrix()).reshape(3, 3)


def _extent(image: sitk.Image, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The brain's lowest and highest coordinates along the new axes, the columns of ``direction``, in mm."""
    along = _points_mm(image, np.argwhere(sitk.GetArrayViewFromImage(image) > 0)) @ direction
    return along.min(0), along.max(0)


def _keep_each_lesion(before: sitk.Image, after: sitk.Image) -> None:
    """Set one voxel of ``after`` for each lesion of ``before`` that fell between the voxels."""
    labels, count = label_array(sitk.GetArrayFromImage(before))
    array = sitk.GetArrayViewFromImage(after)
    origin_mm, axes = np.array(after.GetOrigin()), np.array(after.GetDirection()).reshape(3, 3)
    for label in range(1, count + 1):
        points = _points_mm(before, np.argwhere(labels == label))
        indices = np.rint((points - origin_mm) @ axes / after.GetSpacing()).astype(int)
        if not array[tuple(indices.T[::-1])].any():
            after[indices[len(indices) // 2].tolist()] = 1


def _points_mm(image: sitk.Image, voxels: npt.NDArray[np.int64]) -> FloatArray:
    """The positions of voxels: from indices (N, 3), z y x, to mm (N, 3), x y z."""
    axes = np.array(image.GetDirection()).reshape(3, 3)
    return np.array(image.GetOrigin()) + voxels[:, ::-1] * np.array(image.GetSpacing()) @ axes.T
