"""Warping of the template and the lesions of a patient, onto the same grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.datasets.synthetic import Template
from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = ["BRAIN_T1", "Brain", "image_like", "warp"]

# MNI coordinates in mm in SimpleITK's order and direction (left, back, up), around a brain of the patients' size.
CORNERS_MM = ((-76.0, -74.0, -72.0), (76.0, 110.0, 84.0))
CENTER_MM = (0.0, 22.0, 10.0)
# The masks keep their size, and the template is scaled down, because it is larger than the brain of a patient. Patients
# 07 and 19 measure 126 and 131 mm from left to right, 159 and 150 mm from back to front, and 125 and 120 mm in height.
# The template measures 144, 180 and 154 mm.
TEMPLATE_SCALE = 0.87
ROTATION_RAD, STRETCH, SHIFT_MM = 0.08, 0.05, 3.0  # maximum (+-) for each axis
CONTROL_MM, CONTROL_SD_MM = (
    28.0,
    3.0,
)  # of the B-spline: spacing of the control points, and standard deviation of their displacement
FIELD_MM = 4.0  # the smooth field is computed at this spacing, a divisor of the box's edge lengths, and interpolated
BRAIN_T1 = 0.05


@dataclass(frozen=True)
class Brain:
    """A warped template with the lesions of a patient.

    Attributes:
        t1: T1 image, float32 (D, H, W), about 1 in white matter, 0 outside the brain.
        white_matter: probability of white matter, float32 (D, H, W).
        ids: ids of the patient's lesions, int32 (D, H, W), 0 for the background.
        lesions_of_patient: number of lesions in the mask.
        restored: number of lesions that were lost in the resampling and restored as one voxel.
        flipped: whether left and right are exchanged.
        geometry: image that defines the grid.
    """

    t1: npt.NDArray[np.float32]
    white_matter: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int32]
    lesions_of_patient: int
    restored: int
    flipped: bool
    geometry: sitk.Image


def warp(template: Template, mask: sitk.Image, spacing_mm: float, rng: np.random.Generator) -> Brain:
    """Warp template and mask with the same random affine and B-spline deformation, and crop to the brain.

    The lesions are resampled by nearest neighbor. A lesion in the brain is lost only if another lesion takes its place.
    Voxels of lesions outside the brain are removed. Adjacent lesions may touch after the deformation, and thin lesions
    may break apart. For the 27 patients of Lesjak et al. at 1 mm, the number of 26-connected components differed from
    that of the mask by at most 3, or at most 4 % if that is more.

    Args:
        template: brain template at 1 mm.
        mask: lesion mask, 3D, in MNI space, 1 = lesion.
        spacing_mm: voxel spacing of the result.
        rng: random number generator for the deformation and the exchange of left and right.
    """
    grid = _grid(spacing_mm)
    field = sitk.Resample(_deformation(rng), grid)
    source_mm = _points(grid) + sitk.GetArrayViewFromImage(field).astype(np.float32)
    flipped = bool(rng.random() < 0.5)

    deform = sitk.DisplacementFieldTransform(field)
    scale = sitk.ScaleTransform(3, [1 / TEMPLATE_SCALE] * 3)
    scale.SetCenter(CENTER_MM)
    flip = sitk.ScaleTransform(3, [-1.0 if flipped else 1.0, 1.0, 1.0])  # about the plane x = 0
    to_template, to_mask = (
        sitk.CompositeTransform([then, deform]) for then in (scale, flip)
    )  # the last is applied first

    t1, white = (
        sitk.GetArrayFromImage(sitk.Resample(image_like(values, template.geometry), grid, to_template, sitk.sitkLinear))
        for values in (template.t1, template.white_matter)
    )
    brain = t1 > BRAIN_T1
    labelled, count = label_array(sitk.GetArrayFromImage(mask) > 0)
    ids = sitk.GetArrayFromImage(sitk.Resample(image_like(labelled, mask), grid, to_mask, sitk.sitkNearestNeighbor))
    ids[~brain] = 0
    restored = 0
    for lesion_id in np.setdiff1d(np.arange(1, count + 1), ids):
        center_mm = _middle(labelled == lesion_id, mask) * (-1.0 if flipped else 1.0, 1.0, 1.0)
        nearest = np.unravel_index(((source_mm - center_mm.astype(np.float32)) ** 2).sum(-1).argmin(), ids.shape)
        if brain[nearest] and ids[nearest] == 0:
            ids[nearest] = lesion_id
            restored += 1

    box = tuple(slice(max(0, int(at.min()) - 1), int(at.max()) + 2) for at in np.nonzero(brain))
    cropped = grid[tuple(slice(*side.indices(n)) for side, n in zip(box[::-1], grid.GetSize(), strict=True))]
    return Brain(np.where(brain, t1, 0)[box], white[box], ids[box], count, restored, flipped, cropped)


def _grid(spacing_mm: float) -> sitk.Image:
    """The grid between the corners."""
    size = [math.floor((high - low) / spacing_mm) + 1 for low, high in zip(*CORNERS_MM, strict=True)]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetOrigin(CORNERS_MM[0])
    grid.SetSpacing([spacing_mm] * 3)
    return grid


def _deformation(rng: np.random.Generator) -> sitk.Image:
    """A smooth random displacement field between the corners, in mm."""
    grid = _grid(FIELD_MM)
    extent_mm = np.subtract(CORNERS_MM[1], CORNERS_MM[0])
    mesh = [max(1, round(extent / CONTROL_MM)) for extent in extent_mm]
    elastic = sitk.BSplineTransformInitializer(grid, mesh, 3)
    elastic.SetParameters((CONTROL_SD_MM * rng.standard_normal(len(elastic.GetParameters()))).tolist())
    rotation = sitk.Euler3DTransform(CENTER_MM, *rng.uniform(-ROTATION_RAD, ROTATION_RAD, 3).tolist())
    stretch = sitk.ScaleTransform(3, rng.uniform(1 - STRETCH, 1 + STRETCH, 3).tolist())
    stretch.SetCenter(CENTER_MM)
    shift = sitk.TranslationTransform(3, rng.uniform(-SHIFT_MM, SHIFT_MM, 3).tolist())
    whole = sitk.CompositeTransform([stretch, rotation, shift, elastic])
    return sitk.TransformToDisplacementField(
        whole, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )


def _points(grid: sitk.Image) -> npt.NDArray[np.float32]:
    """The coordinates x, y, z in mm of the voxels of a grid, (D, H, W, 3). The grid must be parallel to the axes."""
    x, y, z = (
        start + step * np.arange(n)
        for start, step, n in zip(grid.GetOrigin(), grid.GetSpacing(), grid.GetSize(), strict=True)
    )
    return np.stack(np.broadcast_arrays(x, y[:, None], z[:, None, None]), axis=-1).astype(np.float32)


def _middle(lesion: npt.NDArray[np.bool_], image: sitk.Image) -> npt.NDArray[np.float64]:
    """The coordinates x, y, z in mm of the lesion voxel that is closest to the center of mass of the lesion."""
    places = np.argwhere(lesion)
    nearest = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in nearest[::-1]]))


def image_like(values: npt.NDArray[np.generic], geometry: sitk.Image) -> sitk.Image:
    """An array (D, H, W) as an image with the geometry of another image."""
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(geometry)
    return image
