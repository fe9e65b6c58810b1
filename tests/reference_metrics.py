"""The challenges' metrics from their rules, lesion by lesion: slow, simple, and the reference for the tests.

Every function takes a ground truth ``truth`` and a prediction ``pred``, bool, (H, W) or (D, H, W). Components are those
of ``scipy.ndimage.label``: through faces by its default structure, else through corners too.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage


def components(mask, corners):
    """For each component: the slices of its bounding box, and the component inside the box."""
    structure = np.ones((3,) * mask.ndim) if corners else None
    ids, _ = ndimage.label(mask, structure)
    return [(box, ids[box] == number) for number, box in enumerate(ndimage.find_objects(ids), start=1)]


def touches(component, mask):
    """Whether a component shares a voxel with a mask."""
    box, inside = component
    return bool((inside & mask[box]).any())


def dice(truth, pred):
    """1 where both are empty."""
    if not truth.any() and not pred.any():
        return 1.0
    return 2.0 * (truth & pred).sum() / (truth.sum() + pred.sum())


def found_missed_false(truth, pred, corners):
    """Lesions that the prediction overlaps, lesions that it misses, and components that overlap no lesion."""
    found = missed = false = 0
    for lesion in components(truth, corners):
        if touches(lesion, pred):
            found += 1
        else:
            missed += 1
    for lesion in components(pred, corners):
        if not touches(lesion, truth):
            false += 1
    return found, missed, false


def found_missed_false_at(truth, pred, overlap):
    """The same, but a lesion and a component need this IoU."""
    lesions, predicted = ([whole(c, truth.shape) for c in components(mask, corners=True)] for mask in (truth, pred))
    near = [[(one & other).sum() >= overlap * (one | other).sum() for other in predicted] for one in lesions]
    found = sum(any(row) for row in near)
    return found, len(lesions) - found, len(predicted) - sum(any(row) for row in zip(*near, strict=True))


def lesion_f1(truth, pred, corners):
    """1 where both are empty."""
    return f1(*found_missed_false(truth, pred, corners))


def f1(tp, fn, fp):
    if tp == fn == fp == 0:
        return 1.0
    return tp / (tp + (fp + fn) / 2)


def lesion_count_difference(truth, pred, corners):
    return abs(len(components(truth, corners)) - len(components(pred, corners)))


def atlas_volume_difference(truths, preds):
    """In voxels, one number per case. Both arguments are batches, (N, ...)."""
    return [abs(int(truth.sum()) - int(pred.sum())) for truth, pred in zip(truths, preds, strict=True)]


def atlas22(truth, pred):
    """The ATLAS challenge's container (ISLES 2022): voxels, and lesions through faces."""
    return {
        "dice": dice(truth, pred),
        "volume_difference_voxels": atlas_volume_difference(truth[None], pred[None])[0],
        "lesion_count_difference_faces": lesion_count_difference(truth, pred, corners=False),
        "lesion_f1_faces": lesion_f1(truth, pred, corners=False),
    }


def isles(truth, pred, spacing_mm, probability=None):
    """ISLES: ml, lesions through corners; with probabilities the area under the precision-recall curve."""
    ml_of_a_voxel = 1.0
    for edge in spacing_mm:
        ml_of_a_voxel *= edge
    ml_of_a_voxel /= 1000
    values = {
        "dice": dice(truth, pred),
        "volume_difference_ml": abs(truth.sum() * ml_of_a_voxel - pred.sum() * ml_of_a_voxel),
        "lesion_count_difference": lesion_count_difference(truth, pred, corners=True),
        "lesion_f1": lesion_f1(truth, pred, corners=True),
    }
    if probability is not None:
        values["pr_auc"] = average_precision(truth, probability)
    return values


def average_precision(truth, probability):
    """Sum of precision times the gain in recall, over falling thresholds. NaN without a lesion."""
    if not truth.any():
        return math.nan
    area = recall_before = 0.0
    for threshold in sorted(set(probability.ravel().tolist()), reverse=True):
        positive = probability >= threshold
        hits = (positive & truth).sum()
        recall = hits / truth.sum()
        area += (recall - recall_before) * hits / positive.sum()
        recall_before = recall
    return area


def paper(truth, pred):
    """What the tables of Rachmadi et al. (MIDL 2023) count."""
    found, missed, false = found_missed_false(truth, pred, corners=True)
    return {
        "dice": dice(truth, pred),
        "label_instances": found + missed,
        "missed_instances": missed,
        "predicted_instances": len(components(pred, corners=True)),
        "false_instances": false,
        "all_missed": 1 if found == 0 and missed > 0 else 0,
        "no_mistake": 1 if missed == 0 and false == 0 else 0,
    }


def whole(component, shape):
    mask = np.zeros(shape, bool)
    mask[component[0]] = component[1]
    return mask


def lesion_dice(truth, pred):
    """Each lesion against all components that touch it; missed and false lesions count 0. 1 where both are empty."""
    predicted = [whole(component, pred.shape) for component in components(pred, corners=True)]
    scores = [0.0 for mask in predicted if not (mask & truth).any()]
    for component in components(truth, corners=True):
        lesion = whole(component, truth.shape)
        touching = np.zeros_like(lesion)
        for mask in predicted:
            if (mask & lesion).any():
                touching |= mask
        scores.append(dice(lesion, touching))
    return sum(scores) / len(scores) if scores else 1.0


def panoptic_quality(truth, pred):
    """The IoU of one-to-one pairs, best first, down to 0.5, over TP + FP / 2 + FN / 2. 1 where both are empty."""
    lesions = [whole(component, truth.shape) for component in components(truth, corners=True)]
    predicted = [whole(component, pred.shape) for component in components(pred, corners=True)]
    pairs = sorted(
        (
            ((lesion & mask).sum() / (lesion | mask).sum(), i, j)
            for i, lesion in enumerate(lesions)
            for j, mask in enumerate(predicted)
        ),
        reverse=True,
    )
    matched, taken_lesions, taken_masks = [], set(), set()
    for iou, i, j in pairs:
        if iou >= 0.5 and i not in taken_lesions and j not in taken_masks:
            matched.append(iou)
            taken_lesions.add(i)
            taken_masks.add(j)
    tp, fn, fp = len(matched), len(lesions) - len(matched), len(predicted) - len(matched)
    return sum(matched) / (tp + fp / 2 + fn / 2) if tp + fn + fp else 1.0


def detection(truth, pred):
    """Recall and precision are NaN if their denominator is 0."""
    found, missed, false = found_missed_false(truth, pred, corners=True)
    predicted = len(components(pred, corners=True))
    return {
        "lesion_recall": found / (found + missed) if found + missed else math.nan,
        "lesion_precision": 1 - false / predicted if predicted else math.nan,
        "lesion_f1": lesion_f1(truth, pred, corners=True),
        "lesion_f1_iou10": f1(*found_missed_false_at(truth, pred, 0.1)),
        "lesion_dice": lesion_dice(truth, pred),
        "panoptic_quality": panoptic_quality(truth, pred),
        "mostly_outside": sum(
            0 < (mask & truth).sum() < mask.sum() / 2
            for mask in (whole(component, pred.shape) for component in components(pred, corners=True))
        ),
    }
