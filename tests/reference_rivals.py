"""The naive loops that define the rival losses: one instance, one voxel after the other.

Arrays as in tests/reference.py; the losses over all classes take logits (B, C, *spatial), label (B, *spatial) of
integers and mask bool (B, *spatial) or None. CC-DiceCE, CATMIL and inverse weighting follow their authors' code, in
torch, so that their gradients can be compared as well.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from tests.reference import components, images_of_classes, inner_loss


def blob_loss(prob, target, mask=None, inner="dice", eps=1e-5):
    """Kofler et al.: the other instances masked out, a loss over the image."""
    per_class = []
    for b_images, counted in zip(images_of_classes(prob, target, mask, 2.0), [mask] * prob.shape[1], strict=True):
        means = []
        for b, image in enumerate(b_images):
            counts = np.ones(image.y.shape, bool) if counted is None else counted[b, 0].ravel()
            background = np.flatnonzero(~image.y & counts)
            losses = []
            for g in image.labels:
                kept = np.concatenate([g, background])
                dice = 1 - (2 * image.p[g].sum() + eps) / (image.p[kept].sum() + len(g) + eps)
                losses.append(inner_loss(image, dice, g, background, inner))
            if losses:
                means.append(np.mean(losses))
        per_class.append(np.mean(means) if means else 0.0)
    return float(np.mean(per_class))


def nearest(places, voxel):
    """The distance from a voxel to the nearest of the places (K, axes)."""
    return np.sqrt(((places - np.array(voxel)) ** 2).sum(1)).min() if len(places) else np.inf


def voronoi(ids, shape):
    """The set of nearest instances of each voxel of a raveled id image, including ties."""
    places = {n: np.argwhere(ids.reshape(shape) == n) for n in range(1, ids.max() + 1)}
    regions = []
    for voxel in np.ndindex(shape):
        distance = {n: nearest(at, voxel) for n, at in places.items()}
        regions.append({n for n, d in distance.items() if np.isclose(d, min(distance.values()))})
    return regions


def cc_dice_ce_loss(prob, target, region_of, mask=None):
    """Dice + CE in each region of an image, or in the image if it has none; tensors, differentiable.

    region_of(class, sample) gives the region of each voxel, raveled, ties resolved; 0 without an instance.
    """
    scores = []
    for b, c in np.ndindex(*prob.shape[:2]):
        counts = torch.ones_like(target[b, c]) if mask is None else mask[b, 0]
        of_voxel = torch.as_tensor(region_of(c, b)).reshape(counts.shape)
        losses = []
        for n in range(1, int(of_voxel.max()) + 1) if of_voxel.any() else [0]:
            inside = (of_voxel == n) & counts
            p, y = prob[b, c][inside], target[b, c][inside]
            dice = 1 - 2 * p[y].sum() / (p.sum() + y.sum()).clamp(min=1e-7)
            losses.append(dice - torch.where(y, p, 1 - p).clamp(min=1e-7).log().sum() / max(int(inside.sum()), 1))
        scores.append(torch.stack(losses).mean())
    return torch.stack(scores).mean()


def softmax(logits):
    z = np.exp(logits - logits.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def maps(logits, label, mask, value):
    """Mean over counted voxels and classes of softmax * value(place in class, distance to it, to the rest, largest)."""
    prob, products = softmax(logits.astype(np.float64)), []
    for b in range(len(label)):
        counts = np.ones(label[b].shape, bool) if mask is None else mask[b]
        for c in range(logits.shape[1]):
            inside = (label[b] == c) & counts
            to_class, to_rest = np.argwhere(inside), np.argwhere(~inside)
            largest = max((nearest(to_rest, voxel) for voxel in map(tuple, to_class)), default=0)
            for voxel in map(tuple, np.argwhere(counts)):
                z = value(inside[voxel], nearest(to_class, voxel), nearest(to_rest, voxel), largest)
                products.append(prob[(b, c, *voxel)] * z)
    return float(np.mean(products)) if products else 0.0


def region_wise_loss(logits, label, mask=None):
    """Rectified maps."""

    def value(inside, to_class, to_rest, largest):
        if not inside:
            return 1
        return -1 if np.isinf(largest) else -to_rest / largest

    return maps(logits, label, mask, value)


def boundary_loss(logits, label, mask=None):
    """Signed distances."""

    def value(inside, to_class, to_rest, largest):
        distance = 1 - to_rest if inside else to_class
        return 0 if np.isinf(distance) else distance

    return maps(logits, label, mask, value)


def weighted(logits, label, weight):
    """Weighted cross-entropy, normalized."""
    prob = softmax(logits.astype(np.float64))
    entropy_ = -np.log(np.take_along_axis(prob, label[:, None], 1)[:, 0])
    return float((entropy_ * weight).sum() / weight.sum()) if weight.sum() else 0.0


def dilated_balanced_ce_loss(logits, label, mask=None, radius=3):
    """Inverse frequency of dilated classes."""
    classes, weight = logits.shape[1], np.zeros(label.shape)
    for b in range(len(label)):
        counts = np.ones(label[b].shape, bool) if mask is None else mask[b]
        for c in range(classes):
            places = np.argwhere((label[b] == c) & counts)
            dilated = [v for v in map(tuple, np.argwhere(counts)) if nearest(places, v) <= radius]
            for voxel in dilated:
                weight[(b, *voxel)] = max(weight[(b, *voxel)], counts.sum() / (classes * len(dilated)))
    return weighted(logits, label, weight)


def inverse_weighting_loss(logits, label, mask=None):
    """Every component and the background have the same weight but for the limits; differentiable tensors or arrays."""
    logits, label = torch.as_tensor(logits), torch.as_tensor(label)
    weight = np.zeros(label.shape)
    for b in range(len(label)):
        counts = np.ones(label[b].shape, bool) if mask is None else np.asarray(mask[b])
        parts = [np.flatnonzero((label[b].numpy() == 0) & counts)]
        for c in range(1, logits.shape[1]):
            parts += components((label[b].numpy() == c) & counts)[1]
        for part in parts:
            weight[b].reshape(-1)[part] = np.clip(counts.sum() / (len(parts) * max(len(part), 1)), 1, 2e5)
    products = torch.from_numpy(weight) * F.cross_entropy(logits, label, reduction="none")
    return products.sum() / (max(label.numel(), 1) if mask is None else max(int(mask.sum()), 1))


def cat_and_mil(prob, target, mask=None, eps=1e-5):
    """CATMIL's two losses of the classes that are present: the weighted Tversky loss, and the cross-entropy of the best
    voxel of each lesion; tensors, differentiable."""
    cat, mil = [], []
    for c in range(prob.shape[1]):
        losses, costs = [], []
        for b in range(len(prob)):
            counts = torch.ones_like(target[b, c]) if mask is None else mask[b, 0]
            y, p = target[b, c] & counts, prob[b, c]
            ids, lesions = ndimage.label(y.numpy())  # by faces
            w = 0.01 * counts.double()
            for n in range(1, lesions + 1):
                lesion = torch.from_numpy(ids == n)
                w[lesion] = 1 / (int(lesion.sum()) + 5)
                costs.append(-p[lesion].max().clamp(min=1e-6).log())
            true, false, missed = (w * p * y).sum(), (w * p * ~y).sum(), (w * (1 - p) * y).sum()
            losses.append(1 - (true + eps) / (true + 0.3 * false + 0.7 * missed + eps))
        if costs:
            cat.append(torch.stack(losses).mean())
            mil.append(torch.stack(costs).mean())
    return [torch.stack(by_class).mean() if by_class else 0 * prob.sum() for by_class in (cat, mil)]
