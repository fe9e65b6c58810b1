"""What the study measures of one case: at several thresholds of the probability, and over all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import average_precision, dice, lesion_dice, lesion_f1

THRESHOLDS = (
    *(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9998, 0.99995, 0.99999, 0.999999),
)
SCORES = ("dice", "f1", "f1_iou50", "lesion_dice")
COUNTS = ("lesions", "found", "false", "predicted", "iou50", "merged", "small", "small_found")

BoolArray = npt.NDArray[np.bool_]


def instance_sizes(mask: BoolArray) -> list[int]:
    """The number of voxels of each instance of a mask, (H, W) or (D, H, W); none for an empty one."""
    return match_instances(mask, mask).label_voxels.tolist()


def measure_case(label: BoolArray, probability: npt.NDArray[np.floating], small: float) -> dict[str, object]:
    """Measure one prediction.

    Args:
        label: (H, W) or (D, H, W), bool.
        probability: the same shape, of the foreground.
        small: lesions up to this many voxels are small ones.

    Returns:
        ``pr_auc``: area under the precision-recall curve over voxels, as average precision; None for an empty label.
        ``thresholds``: for each of :data:`THRESHOLDS` the :data:`SCORES` and :data:`COUNTS`. Scores: ``dice`` (two
        empty masks: 1), ``f1`` (lesion-wise, any shared voxel; no lesion on either side: 1), ``f1_iou50`` (a lesion is
        found by the predicted component that shares more than half of their union), ``lesion_dice`` (lesion-wise Dice
        as in the BraTS challenges, without their dilation and smallest volume). Counts: ``merged`` are the lesions that
        share a predicted component with another one, ``small`` and ``small_found`` the small lesions.
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
            }
        )
    return {"pr_auc": average_precision(label, probability) if label.any() else None, "thresholds": thresholds}
