"""Synthetic stroke subjects: the MNI template with infarct-like lesions and random contrast, bias field and noise.

No parameter is estimated from patients. The images resemble T1w images with chronic infarcts. This suffices to test the
whole pipeline and to compare losses under equal conditions, but not to draw conclusions about stroke.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

__all__ = ["Subject", "Template", "load_template", "synthesize_subject"]

GRID = (197, 233, 189)  # MNI152NLin2009aSym at 1 mm, (x, y, z)
LESIONS = (1, 10)
VOLUME_MM3 = (10.0, 400_000.0)
MEDIAN_VOLUME_MM3, LOG_SD = 1_500.0, 1.9
# Mean and SD of the territory of the middle cerebral artery, where most lesions in ATLAS are. MNI mm, x unsigned.
TERRITORY_MM, TERRITORY_SD_MM = (35.0, -8.0, 18.0), (14.0, 24.0, 18.0)
CSF_LEVEL = 0.25  # relative to the intensity of white matter
SPACING_MM = (0.5, 10.0)  # finest and coarsest grid, limited by memory and by anatomical detail

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Template:
    """The brain template on the grid of the dataset.

    Attributes:
        t1: float32 (D, H, W), T1w intensities, about 1 in white matter and 0 outside the brain.
        white_matter: float32 (D, H, W), probability of white matter.
        tissue: bool (D, H, W), mask of gray and white matter.
        coordinates_mm: three float32 vectors, MNI coordinates x, y and z along the axes W, H and D.
        spacing_mm: isotropic voxel spacing.
        geometry: an image with this grid.
    """

    t1: FloatArray
    white_matter: FloatArray
    tissue: npt.NDArray[np.bool_]
    coordinates_mm: tuple[FloatArray, FloatArray, FloatArray]
    spacing_mm: float
    geometry: sitk.Image


@dataclass(frozen=True)
class Subject:
    """A synthetic subject.

    Attributes:
        image: int16, T1w image on the grid of the template.
        mask: uint8, the same grid, 1 = lesion.
    """

    image: sitk.Image
    mask: sitk.Image


def load_template(spacing_mm: float = 1.0) -> Template:
    """Load the ICBM 2009a nonlinear symmetric template from the files of the package nilearn, without importing it.

    Args:
        spacing_mm: isotropic voxel spacing, 0.5 to 10 mm; the template is resampled unless this is 1 mm.

    Raises:
        ModuleNotFoundError: if nilearn is not installed.
        ValueError: if the spacing is out of range, or the template's grid is not that of ATLAS R2.0.
    """
    if not SPACING_MM[0] <= spacing_mm <= SPACING_MM[1]:
        low, high = SPACING_MM
        raise ValueError(f"the spacing is out of range. Expected: {low:g} to {high:g} mm. Got: {spacing_mm:g}")
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError('the template comes with nilearn: pip install "nnunet-ici[demo]"')
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    maps = []
    for name in ("t1", "gm", "wm"):
        image = sitk.ReadImage(str(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"), sitk.sitkFloat32)
        if image.GetSize() != GRID or image.GetSpacing() != (1.0, 1.0, 1.0):
            got = f"{image.GetSize()} at {image.GetSpacing()}"
            raise ValueError(f"the template has another grid than ATLAS R2.0. Expected: {GRID} at 1 mm. Got: {got}")
        maps.append(image if spacing_mm == 1 else _resample(image, spacing_mm))
    t1, grey, white = (sitk.GetArrayFromImage(image) / 255 for image in maps)
    size, (across_x, across_y) = maps[0].GetSize(), (maps[0].GetDirection()[0], maps[0].GetDirection()[4])
    # In SimpleITK x and y increase towards left and posterior, in MNI space towards right and anterior.
    signs = (-across_x, -across_y, 1.0)
    origin = (-maps[0].GetOrigin()[0], -maps[0].GetOrigin()[1], maps[0].GetOrigin()[2])
    x, y, z = (
        (start + sign * spacing_mm * np.arange(n)).astype(np.float32)
        for start, sign, n in zip(origin, signs, size, strict=True)
    )
    t1 = t1 / np.median(t1[white > 0.9])
    return Template(t1, white, grey + white > 0.5, (x, y, z), spacing_mm, maps[0])


def _resample(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.4 * spacing_mm) if spacing_mm > 1 else image
    size = [math.floor((n - 1) / spacing_mm) + 1 for n in image.GetSize()]
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [spacing_mm] * 3, image.GetDirection()
    )


def synthesize_subject(template: Template, seed: int | Sequence[int]) -> Subject:
    """Make one subject with 1 to 10 lesions of log-normal volume (0.01 to 400 cm3, median 1.5 cm3).

    Args:
        template: the brain template.
        seed: seed of all random choices; the same seed and template give the same subject.
    """
    rng = np.random.default_rng(seed)
    count = min(LESIONS[1], LESIONS[0] + int(rng.geometric(0.35)) - 1)
    volumes = np.clip(MEDIAN_VOLUME_MM3 * np.exp(LOG_SD * rng.standard_normal(count)), *VOLUME_MM3)
    side = rng.choice([-1, 1])  # most lesions of a subject lie in one hemisphere
    mask = np.zeros(template.t1.shape, bool)
    depth = np.zeros(template.t1.shape, np.float32)
    for volume_mm3 in sorted(volumes, reverse=True):
        box, lesion = _lesion(template, volume_mm3, side if rng.random() < 0.85 else -side, rng)
        # Small lesions are partial tissue loss, large ones cavities.
        deep = np.clip(0.35 + 0.14 * math.log10(volume_mm3 / VOLUME_MM3[0]) + 0.1 * rng.standard_normal(), 0.25, 0.95)
        soft = ndimage.gaussian_filter(lesion.astype(np.float32), 0.7 / template.spacing_mm)
        depth[box] = np.maximum(depth[box], deep * soft)
        mask[box] |= lesion
    image = _intensities(template, depth, rng)
    images = [sitk.GetImageFromArray(array) for array in (image, mask.astype(np.uint8))]
    for made in images:
        made.CopyInformation(template.geometry)
    return Subject(*images)


def _lesion(
    template: Template, volume_mm3: float, side: int, rng: np.random.Generator
) -> tuple[tuple[slice, ...], npt.NDArray[np.bool_]]:
    """One connected lesion of about the given volume, as a bounding box and a mask inside it.

    The lesion consists of the voxels of one hemisphere's tissue that are nearest to its center, by a distance with
    random anisotropy and noise.
    """
    x, y, z = template.coordinates_mm
    center = _center(template, side, rng)
    radius_mm = (0.75 / math.pi * volume_mm3) ** (1 / 3)
    reach = math.ceil(2.5 * radius_mm / template.spacing_mm) + 2
    shape = template.t1.shape
    box = tuple(slice(max(0, c - reach), min(c + reach + 1, n)) for c, n in zip(center, shape, strict=True))
    stretch = np.exp(0.3 * rng.standard_normal(3))
    stretch /= np.prod(stretch) ** (1 / 3)
    squared = np.zeros([b.stop - b.start for b in box], np.float32)
    for axis, coordinate in enumerate((z, y, x)):
        view = [1, 1, 1]
        view[axis] = -1
        offset = (coordinate[box[axis]] - coordinate[center[axis]]) / (radius_mm * stretch[axis])
        squared = squared + offset.reshape(view) ** 2
    ruffle = ndimage.gaussian_filter(rng.standard_normal(squared.shape), max(radius_mm / 3, 1) / template.spacing_mm)
    distance = np.sqrt(squared) + 0.38 * ruffle / (ruffle.std() + 1e-9)
    distance -= 0.25 * template.white_matter[box]
    allowed = template.tissue[box] & (np.sign(x[box[2]]) * side >= 0)
    inner = tuple(c - b.start for c, b in zip(center, box, strict=True))
    distance[inner], allowed[inner] = -np.inf, True
    voxels = min(max(1, round(volume_mm3 / template.spacing_mm**3)), int(allowed.sum()))
    nearest = np.partition(distance[allowed], voxels - 1)[voxels - 1]
    ids, _ = ndimage.label(allowed & (distance <= nearest), np.ones((3, 3, 3)))
    return box, ids == ids[inner]


def _center(template: Template, side: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A random tissue voxel of one hemisphere, mostly in the territory of the middle cerebral artery."""
    x, y, z = template.coordinates_mm
    near = np.ones((1, 1, 1), np.float32)
    for axis, (coordinate, mean, sd) in enumerate(
        zip((z, y, x * side), reversed(TERRITORY_MM), reversed(TERRITORY_SD_MM), strict=True)
    ):
        view = [1, 1, 1]
        view[axis] = -1
        near = near * np.exp(-(((coordinate - mean) / sd) ** 2) / 2).reshape(view)
    weight = template.tissue * (0.5 + template.white_matter) * (near + 0.03) * (x * side > 2)
    cumulated = np.cumsum(weight.ravel(), dtype=np.float64)
    flat = int(np.searchsorted(cumulated, rng.random() * cumulated[-1]))
    return tuple(int(i) for i in np.unravel_index(flat, weight.shape))


def _intensities(template: Template, depth: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """The image intensities: contrast, lesions, bias field, noise and scale are applied in this order."""
    brain = template.t1 > 0.05
    contrast = np.where(brain, template.t1, 0) ** rng.uniform(0.8, 1.6)
    image = contrast * (1 - depth) + CSF_LEVEL * rng.uniform(0.8, 1.2) * depth * (contrast > 0)
    coarse = rng.standard_normal((4, 4, 4))
    zoom = [n / 4 for n in image.shape]
    field = ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True)
    image = image * np.exp(rng.uniform(0.03, 0.12) * field / (np.abs(field).max() + 1e-9) * 2)
    noise = rng.uniform(0.02, 0.06) * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.where(brain, np.maximum(image + noise, 0.01), 0)
    return np.clip(np.rint(image * rng.uniform(300, 900)), 0, 32_767).astype(np.int16)
