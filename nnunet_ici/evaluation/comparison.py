"""Paired comparisons of models on the same cases: bootstrap intervals and Wilcoxon's signed-rank test."""

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
    """A model against another one in one metric.

    Attributes:
        cases: number of cases in which both have a value.
        difference: mean over the cases of this model's value minus the other's; NaN without cases.
        low, high: 95 % interval of that mean, over resampled cases; NaN for fewer than two cases.
        p_value: p-value of Wilcoxon's two-sided signed-rank test; 1 where no case differs, NaN for fewer than two
            cases. It is not corrected for the number of tests.
    """

    cases: int
    difference: float
    low: float
    high: float
    p_value: float


def compare(values: Sequence[float], reference: Sequence[float], seed: int = 0) -> Comparison:
    """Compare the values of a model with those of a reference, case by case.

    Args:
        values: one for each case; NaN where there is none.
        reference: values of the other model, in the same order.
        seed: seed of the resampling.

    Raises:
        ValueError: if their numbers differ.

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
