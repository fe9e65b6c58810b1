"""The template and the lesions of a patient brought onto one grid, warped together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.datasets.synthetic import Template
from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = ["BRAIN_T1", "Brain", "image_like", "warp"]

# MNI coordinates in mm, as SimpleITK counts them (left, back, up): what a brain of the patients' size can reach.
CORNERS_MM = ((-76.0, -74.0, -72.0), (76.0, 110.0, 84.0))
CENTER_MM = (0.0, 22.0, 10.0)
# The masks' brains keep their own size; the template is larger than a person's. Patients 07 and 19 measure 126 and
# 131 mm from left to right, 159 and 150 from back to front and 125 and 120 in height; the template 144, 180 and 154.
TEMPLATE_SCALE = 0.87
ROTATION_RAD, STRETCH, SHIFT_MM = 0.08, 0.05, 3.0  # +-, about each axis
CONTROL_MM, CONTROL_SD_MM = 28.0, 3.0  # of the B-spline: its distance of control points, and how far these move
FIELD_MM = 4.0  # the field is smooth: made at this spacing, a divisor of the box's edges, and interpolated
BRAIN_T1 = 0.05


@dataclass(frozen=True)
class Brain:
    """A warped template with the lesions of a patient.

    Attributes:
        t1: float32 (D, H, W), white matter about 1, 0 outside the brain.
        white_matter: float32 (D, H, W), probability.
        ids: int32 (D, H, W), the patient's lesions, 0 for the background.
        lesions_of_patient: how many the mask has.
        restored: lesions that slipped between the voxels of the grid and were put back as one voxel.
        flipped: whether left and right are exchanged.
        geometry: an image of this grid.
    """

    t1: npt.NDArray[np.float32]
    white_matter: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int32]
    lesions_of_patient: int
    restored: int
    flipped: bool
    geometry: sitk.Image


def warp(template: Template, mask: sitk.Image, spacing_mm: float, rng: np.random.Generator) -> Brain:
    """Warp template and mask by one random affine and B-spline deformation, and crop to the brain.

    The lesions are resampled to the nearest voxel, one by one: none vanishes while it lies in the brain and no other
    lesion takes its place. What lies outside the brain is cut off. Neighbors may come to touch and thin lesions to
    break: over the 27 patients of Lesjak et al. at 1 mm the number of 26-connected components stayed within 3 of the
    mask's, or within 4 % where that is more.

    Args:
        template: at 1 mm.
        mask: 3D, in MNI space, 1 = lesion.
        spacing_mm: edge of a voxel of the result.
        rng: decides the deformation and whether left and right are exchanged.
    """
    grid = _grid(spacing_mm)
    field = sitk.Resample(_deformation(rng), grid)
    source_mm = _points(grid) + sitk.GetArrayViewFromImage(field).astype(np.float32)
    flipped = bool(rng.random() < 0.5)

    deform = sitk.DisplacementFieldTransform(field)
    scale = sitk.ScaleTransform(3, [1 / TEMPLATE_SCALE] * 3)
    scale.SetCenter(CENTER_MM)
    flip = sitk.ScaleTransform(3, [-1.0 if flipped else 1.0, 1.0, 1.0])  # about the plane x = 0
    to_template, to_mask = (sitk.CompositeTransform([then, deform]) for then in (scale, flip))  # the last comes first

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
    """The places x, y, z in mm of a grid's voxels, (D, H, W, 3); its axes are those of space."""
    x, y, z = (
        start + step * np.arange(n)
        for start, step, n in zip(grid.GetOrigin(), grid.GetSpacing(), grid.GetSize(), strict=True)
    )
    return np.stack(np.broadcast_arrays(x, y[:, None], z[:, None, None]), axis=-1).astype(np.float32)


def _middle(lesion: npt.NDArray[np.bool_], image: sitk.Image) -> npt.NDArray[np.float64]:
    """The place x, y, z in mm of the lesion's voxel that is nearest to its center of mass."""
    places = np.argwhere(lesion)
    nearest = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in nearest[::-1]]))


def image_like(values: npt.NDArray[np.generic], geometry: sitk.Image) -> sitk.Image:
    """An array (D, H, W) as an image on the grid of another one."""
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(geometry)
    return image
