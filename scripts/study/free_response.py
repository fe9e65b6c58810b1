"""The free-response curve: the share of lesions found versus the number of false lesions per case, over thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["RATES", "rates_reached", "recall_at"]

RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_LOW_RATES = (0.125, 0.25)  # the lowest two of the LUNA16 challenge, for data with hardly any false lesions
_FEWEST = 1 / 64  # replaces 0 false lesions on the logarithmic axis

FloatArray = npt.NDArray[np.float64]


def recall_at(rates: Sequence[float], false_per_case: npt.ArrayLike, recall: npt.ArrayLike) -> FloatArray:
    """Interpolate the recall on a free-response curve.

    Each threshold is a point. If another point has fewer false lesions and a higher recall, that recall is used.
    Between points, the recall is linear in the logarithm of the number of false lesions per case.

    Args:
        rates: numbers of false lesions per case, (R,).
        false_per_case: number of false lesions per case at each threshold, (T,), in any order.
        recall: recall at each threshold, (T,).

    Returns:
        The recall at each rate, (R,). Beyond the first and the last point, the recall of that point.

    Example:
        >>> recall_at([2, 4, 8], [16, 4, 1], [0.8, 0.6, 0.2])
        array([0.4, 0.6, 0.7])
    """
    false, found = np.asarray(false_per_case, float), np.asarray(recall, float)
    order = np.lexsort((found, false))
    log_false = np.log2(np.maximum(false[order], _FEWEST))
    return np.interp(np.log2(rates), log_false, np.maximum.accumulate(found[order]))


def rates_reached(curves: Sequence[npt.ArrayLike]) -> list[float]:
    """The :data:`RATES` within the range of every curve, or, if there is none, 1/8 and 1/4 if within the range.

    Args:
        curves: numbers of false lesions per case of each curve.

    Example:
        >>> rates_reached([[0.9, 3, 20], [2, 9]])
        [2.0, 4.0, 8.0]
        >>> rates_reached([[0, 0.3], [0, 2]])
        [0.125, 0.25]
    """
    low = max((float(np.min(false)) for false in curves), default=np.inf)
    high = min((float(np.max(false)) for false in curves), default=-np.inf)
    reached = [[rate for rate in rates if low <= rate <= high] for rates in (RATES, _LOW_RATES)]
    return reached[0] or reached[1]
