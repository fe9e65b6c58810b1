"""One case of the implants dataset: a FLAIR-like image of the MNI template with a patient's lesions in it.

FLAIR and not T1, as the small lesions have no contrast in T1 (see :mod:`scripts.study.implants.contrast`). The
image is made from the template's T1 and its map of white matter: white matter 1, gray matter a little brighter, CSF
dark. Nothing of a patient's image is in it, only the shapes of lesions, and contrasts drawn from what was measured.
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

# Of white matter's intensity, drawn anew for each case, such that brain tissue has a standard deviation of 0.13 to 0.16
# of its median; patients 07 and 19 have 0.15 and 0.17. Their gray matter is at 1.2 and 1.15: here pure gray matter is
# brighter, as the template's cortex, an average of many, is nowhere pure.
GREY, CSF = (1.25, 1.45), (0.05, 0.25)
BIAS, TEXTURE, NOISE = (0.04, 0.12), (0.02, 0.04), (0.05, 0.08)
SCALE = (300.0, 900.0)
WHITE_POWER = (0.7, 1.5)  # moves the border of gray and white matter
T1_OF_CSF, T1_OF_GREY = 0.42, 0.74
CORTEX_MM = 6.0

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A case. All images have one grid, cropped to the brain.

    Attributes:
        image: int16, 0 outside the brain.
        label: uint8, 1 = lesion.
        distractors: uint8, the kinds of what is bright and no lesion.
        placed: the kind of each distractor.
        lesions_of_patient: number of lesions of the mask.
        lesions: number of lesions that were implanted; those outside the brain are not.
        restored: lesions that slipped between the voxels and were put back as one voxel.
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
    """Warp the template and the mask, give every lesion its contrast, add distractors, bias field and noise.

    A lesion takes the level of its surroundings (healthy tissue 2 to 4 voxels off) plus a contrast drawn by its volume,
    so what :func:`~scripts.study.implants.contrast.measure_contrast` finds is what was drawn, but for the noise.
    Its edge is blurred; its voxels keep this mean.

    Args:
        template: at 1 mm.
        mask: 3D, in MNI space, 1 = lesion.
        spacing_mm: edge of a voxel of the case.
        rng: decides everything.

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
    """The healthy image without noise, white matter 1, 0 outside the brain."""
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
    """The image with the lesions at their levels."""
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
    """A random field within -1 to 1 that changes over a quarter of the image."""
    field = rng.standard_normal((4, 4, 4))
    for axis, n in enumerate(shape):  # axis by axis: much faster than all at once
        zoom = [n / 4 if a == axis else 1 for a in range(3)]
        field = ndimage.zoom(field, zoom, order=3, mode="nearest", grid_mode=True)
    return (field / np.abs(field).max()).astype(np.float32)
