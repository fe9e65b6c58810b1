"""Metrics of one case and one class: pure functions of two masks, or of their matching.

The empty cases are conventions, and the same for both scores, as in the scripts of the ATLAS and ISLES challenges: two
empty masks agree and score 1, one empty mask scores 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, as_mask, match_instances

__all__ = ["METRICS", "dice", "evaluate_case", "lesion_f1"]

# The keys of evaluate_case, in the order of the columns in cases.csv: family.metric.
METRICS = (
    "paper.dsc",
    "paper.label_instances",
    "paper.missed_instances",
    "paper.predicted_instances",
    "paper.false_instances",
    "isles.lesion_f1",
)


def dice(label: npt.NDArray[np.generic], prediction: npt.NDArray[np.generic]) -> float:
    """Dice similarity coefficient: 2 |label and prediction| / (|label| + |prediction|), counted in voxels.

    Args:
        label: any shape, bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.

    Returns:
        A number in [0, 1]. Two empty masks: 1, by convention. One empty mask: 0.

    Raises:
        TypeError, ValueError: if one is not a mask, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> dice(np.array([[1, 1]]), np.array([[1, 0]]))  # 2 * 1 / (2 + 1)
        0.6666666666666666
    """
    label, prediction = as_mask(label, "label"), as_mask(prediction, "prediction")
    if label.shape != prediction.shape:
        raise ValueError(
            f"label and prediction differ in shape. Expected: {label.shape}, as the label. Got: {prediction.shape}"
        )
    total = np.count_nonzero(label) + np.count_nonzero(prediction)
    if total == 0:
        return 1.0
    return float(2 * np.count_nonzero(label & prediction) / total)


def lesion_f1(matching: Matching) -> float:
    """Lesion-wise F1, as in ISLES: 2 TP / (2 TP + FP + FN), counted in instances.

    TP are the label's instances that a prediction touches, FN those that none touches, FP the predicted instances that
    touch no label. A prediction over two lesions finds both; two predictions on one lesion are one TP and no FP.

    Returns:
        A number in [0, 1]. No instance in either mask: 1, by convention. None in one of them: 0.

    Example:
        >>> import numpy as np
        >>> lesion_f1(match_instances(np.array([[1, 0, 1]]), np.array([[1, 0, 0]])))  # 1 found, 1 missed
        0.6666666666666666
    """
    found, missed, false = matching.found_instances, matching.missed_instances, matching.false_instances
    if found + missed + false == 0:
        return 1.0
    return 2 * found / (2 * found + false + missed)


def evaluate_case(label: npt.NDArray[np.generic], prediction: npt.NDArray[np.generic]) -> dict[str, float]:
    """All metrics of one case and one class.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.

    Returns:
        A value for each of :data:`METRICS`: float for ``paper.dsc`` and ``isles.lesion_f1`` (empty masks: see
        :func:`dice` and :func:`lesion_f1`), int for the numbers of instances (0 for an empty mask).

    Raises:
        TypeError, ValueError: if one is not a mask, the shapes differ, or they are neither 2D nor 3D.

    Example:
        >>> import numpy as np
        >>> evaluate_case(np.array([[1, 0, 1]]), np.array([[1, 0, 0]]))["paper.missed_instances"]
        1
    """
    matching = match_instances(label, prediction)
    return {
        "paper.dsc": dice(label, prediction),
        "paper.label_instances": matching.label_instances,
        "paper.missed_instances": matching.missed_instances,
        "paper.predicted_instances": matching.predicted_instances,
        "paper.false_instances": matching.false_instances,
        "isles.lesion_f1": lesion_f1(matching),
    }
