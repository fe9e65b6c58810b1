"""Resampling of a synthetic subject to its own random grid, like the native-space images of ATLAS R3.0."""

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
ZOOM = (0.9, 1.2)  # factor of the spacing
ISOTROPIC = 0.6  # fraction of subjects with the same factor on all axes
TILT_DEGREES = 6.0  # largest rotation about each axis
FLIPPED = 0.4  # fraction of subjects with a flipped x axis

FloatArray = npt.NDArray[np.float64]


def to_native(subject: Subject, seed: int | Sequence[int]) -> Subject:
    """Resample a subject to a random grid.

    The grid is rotated by up to 6 degrees about each axis. Its spacing is 0.9 to 1.2 times that of the subject, with
    the same factor on all axes in about 6 of 10 subjects. It leaves a margin of 1 to 16 mm around the brain. Every
    lesion keeps at least one voxel.

    Args:
        subject: subject whose image is 0 outside the brain, as made by
            :func:`~nnunet_ici.datasets.synthetic.synthesize_subject`.
        seed: seed of the grid.

    Returns:
        The image (int16, 0 outside the brain) and the mask (uint8) on the new grid.
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
    """The lowest and highest brain coordinates in mm along the new axes, the columns of ``direction``."""
    along = _points_mm(image, np.argwhere(sitk.GetArrayViewFromImage(image) > 0)) @ direction
    return along.min(0), along.max(0)


def _keep_each_lesion(before: sitk.Image, after: sitk.Image) -> None:
    """Set one voxel of ``after`` for each lesion of ``before`` that was lost in the resampling."""
    labels, count = label_array(sitk.GetArrayFromImage(before))
    array = sitk.GetArrayViewFromImage(after)
    origin_mm, axes = np.array(after.GetOrigin()), np.array(after.GetDirection()).reshape(3, 3)
    for label in range(1, count + 1):
        points = _points_mm(before, np.argwhere(labels == label))
        indices = np.rint((points - origin_mm) @ axes / after.GetSpacing()).astype(int)
        if not array[tuple(indices.T[::-1])].any():
            after[indices[len(indices) // 2].tolist()] = 1


def _points_mm(image: sitk.Image, voxels: npt.NDArray[np.int64]) -> FloatArray:
    """Convert voxel indices (N, 3) in the order z, y, x to positions (N, 3) in mm in the order x, y, z."""
    axes = np.array(image.GetDirection()).reshape(3, 3)
    return np.array(image.GetOrigin()) + voxels[:, ::-1] * np.array(image.GetSpacing()) @ axes.T
