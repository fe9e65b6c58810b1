"""The rule and its scores as plain loops, and helpers for the tests of tuning."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import dice, lesion_dice, lesion_f1
from nnunet_ici.postprocessing.rule import Setting

SETTINGS = [Setting(t, v, p) for t in (0.5, 0.3, 0.7) for v in (0.0, 3.0, 8.0) for p in (None, 0.9) if v or not p]
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


def naive_label_map(prob, settings, scheme, order, voxel_mm3):
    """What a rule writes, voxel by voxel: the last region, or the label of the highest probability."""
    masks = [naive_mask(prob[i + (order is None)], one, voxel_mm3) for i, one in enumerate(settings)]
    label_map = np.zeros(prob.shape[1:], int)
    for voxel in np.ndindex(label_map.shape):
        inside = [i for i, mask in enumerate(masks) if mask[voxel]]
        if inside and order is not None:
            label_map[voxel] = order[inside[-1]]
        elif inside:
            label_map[voxel] = 1 + max(inside, key=lambda i: (prob[i + 1][voxel], -i))
    return label_map


def naive_scores(label, mask):
    """The columns STATISTICS."""
    matching = match_instances(label, mask)
    counts = [matching.missed_instances, matching.false_instances, matching.label_instances]
    return [dice(label, mask), lesion_dice(matching), lesion_f1(matching), *counts]
