"""The contrast of lesions in FLAIR images: its measurement, and the values measured on real images.

Measured at 1 mm on patients 07 and 19 (135 lesions) of Lesjak et al., *A novel public MR image dataset of multiple
sclerosis patients with lesion segmentations based on multi-rater consensus*, Neuroinformatics 2017,
doi 10.1007/s12021-017-9348-7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = [
    "BLUR_MM",
    "MEDIAN_CONTRAST",
    "SIZES_MM3",
    "Contrasts",
    "brain_tissue",
    "draw_contrast",
    "lesions_and_shells",
    "measure_contrast",
]

SHELL_VOXELS = (2.0, 4.0)
# Medians, and spreads of the logarithm (interquartile range / 1.349), of 54 lesions below 10 mm3, 57 lesions from 10 to
# below 50 mm3, and 24 lesions from 50 mm3. The medians of the single patients are 1.20, 1.37, 2.12 (07) and 1.40, 1.57,
# 2.05 (19). In T1 the medians are 0.03, -0.23 and -0.77: small lesions have no contrast there.
SIZES_MM3 = (10.0, 50.0)
MEDIAN_CONTRAST = (1.33, 1.54, 2.06)
LOG_SPREAD = (0.37, 0.25, 0.18)

BLUR_MM = 0.5  # standard deviation of the Gaussian that blurs the edge of an implant over about one voxel

Box = tuple[slice, ...]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Contrasts:
    """Sizes and contrasts of K lesions, in the order of their component labels.

    Attributes:
        voxels: number of voxels of each lesion, int64 (K,).
        contrast: mean of each lesion minus mean of its surroundings, in standard deviations of brain tissue,
            float64 (K,); NaN if no tissue surrounds the lesion.
    """

    voxels: npt.NDArray[np.int64]
    contrast: npt.NDArray[np.float64]


def measure_contrast(image: npt.NDArray[np.generic], mask: npt.NDArray[np.generic]) -> Contrasts:
    """Measure the contrast between each lesion (26-connected component) and its surroundings.

    The surroundings are the brain tissue at a distance of 2 to 4 voxels from the lesion, without other lesions.

    Args:
        image: image (D, H, W), 0 outside the brain.
        mask: lesion mask (D, H, W), bool or uint8, 1 = lesion. Without lesions, the result is empty.

    Raises:
        ValueError: if the shapes differ, or if there is no brain outside the lesions.

    Example:
        >>> image = np.full((9, 9, 9), 100.0)
        >>> image[::2] = 110  # half of the voxels; the standard deviation is 5
        >>> mask = np.zeros((9, 9, 9), np.uint8)
        >>> mask[4, 4, 4:6], image[4, 4, 4:6] = 1, 120
        >>> table = measure_contrast(image, mask)
        >>> table.voxels, table.contrast.round(1)
        (array([2]), array([3.]))
    """
    if image.shape != mask.shape:
        raise ValueError(f"image and mask must have the same shape. Got: {image.shape} and {mask.shape}")
    lesions = np.greater(mask, 0)
    ids, count = label_array(lesions)
    values = image.astype(np.float64)
    tissue = brain_tissue(values, lesions)
    sd = values[tissue].std()
    contrast = np.full(count, np.nan)
    for lesion_id, box, lesion, shell in lesions_and_shells(ids):
        around = values[box][shell & tissue[box]]
        if around.size:
            contrast[lesion_id - 1] = (values[box][lesion].mean() - around.mean()) / sd
    return Contrasts(np.bincount(ids.ravel(), minlength=count + 1)[1:].astype(np.int64), contrast)


def brain_tissue(image: npt.NDArray[np.floating], mask: BoolArray) -> BoolArray:
    """The mask of healthy brain tissue: voxels outside the lesions that are brighter than half the median of the brain.

    The lesions are excluded from the median. In FLAIR images, the result excludes CSF.

    Args:
        image: image (D, H, W), 0 outside the brain.
        mask: lesion mask, bool (D, H, W).

    Raises:
        ValueError: if there is no brain outside the lesions.
    """
    healthy = (image > 0) & ~mask
    if not healthy.any():
        raise ValueError("the image contains no brain. Expected: values above 0 outside the lesions. Got: none")
    return healthy & (image > 0.5 * np.median(image[healthy]))


def lesions_and_shells(ids: npt.NDArray[np.integer]) -> Iterator[tuple[int, Box, BoolArray, BoolArray]]:
    """Iterate over the lesions and their surrounding shells at a distance of 2 to 4 voxels.

    Args:
        ids: component ids (D, H, W), 0 for the background.

    Yields:
        The id of a lesion, a box that contains the lesion and its shell, and the masks of both in this box. The shell
        excludes all lesions.
    """
    margin = int(SHELL_VOXELS[1]) + 1
    for lesion_id, tight in enumerate(ndimage.find_objects(ids), 1):
        if tight is None:
            continue
        box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in tight)
        lesion = ids[box] == lesion_id
        distance = ndimage.distance_transform_edt(~lesion)
        shell = (distance >= SHELL_VOXELS[0]) & (distance <= SHELL_VOXELS[1]) & (ids[box] == 0)
        yield lesion_id, box, lesion, shell


def draw_contrast(volume_mm3: float, rng: np.random.Generator) -> float:
    """Draw a log-normal contrast for a lesion of this volume, in standard deviations of brain tissue."""
    size = int(np.searchsorted(SIZES_MM3, volume_mm3, side="right"))
    return float(MEDIAN_CONTRAST[size] * np.exp(LOG_SPREAD[size] * rng.standard_normal()))
