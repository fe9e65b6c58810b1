"""Paired comparisons of models on the same cases: Student's t interval and test of the mean difference.

The interval excludes 0 exactly where the test is significant, at every level, so that Holm's correction applies to
both. A percentile bootstrap is too narrow for that: with 10 normal differences and the level 0.05 / 36 it excludes 0
ten times as often as it should, the t interval does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SIGNIFICANCE", "Comparison", "compare", "holm"]

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with a reference model in one metric.

    Attributes:
        cases: number of cases in which both models have a value.
        difference: mean difference over these cases, model minus reference; NaN without cases.
        low, high: limits of the 95 % interval of the mean difference; NaN for fewer than two cases.
        p_value: two-sided p-value of the paired t-test, not corrected for multiple testing; 1 if no case differs, NaN
            for fewer than two cases.
    """

    cases: int
    difference: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f"{self.difference:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f})"


def compare(values: npt.ArrayLike, reference: npt.ArrayLike) -> Comparison:
    """Compare the values of a model with those of a reference model, case by case.

    Args:
        values: (cases,), value of the model for each case; NaN if it has none.
        reference: (cases,), value of the reference model for each case, in the same order.

    Raises:
        ValueError: if the two sequences differ in length.

    Example:
        >>> result = compare([0.75, 0.5, 1.0, 0.5], [0.5, 0.5, 0.5, 0.25])
        >>> [round(number, 3) for number in (result.difference, result.low, result.high, result.p_value)]
        [0.25, -0.075, 0.575, 0.092]
    """
    if np.size(values) != np.size(reference):
        raise ValueError(
            f"other cases than the reference. Expected: {np.size(reference)} values. Got: {np.size(values)}"
        )
    differences = np.subtract(values, reference, dtype=float)
    differences = differences[np.isfinite(differences)]
    mean = float(differences.mean()) if differences.size else math.nan
    if differences.size < 2:
        return Comparison(differences.size, mean, math.nan, math.nan, math.nan)
    if not differences.any():
        return Comparison(differences.size, 0.0, 0.0, 0.0, 1.0)
    from scipy import special  # scipy.stats takes a second to import

    freedom = differences.size - 1
    error = differences.std(ddof=1) / math.sqrt(differences.size)
    margin = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error)
    with np.errstate(divide="ignore"):  # all differences equal: p is 0
        p_value = float(2 * special.stdtr(freedom, -abs(mean) / error))
    return Comparison(differences.size, mean, mean - margin, mean + margin, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of comparisons by the step-down method of Holm (1979).

    Args:
        p_values: p-value of each comparison; NaN counts as a comparison without a result.

    Returns:
        The adjusted p-values, in the same order; NaN stays NaN.

    Example:
        >>> holm([0.25, 0.01, 0.02])
        [0.25, 0.03, 0.04]
    """
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    known = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    for step, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, (len(p_values) - step) * p))
        adjusted[at] = highest
    return adjusted
