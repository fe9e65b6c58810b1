"""The naive loops that define every loss: one instance after the other, in float64, as the paper's algorithms.

Every function takes NumPy arrays: prob (B, C, *spatial) in [0, 1], target bool of the same shape, mask bool
(B, 1, *spatial) or None, and a threshold. An instance is the array of its flat voxel indices.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage


class Image:
    """One class of one sample: p and y without the ignored voxels, and the components of label and prediction."""

    def __init__(self, p, y, counts, threshold):
        self.shape = p.shape
        self.p = np.where(counts, p.astype(np.float64), 0.0).ravel()
        self.y = (y & counts).ravel()
        self.label_ids, self.labels = components(y & counts)
        self.pred_ids, self.preds = components((p >= threshold) & counts)

    def touching_preds(self, label):
        """T(n): the predicted instances that share a voxel with a label instance."""
        return [self.preds[i - 1] for i in np.unique(self.pred_ids[label]) if i]

    def touching_labels(self, pred):
        """S(m): the label instances that share a voxel with a predicted instance."""
        return [self.labels[i - 1] for i in np.unique(self.label_ids[pred]) if i]


def components(image):
    """The ids of one image, raveled, and the flat indices of each component; full connectivity, by SciPy."""
    ids, count = ndimage.label(image, np.ones((3,) * image.ndim))
    ids = ids.ravel()
    inside = np.flatnonzero(ids)
    inside = inside[np.argsort(ids[inside], kind="stable")]
    return ids, np.split(inside, np.cumsum(np.bincount(ids[inside], minlength=count + 1)[1:])[:-1]) if count else []


def images_of_classes(prob, target, mask, threshold):
    """For each class the list of its images."""
    for c in range(prob.shape[1]):
        everything = np.ones(prob.shape[2:], bool)
        yield [
            Image(prob[b, c], target[b, c], everything if mask is None else mask[b, 0], threshold)
            for b in range(prob.shape[0])
        ]


def entropy(p, y, inner):
    """Cross-entropy of each voxel, the logarithm clamped at -100 as torch does."""
    with np.errstate(divide="ignore"):
        plain = -np.maximum(np.log(np.where(y, p, 1 - p)), -100)
    return np.where(y, 1 - p, p) ** 2 * plain if inner == "focal" else plain


def inner_loss(image, dice, right, wrong, inner):
    """The given Dice loss, the mean cross-entropy over the voxels ``right`` (y = 1) and ``wrong`` (y = 0), or both."""
    loss = dice if inner in ("dice", "dice_ce") else 0.0
    if inner != "dice":
        voxels = np.concatenate([right, wrong]).astype(int)
        loss += entropy(image.p, image.y, inner)[voxels].mean()
    return loss


def label_loss(image, g, exclude_other_instances=True, eps=1e-5, inner="dice"):
    """L_n of one label instance of an image, Eq. 5 or Eq. 3."""
    wrong = [q[~image.y[q]] if exclude_other_instances else np.setdiff1d(q, g) for q in image.touching_preds(g)]
    wrong = np.concatenate([*wrong, []]).astype(int)
    inside = image.p[g].sum()
    dice = 1 - (2 * inside + eps) / (inside + image.p[wrong].sum() + len(g) + eps)
    return inner_loss(image, dice, g, wrong, inner)


def pred_loss(image, q, eps=1e-5, inner="dice"):
    """L_m of one predicted instance of an image, Eq. 6; the mean probability of a false one."""
    touched = image.touching_labels(q)
    right = np.concatenate([*touched, []]).astype(int)
    dice = image.p[q].mean()
    if touched:
        dice = 1 - (2 * image.p[q[image.y[q]]].sum() + eps) / (image.p[q].sum() + len(right) + eps)
    return inner_loss(image, dice, right, q[~image.y[q]], inner)


def mean_of_classes(losses, *case):
    """The mean over the instances of a class, then over the classes; losses(image) gives those of an image."""
    per_class = [[loss for image in images for loss in losses(image)] for images in images_of_classes(*case)]
    return float(np.mean([np.mean(of_class) if of_class else 0.0 for of_class in per_class]))


def instance_loss(prob, target, mask=None, threshold=0.5, **options):
    """Eq. 3 / Eq. 5, Algorithm 1."""
    return mean_of_classes(lambda i: [label_loss(i, g, **options) for g in i.labels], prob, target, mask, threshold)


def predicted_instance_loss(prob, target, mask=None, threshold=0.5, **options):
    """Appendix C, Eq. 6."""
    return mean_of_classes(lambda i: [pred_loss(i, q, **options) for q in i.preds], prob, target, mask, threshold)


def false_means(images):
    """s_m: the mean probability of each predicted instance that touches no label."""
    return [image.p[q].mean() for image in images for q in image.preds if not image.touching_labels(q)]


def lesionwise_loss(prob, target, mask=None, threshold=0.5, exclude_other_instances=True, eps=1e-5, false_weight=1.0):
    """Mean over the lesions, each counted once: missed, false and found ones."""
    per_class = []
    for images in images_of_classes(prob, target, mask, threshold):
        losses = [label_loss(image, g, exclude_other_instances, eps) for image in images for g in image.labels]
        false = false_means(images)
        lesions = len(losses) + false_weight * len(false)
        per_class.append((sum(losses) + false_weight * sum(false)) / lesions if lesions else 0.0)
    return float(np.mean(per_class))


def pq_loss(prob, target, mask=None, threshold=0.5, exclude_other_instances=True, eps=1e-5, false_weight=1.0):
    """Panoptic quality with the Dice: lesions counted as in an F1 score."""
    per_class = []
    for images in images_of_classes(prob, target, mask, threshold):
        dice = [1 - label_loss(image, g, exclude_other_instances, eps) for image in images for g in image.labels]
        hits = sum(bool(image.touching_preds(g)) for image in images for g in image.labels)
        false = false_means(images)
        if dice:
            per_class.append(1 - (2 * sum(dice) + eps) / (len(dice) + hits + false_weight * sum(false) + eps))
        else:
            per_class.append(np.mean(false) if false else 0.0)
    return float(np.mean(per_class))


def half_widths(size, shape):
    """Voxels from the center of a cube to its faces."""
    if isinstance(size, int):
        return [math.ceil((size - 1) / 2 * n / max(shape)) for n in shape]
    return [(s - 1) // 2 for s in size]


def cube(instance, shape, halves):
    """The cube around the center of mass of an instance, clipped at the border."""
    center = [math.floor(axis.mean() + 0.5) for axis in np.unravel_index(instance, shape)]
    return tuple(slice(max(0, c - h), c + h + 1) for c, h in zip(center, halves, strict=True))


def center_loss(prob, target, mask=None, threshold=0.5, size=7, eps=1e-5):
    """Eq. 4, Algorithm 2, with the live values of our definition."""
    shape = prob.shape[2:]
    halves = half_widths(size, shape)
    losses = []
    for images in images_of_classes(prob, target, mask, threshold):
        for image in images:
            label_map, pred_map, bin_map = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            for g in image.labels:
                box = cube(g, shape, halves)
                label_map[box] = 1
                if not image.touching_preds(g):
                    pred_map[box] = np.maximum(pred_map[box], image.p[g].mean())
            for q in image.preds:
                box = cube(q, shape, halves)
                bin_map[box] = 1
                pred_map[box] = np.maximum(pred_map[box], 1.0 if image.touching_labels(q) else image.p[q].mean())
            error = (pred_map * (1 - label_map)).sum() + ((1 - pred_map) * label_map).sum()
            losses.append(error / (bin_map.sum() + label_map.sum() + eps))
    return float(np.mean(losses))


def paper_instance_loss(prediction, target, eps=1e-5):
    """Algorithm 1 on one binary image, by sets: 1 - Dice of each label instance and the predictions that touch it."""
    ids, labels = components(target)
    pred_ids, preds = components(prediction)
    losses = []
    for n, g in enumerate(labels, start=1):
        touching = np.zeros(target.size, bool)
        for m in np.unique(pred_ids[g]):
            if m:
                touching[preds[m - 1]] = True
        touching[(ids > 0) & (ids != n)] = False  # Eq. 5
        losses.append(1 - (2 * touching[g].sum() + eps) / (touching.sum() + len(g) + eps))
    return float(np.mean(losses)) if losses else 0.0


def paper_center_loss(prediction, target, size=7, eps=1e-5):
    """Algorithm 2 on one binary image: 1 - Dice of the two maps of cubes."""
    halves = half_widths(size, target.shape)
    maps = []
    for image in (prediction, target):
        drawn = np.zeros(image.shape, bool)
        for instance in components(image)[1]:
            drawn[cube(instance, image.shape, halves)] = True
        maps.append(drawn)
    both, total = (maps[0] & maps[1]).sum(), maps[0].sum() + maps[1].sum()
    return float(1 - (2 * both + eps) / (total + eps)) if total else 0.0
