"""A made-up lesion mask of one patient in MNI space."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

BALL = ndimage.generate_binary_structure(3, 1)


def lesion_mask(seed=0, count=30):
    """Separate lesions of 1, 7 and 25 voxels and a large one, inside the brain."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((182, 218, 182), np.uint8)
    for i in range(count):
        z, y, x = rng.integers(11, 15), rng.integers(8, 17), rng.integers(6, 12)
        center = np.array([8 * z, 8 * y, 8 * x + (0 if rng.random() < 0.5 else 7)])
        box = tuple(slice(c - 2, c + 3) for c in center)
        one = np.zeros((5, 5, 5), bool)
        one[2, 2, 2] = True
        mask[box] |= ndimage.binary_dilation(one, BALL, iterations=i % 3) if i % 3 else one
    mask[88:98, 100:118, 60:66] = 1
    image = sitk.GetImageFromArray(mask)
    image.SetOrigin((-90.0, 126.0, -72.0))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def count(mask):
    return ndimage.label(mask, np.ones((3, 3, 3)))[1]
