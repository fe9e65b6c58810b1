"""One case of the implants dataset: a FLAIR-like image of the MNI template with a patient's lesions in it.

The images are FLAIR-like because small lesions have no contrast in T1 (see :mod:`scripts.study.implants.contrast`).
An image is computed from the template's T1 image and its map of white matter. The intensity of white matter is 1, gray
matter is slightly brighter, and CSF is dark. No intensities of a patient's image are used. The shapes of the lesions
come from the patient, and their contrasts are drawn from the measured distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.datasets.synthetic import Template
from scripts.study.implants.contrast import BLUR_MM, brain_tissue, draw_contrast, lesions_and_shells
from scripts.study.implants.distractors import add_distractors
from scripts.study.implants.warp import BRAIN_T1, Brain, image_like, warp

__all__ = ["Case", "make_case"]

# Intensities relative to white matter, drawn for each case. With these ranges, the standard deviation of brain tissue
# is 0.13 to 0.16 times its median; in patients 07 and 19 it is 0.15 and 0.17 times the median. Their gray matter is at
# 1.2 and 1.15. Pure gray matter is brighter here, because the template is an average of many brains, and its cortex
# contains no pure gray matter.
GREY, CSF = (1.25, 1.45), (0.05, 0.25)
BIAS, TEXTURE, NOISE = (0.04, 0.12), (0.02, 0.04), (0.05, 0.08)
SCALE = (300.0, 900.0)
WHITE_POWER = (0.7, 1.5)  # shifts the border between gray and white matter
T1_OF_CSF, T1_OF_GREY = 0.42, 0.74
CORTEX_MM = 6.0

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A case. All images are on the same grid, cropped to the brain.

    Attributes:
        image: image, int16, 0 outside the brain.
        label: label map, uint8, 1 = lesion.
        distractors: map of the distractors, uint8; each voxel has the kind of its distractor.
        placed: kind of each distractor.
        lesions_of_patient: number of lesions in the patient's mask.
        lesions: number of implanted lesions. Lesions outside the brain are not implanted.
        restored: number of lesions that were lost in the resampling and restored as one voxel.
        flipped: whether left and right are exchanged.
    """

    image: sitk.Image
    label: sitk.Image
    distractors: sitk.Image
    placed: list[str]
    lesions_of_patient: int
    lesions: int
    restored: int
    flipped: bool


def make_case(template: Template, mask: sitk.Image, spacing_mm: float, rng: np.random.Generator) -> Case:
    """Warp the template and the mask, set the contrast of every lesion, and add distractors, a bias field and noise.

    The mean intensity of a lesion is that of its surroundings (healthy tissue at a distance of 2 to 4 voxels) plus a
    random contrast that depends on its volume. Apart from the noise,
    :func:`~scripts.study.implants.contrast.measure_contrast` therefore finds the contrast that was drawn. The edge of
    the lesion is blurred, but its mean does not change.

    Args:
        template: brain template at 1 mm.
        mask: lesion mask, 3D, in MNI space, 1 = lesion.
        spacing_mm: voxel spacing of the case.
        rng: random number generator for all random choices.

    Raises:
        ValueError: if no lesion lies in the brain.
    """
    warped = warp(template, mask, spacing_mm, rng)
    lesion = warped.ids > 0
    if not lesion.any():
        raise ValueError("no lesion lies in the brain. Expected: a mask in MNI space. Got: lesions elsewhere")
    brain = warped.t1 > BRAIN_T1
    clean = _flair(warped, rng)
    bias = np.exp(rng.uniform(*BIAS) * _smooth_field(clean.shape, rng))
    texture = ndimage.gaussian_filter(rng.standard_normal(clean.shape, dtype=np.float32), 1.2 / spacing_mm)
    texture *= rng.uniform(*TEXTURE) / texture.std()
    noise = texture + rng.uniform(*NOISE) * rng.standard_normal(clean.shape, dtype=np.float32)

    healthy = np.where(brain, np.maximum(clean * bias + noise, 0.01), 0)
    tissue = brain_tissue(healthy, lesion)
    sd = float(healthy[tissue].std())
    depth_mm = ndimage.distance_transform_edt(brain, sampling=spacing_mm)
    cortex = tissue & (depth_mm < CORTEX_MM) & (warped.white_matter < 0.3)
    filled = _implant(clean, warped.ids, tissue, spacing_mm, sd, rng)
    filled[~brain] = 0
    distractors, placed = add_distractors(filled, warped.white_matter, cortex, lesion, spacing_mm, sd, rng)
    image = np.where(brain, np.maximum(filled * bias + noise, 0.01), 0) * rng.uniform(*SCALE)
    return Case(
        image_like(np.maximum(np.rint(image), brain).astype(np.int16), warped.geometry),
        image_like(lesion.astype(np.uint8), warped.geometry),
        image_like(distractors, warped.geometry),
        placed,
        warped.lesions_of_patient,
        len(np.unique(warped.ids)) - 1,
        warped.restored,
        warped.flipped,
    )


def _flair(warped: Brain, rng: np.random.Generator) -> FloatArray:
    """The healthy image without noise. White matter is 1, and voxels outside the brain are 0."""
    white = np.clip(warped.white_matter, 0, 1) ** rng.uniform(*WHITE_POWER)
    csf = np.clip((T1_OF_GREY - warped.t1) / (T1_OF_GREY - T1_OF_CSF), 0, 1) * (1 - white)
    image = white + rng.uniform(*GREY) * (1 - white - csf) + rng.uniform(*CSF) * csf
    return np.where(warped.t1 > BRAIN_T1, image, 0).astype(np.float32)


def _implant(
    clean: FloatArray,
    ids: npt.NDArray[np.int32],
    tissue: npt.NDArray[np.bool_],
    spacing_mm: float,
    sd: float,
    rng: np.random.Generator,
) -> FloatArray:
    """The image with the lesions at their intensities."""
    filled = clean.copy()
    usual = float(clean[tissue].mean())
    for _, box, lesion, shell in lesions_and_shells(ids):
        around = clean[box][shell & tissue[box]]
        level = float(around.mean()) if around.size else usual
        wanted = level + sd * draw_contrast(float(lesion.sum() * spacing_mm**3), rng)
        soft = ndimage.gaussian_filter(lesion.astype(np.float32), BLUR_MM / spacing_mm)
        flat = filled[box] + soft * (level - filled[box])
        filled[box] = flat + soft * ((wanted - flat[lesion].mean()) / soft[lesion].mean())
    return filled


def _smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """A smooth random field from -1 to 1, interpolated from 4 x 4 x 4 random values."""
    field = rng.standard_normal((4, 4, 4))
    for axis, n in enumerate(shape):  # one axis at a time, which is much faster than all axes at once
        zoom = [n / 4 if a == axis else 1 for a in range(3)]
        field = ndimage.zoom(field, zoom, order=3, mode="nearest", grid_mode=True)
    return (field / np.abs(field).max()).astype(np.float32)
