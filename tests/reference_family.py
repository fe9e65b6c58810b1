"""The instance-level family of Rachmadi, Byra & Skibbe (2024): loops, and a transcription of the published values.

Arrays as in tests/reference.py.
"""

from __future__ import annotations

import copy

import numpy as np

from tests.reference import images_of_classes, label_loss, pred_loss


def box(voxels, shape):
    """The bounding box of an instance, widened by its extent and clipped; and its center."""
    places = np.stack(np.unravel_index(voxels, shape), 1)
    first, last = places.min(0), places.max(0)
    offset = last - first
    offset[offset == 0] = 1
    low, high = np.maximum(first - offset - 1, 0), np.minimum(last + offset, shape)
    return low, high, low + np.ceil((high - low) / 2)


def middle(shape):
    """The box that stands for the instances of an image without any."""
    position = np.array([n // 2 for n in shape])
    return position - 1, position + 1, position


def distance_iou(a, b):
    sides = [min(x, y) - max(v, w) for v, x, w, y in zip(a[0], a[1], b[0], b[1], strict=True)]
    shared = np.prod([max(side, 0) for side in sides])
    union = np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared
    common = np.maximum(a[1], b[1]) - np.minimum(a[0], b[0])
    return 1 - shared / union + ((a[2] - b[2]) ** 2).sum() / ((common**2).sum() + 1e-7)


def dice_loss(p, y, eps=1e-5):
    """MONAI's DiceLoss of one pair of images."""
    return 1 - (2 * (p * y).sum() + eps) / (p.sum() + y.sum() + eps)


def only(places, shape):
    """The image that is 1 at these flat indices."""
    image = np.zeros(np.prod(shape, dtype=int))
    image[np.concatenate(places).astype(int) if len(places) else []] = 1
    return image


def published(binary, target, mask=None):
    """The values of the authors' code for a binary prediction of one class, without its limits to 50 instances.

    Returns a dictionary: "false" and "missed" numbers and rates, and "proximity", means over the images.
    """
    rows = []
    for image in next(images_of_classes(binary, target, mask, 0.5)):
        out, lab = (only(parts, image.shape) for parts in (image.preds, image.labels))
        label_losses, pred_losses = [], []
        for g in image.labels:
            touching = only(image.touching_preds(g), image.shape) * (1 - lab + only([g], image.shape))
            label_losses.append(dice_loss(touching, only([g], image.shape)))
        for q in image.preds:
            pred_losses.append(dice_loss(only([q], image.shape), only(image.touching_labels(q), image.shape)))
        label_boxes, pred_boxes = ([box(i, image.shape) for i in parts] for parts in (image.labels, image.preds))
        for boxes, losses in ((label_boxes, label_losses), (pred_boxes, pred_losses)):
            if not boxes:
                boxes.append(middle(image.shape)), losses.append(dice_loss(out, lab))
        pairs = np.array([[distance_iou(a, b) for b in pred_boxes] for a in label_boxes])
        missed = sum(not image.touching_preds(g) for g in image.labels)
        false = sum(not image.touching_labels(q) for q in image.preds)
        row = {"missed number": missed, "false number": false}
        row |= {"missed rate": missed / (len(image.labels) + 1e-7), "false rate": false / (len(image.preds) + 1e-7)}
        row["proximity"] = (pairs.min(1) @ label_losses - pairs.min(0) @ pred_losses) ** 2
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def false_instance_rate_loss(prob, target, mask=None, threshold=0.5, rates=True, false_weight=1.0):
    """Missed instances by the probability that they lack, false ones by the probability that they have."""
    per_class = []
    for images in images_of_classes(prob, target, mask, threshold):
        losses = []
        for image in images:
            missed = sum(1 - image.p[g].mean() for g in image.labels if not image.touching_preds(g))
            false = sum(image.p[q].mean() for q in image.preds if not image.touching_labels(q))
            if rates:
                missed, false = missed / max(len(image.labels), 1), false / max(len(image.preds), 1)
            losses.append(missed + false_weight * false)
        per_class.append(np.mean(losses))
    return float(np.mean(per_class))


def instance_proximity_loss(prob, target, mask=None, threshold=0.5, exclude_other_instances=True, eps=1e-5):
    """A^2 + B^2 - 2 A' B', with the sums A over labels and B over predictions, and those of the binary prediction."""
    per_class = []
    for images in images_of_classes(prob, target, mask, threshold):
        values = []
        for image in images:
            binary = copy.copy(image)
            binary.p = np.where(image.pred_ids > 0, 1.0, 0.0)
            (a, b), (a_binary, b_binary) = (sums_of_proximity(i, exclude_other_instances, eps) for i in (image, binary))
            values.append(a**2 + b**2 - 2 * a_binary * b_binary)
        per_class.append(np.mean(values))
    return float(np.mean(per_class))


def sums_of_proximity(image, exclude_other_instances, eps):
    """A and B of one image: the smallest distance of each instance, times its loss."""
    p = image.p
    label_losses = [label_loss(image, g, exclude_other_instances, eps) for g in image.labels]
    pred_losses = [
        pred_loss(image, q, eps) if image.touching_labels(q) else p[q].sum() / (len(q) + eps) for q in image.preds
    ]
    label_boxes, pred_boxes = ([box(i, image.shape) for i in parts] for parts in (image.labels, image.preds))
    if not image.preds and image.labels:
        y = np.concatenate(image.labels)
        pred_boxes.append(middle(image.shape))
        pred_losses.append(1 - (2 * p[y].sum() + eps) / (p[y].sum() + len(y) + eps))
    if image.preds and not image.labels:
        q = np.concatenate(image.preds)
        label_boxes.append(middle(image.shape)), label_losses.append(p[q].sum() / (len(q) + eps))
    if not label_boxes:
        return 0.0, 0.0
    pairs = np.array([[distance_iou(a, b) for b in pred_boxes] for a in label_boxes])
    return pairs.min(1) @ label_losses, pairs.min(0) @ pred_losses
