"""Measurements of a single case at several probability thresholds, and over all thresholds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.average_precision import matched_instances
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import dice, lesion_dice, lesion_f1, pr_auc

THRESHOLDS = (
    *(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9998, 0.99995, 0.99999, 0.999999),
)
SCORES = ("dice", "f1", "f1_iou50", "lesion_dice")
COUNTS = ("lesions", "found", "false", "predicted", "iou50", "merged", "small", "small_found", "matched")

BoolArray = npt.NDArray[np.bool_]


def instance_sizes(mask: BoolArray) -> list[int]:
    """The number of voxels of each instance of a mask (H, W) or (D, H, W); an empty list for an empty mask."""
    return match_instances(mask, mask).label_voxels.tolist()


def measure_case(label: BoolArray, probability: npt.NDArray[np.floating], small: float) -> dict[str, object]:
    """Measure one prediction.

    Args:
        label: label mask, bool (H, W) or (D, H, W).
        probability: foreground probability, same shape.
        small: largest size in voxels of a small lesion.

    Returns:
        ``pr_auc``: area under the precision-recall curve over voxels, as average precision; None for an empty label.
        ``thresholds``: the :data:`SCORES` and :data:`COUNTS` at each of the :data:`THRESHOLDS`. Scores: ``dice`` (two
        empty masks: 1), ``f1`` (lesion-wise, any shared voxel; no lesions in either mask: 1), ``f1_iou50`` (a lesion is
        found if its IoU with a predicted component is above 0.5), ``lesion_dice`` (lesion-wise Dice as in the BraTS
        challenges, without their dilation and smallest volume). Counts: ``merged`` is the number of lesions that share
        a predicted component with another lesion, ``small`` the number of small lesions, and ``small_found`` the number
        of small lesions found, and ``matched`` that of the one-to-one matches with an IoU of 0.1 or more.
    """
    thresholds: list[dict[str, float]] = []
    for threshold in THRESHOLDS:
        mask = probability >= threshold
        matching = match_instances(label, mask)
        sizes, found = matching.label_voxels, matching.label_found
        of_label, of_predicted = (matching.pairs - 1).T
        merged = np.zeros(sizes.size, bool)
        merged[of_label[np.bincount(of_predicted)[of_predicted] > 1]] = True
        union = sizes[of_label] + matching.predicted_voxels[of_predicted] - matching.shared_voxels
        iou50 = int(np.count_nonzero(2 * matching.shared_voxels > union))
        instances = matching.label_instances + matching.predicted_instances
        thresholds.append(
            {
                "dice": dice(label, mask),
                "f1": lesion_f1(matching),
                "f1_iou50": 2 * iou50 / instances if instances else 1.0,
                "lesion_dice": lesion_dice(matching),
                "lesions": matching.label_instances,
                "found": matching.found_instances,
                "false": matching.false_instances,
                "predicted": matching.predicted_instances,
                "iou50": iou50,
                "merged": int(merged.sum()),
                "small": int(np.count_nonzero(sizes <= small)),
                "small_found": int(np.count_nonzero(found & (sizes <= small))),
                "matched": matched_instances(matching),
            }
        )
    return {"pr_auc": pr_auc(label, probability) if label.any() else None, "thresholds": thresholds}
