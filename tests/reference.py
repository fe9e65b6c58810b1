"""The naive loops that define every loss: one instance after the other, straight from the paper's algorithms, in NumPy
float64.

Every function takes prob (B, C, *spatial) in [0, 1], target bool of the same shape, mask bool (B, 1, *spatial) or None,
and a threshold.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage


def components(image: np.ndarray) -> list[np.ndarray]:
    """The connected components of one image as bool masks, full connectivity, by SciPy."""
    ids, count = ndimage.label(image, np.ones((3,) * image.ndim))
    return [ids == i for i in range(1, count + 1)]


def classes_of(prob, target, mask):
    """For each class the list of its images: (p, y), with ignored voxels out of both."""
    for c in range(prob.shape[1]):
        images = []
        for b in range(prob.shape[0]):
            counts = np.ones(prob.shape[2:], bool) if mask is None else mask[b, 0]
            images.append((np.where(counts, prob[b, c].astype(np.float64), 0.0), target[b, c] & counts, counts))
        yield images


def instance_loss(prob, target, mask=None, threshold=0.5, exclude_other_instances=True, eps=1e-5):
    """Eq. 3 / Eq. 5, Algorithm 1."""
    per_class = []
    for images in classes_of(prob, target, mask):
        losses = []
        for p, y, counts in images:
            predictions = components((p >= threshold) & counts)
            for g in components(y):
                inside = p[g].sum()
                wrong = 0.0
                for q in predictions:
                    if (q & g).any():
                        wrong += p[q & ~y].sum() if exclude_other_instances else p[q & ~g].sum()
                losses.append(1 - (2 * inside + eps) / (inside + wrong + g.sum() + eps))
        per_class.append(np.mean(losses) if losses else 0.0)
    return float(np.mean(per_class))


def predicted_instance_loss(prob, target, mask=None, threshold=0.5, eps=1e-5):
    """Appendix C, Eq. 6."""
    per_class = []
    for images in classes_of(prob, target, mask):
        losses = []
        for p, y, counts in images:
            labels = components(y)
            for q in components((p >= threshold) & counts):
                union = sum(g.sum() for g in labels if (g & q).any())
                if union:
                    losses.append(1 - (2 * p[q & y].sum() + eps) / (p[q].sum() + union + eps))
                else:
                    losses.append(p[q].mean())
        per_class.append(np.mean(losses) if losses else 0.0)
    return float(np.mean(per_class))


def cube(instance: np.ndarray, halves) -> tuple[slice, ...]:
    """The cube around the center of mass of an instance, clipped at the border."""
    center = [math.floor(axis.mean() + 0.5) for axis in np.nonzero(instance)]
    return tuple(slice(max(0, c - h), c + h + 1) for c, h in zip(center, halves, strict=True))


def center_loss(prob, target, mask=None, threshold=0.5, size=7, eps=1e-5):
    """Eq. 4, Algorithm 2, with the live values of our definition."""
    shape = prob.shape[2:]
    if isinstance(size, int):
        halves = [math.ceil((size - 1) / 2 * n / max(shape)) for n in shape]
    else:
        halves = [(s - 1) // 2 for s in size]
    losses = []
    for images in classes_of(prob, target, mask):
        for p, y, counts in images:
            label_map, pred_map, bin_map = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            labels, predictions = components(y), components((p >= threshold) & counts)
            for g in labels:
                label_map[cube(g, halves)] = 1
                if not any((g & q).any() for q in predictions):
                    pred_map[cube(g, halves)] = np.maximum(pred_map[cube(g, halves)], p[g].mean())
            for q in predictions:
                bin_map[cube(q, halves)] = 1
                value = 1.0 if (q & y).any() else p[q].mean()
                pred_map[cube(q, halves)] = np.maximum(pred_map[cube(q, halves)], value)
            error = (pred_map * (1 - label_map)).sum() + ((1 - pred_map) * label_map).sum()
            losses.append(error / (bin_map.sum() + label_map.sum() + eps))
    return float(np.mean(losses))


def paper_instance_loss(prediction, target, eps=1e-5):
    """Algorithm 1 on one binary image, by sets: 1 - Dice of each label instance and the predictions that touch it."""
    predictions, losses = components(prediction), []
    for g in components(target):
        touching = np.zeros_like(target)
        for q in predictions:
            if (q & g).any():
                touching |= q & ~(target & ~g)
        touching &= g | ~target
        losses.append(1 - (2 * (touching & g).sum() + eps) / (touching.sum() + g.sum() + eps))
    return float(np.mean(losses)) if losses else 0.0


def paper_center_loss(prediction, target, size=7, eps=1e-5):
    """Algorithm 2 on one binary image: 1 - Dice of the two maps of cubes."""
    halves = [math.ceil((size - 1) / 2 * n / max(target.shape)) for n in target.shape]
    maps = []
    for image in (prediction, target):
        drawn = np.zeros(image.shape, bool)
        for instance in components(image):
            drawn[cube(instance, halves)] = True
        maps.append(drawn)
    both, total = (maps[0] & maps[1]).sum(), maps[0].sum() + maps[1].sum()
    return float(1 - (2 * both + eps) / (total + eps)) if total else 0.0
