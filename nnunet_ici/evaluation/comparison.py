"""Paired comparisons of models on the same cases: bootstrap intervals and the Wilcoxon signed-rank test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Comparison", "compare"]

RESAMPLES = 9999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with a reference model in one metric.

    Attributes:
        cases: number of cases in which both models have a value.
        difference: mean difference over these cases, model minus reference; NaN without cases.
        low, high: limits of the 95 % bootstrap interval of the mean difference; NaN for fewer than two cases.
        p_value: p-value of the two-sided Wilcoxon signed-rank test, not corrected for multiple testing; 1 if no case
            differs, NaN for fewer than two cases.
    """

    cases: int
    difference: float
    low: float
    high: float
    p_value: float


def compare(values: Sequence[float], reference: Sequence[float], seed: int = 0) -> Comparison:
    """Compare the values of a model with those of a reference model, case by case.

    The interval is a percentile bootstrap with 9,999 resamples of the cases.

    Args:
        values: value of the model for each case; NaN if it has none.
        reference: value of the reference model for each case, in the same order.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if the two sequences differ in length.

    Example:
        >>> result = compare([0.75, 0.5, 1.0, 0.5], [0.5, 0.25, 0.75, 0.25])
        >>> result.difference, result.low, result.high, result.p_value
        (0.25, 0.25, 0.25, 0.125)
    """
    if len(values) != len(reference):
        raise ValueError(f"the models have different cases. Expected: {len(reference)} values. Got: {len(values)}")
    differences = np.subtract(values, reference, dtype=float)
    differences = differences[np.isfinite(differences)]
    if not differences.size:
        return Comparison(0, math.nan, math.nan, math.nan, math.nan)
    mean = float(differences.mean())
    if differences.size < 2:
        return Comparison(1, mean, math.nan, math.nan, math.nan)
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        batch=1000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    p_value = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Comparison(differences.size, mean, float(interval.low), float(interval.high), p_value)
