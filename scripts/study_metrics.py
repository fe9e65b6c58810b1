"""What the study measures of one case: at several thresholds of the probability, and over all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.metrics import average_precision_score

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
COUNTS = ("lesions", "found", "false", "predicted", "iou50", "merged", "small", "small_found")

BoolArray = npt.NDArray[np.bool_]


def label_instances(mask: BoolArray) -> tuple[npt.NDArray[np.int32], int]:
    """Connected components with full connectivity, by SciPy: ids (int32, 0 = background) and their number."""
    ids, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return ids.astype(np.int32), int(count)


def instance_sizes(mask: BoolArray) -> list[int]:
    """The number of voxels of each instance."""
    ids, count = label_instances(mask)
    return np.bincount(ids.ravel(), minlength=count + 1)[1:].tolist()


def measure_case(
    label: BoolArray, probability: npt.NDArray[np.floating], small: float, curve: bool = True
) -> dict[str, object]:
    """Measure one prediction.

    Args:
        label: (H, W) or (D, H, W), bool.
        probability: the same shape, of the foreground.
        small: lesions up to this many voxels are small ones.
        curve: whether ``pr_auc`` is wanted, which sorts all voxels.

    Returns:
        ``pr_auc``: area under the precision-recall curve over voxels, as average precision; None for an empty label.
        ``thresholds``: for each of :data:`THRESHOLDS`, ``dice`` (two empty masks: 1), ``f1`` (lesion-wise, any shared
        voxel; no lesion on either side: 1), ``f1_iou50`` (a lesion is found by the predicted component that shares
        more than half of their union) and the :data:`COUNTS`; ``merged`` counts the lesions that share a predicted
        component with another one, ``small`` and ``small_found`` the small lesions.
    """
    ids, lesions = label_instances(label)
    sizes = np.bincount(ids.ravel(), minlength=lesions + 1)[1:]
    is_small = sizes <= small
    result: dict[str, object] = {"pr_auc": None, "thresholds": []}
    if curve and lesions:
        result["pr_auc"] = float(average_precision_score(label.ravel(), probability.ravel()))
    for threshold in THRESHOLDS:
        mask = probability >= threshold
        predicted_ids, predicted = label_instances(mask)
        predicted_sizes = np.bincount(predicted_ids.ravel(), minlength=predicted + 1)[1:]
        both = label & mask
        keys = (ids[both] - 1) * np.int64(max(predicted, 1)) + (predicted_ids[both] - 1)
        pairs, shared = np.unique(keys, return_counts=True)
        of_label, of_predicted = np.divmod(pairs, max(predicted, 1))
        found = np.zeros(lesions, bool)
        found[of_label] = True
        touched = np.bincount(of_predicted, minlength=predicted)
        merged = np.zeros(lesions, bool)
        merged[of_label[touched[of_predicted] > 1]] = True
        union = sizes[of_label] + predicted_sizes[of_predicted] - shared
        iou50 = int(np.count_nonzero(2 * shared > union))
        counts = {
            "lesions": lesions,
            "found": int(found.sum()),
            "false": int(np.count_nonzero(touched == 0)),
            "predicted": predicted,
            "iou50": iou50,
            "merged": int(merged.sum()),
            "small": int(is_small.sum()),
            "small_found": int((found & is_small).sum()),
        }
        voxels = int(label.sum() + mask.sum())
        missed = lesions - counts["found"]
        result["thresholds"].append(
            {
                "dice": 2 * int(both.sum()) / voxels if voxels else 1.0,
                "f1": _f1(counts["found"], missed, counts["false"]),
                "f1_iou50": _f1(iou50, lesions - iou50, predicted - iou50),
                **counts,
            }
        )
    return result


def _f1(found: int, missed: int, false: int) -> float:
    total = 2 * found + missed + false
    return 2 * found / total if total else 1.0
