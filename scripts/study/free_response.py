"""The free-response curve: the share of lesions found against the number of false lesions per case, over thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["RATES", "rates_reached", "recall_at"]

RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_FEWEST = 1 / 64  # stands for no false lesion on the logarithmic axis

FloatArray = npt.NDArray[np.float64]


def recall_at(rates: Sequence[float], false_per_case: npt.ArrayLike, recall: npt.ArrayLike) -> FloatArray:
    """Read the recall off a free-response curve.

    Each threshold is a point; where fewer false lesions come with a higher recall, the higher recall counts. Between
    points the recall is linear in the logarithm of the false lesions per case.

    Args:
        rates: (R,), false lesions per case.
        false_per_case: (T,), of each threshold, in any order.
        recall: (T,), of each threshold.

    Returns:
        (R,), the recall at each rate; beyond the first and the last point that of the point.

    Example:
        >>> recall_at([2, 4, 8], [16, 4, 1], [0.8, 0.6, 0.2])
        array([0.4, 0.6, 0.7])
    """
    false, found = np.asarray(false_per_case, float), np.asarray(recall, float)
    order = np.lexsort((found, false))
    log_false = np.log2(np.maximum(false[order], _FEWEST))
    return np.interp(np.log2(rates), log_false, np.maximum.accumulate(found[order]))


def rates_reached(curves: Sequence[npt.ArrayLike]) -> list[float]:
    """The :data:`RATES` that lie within every curve.

    Args:
        curves: the false lesions per case of each curve.

    Example:
        >>> rates_reached([[0.9, 3, 20], [2, 9]])
        [2.0, 4.0, 8.0]
    """
    low = max((float(np.min(false)) for false in curves), default=np.inf)
    high = min((float(np.max(false)) for false in curves), default=-np.inf)
    return [rate for rate in RATES if low <= rate <= high]
