"""The rule and its scores as plain loops, and helpers for the tests of tuning."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import dice, lesion_f1
from nnunet_ici.postprocessing.sweep import Grid

GRID = Grid((0.3, 0.5, 0.7), (0.0, 3.0, 8.0), (None, 0.6, 0.9))
LABELS = LabelScheme({"edema": (1,), "core": (2,)})
REGIONS = LabelScheme({"whole": (1, 2), "core": (2,)})


def smooth(rng, shape, channels=None):
    """Probabilities with blobs, in [0, 1]."""
    size = shape if channels is None else (channels, *shape)
    field = ndimage.gaussian_filter(rng.normal(size=size), [0] * (len(size) - len(shape)) + [1.0] * len(shape))
    return (1 / (1 + np.exp(-6 * field / field.std()))).astype(np.float32)


def naive_mask(prob, setting, voxel_mm3):
    """The rule in plain loops, one component after the other."""
    ids, count = ndimage.label(prob > np.float32(setting.threshold), np.ones((3,) * prob.ndim))
    mask = np.zeros(prob.shape, bool)
    for one in range(1, count + 1):
        component = ids == one
        small = component.sum() * voxel_mm3 < setting.minimum_volume_mm3 * (1 - 1e-6)
        peak = setting.peak_probability
        if not small or (peak is not None and prob[component].max() >= np.float32(peak)):
            mask |= component
    return mask


def naive_scores(label, mask):
    matching = match_instances(label, mask)
    return [dice(label, mask), lesion_f1(matching), matching.missed_instances, matching.false_instances]


# The rule
