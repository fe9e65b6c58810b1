"""Bootstrap intervals over seeds and cases together.

All runs share their test cases, so seeds and cases are crossed: each resample draws seeds and, independently, cases,
both with replacement (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1(2), 2007). SciPy's ``bootstrap``
resamples one axis only. With three to five seeds, the intervals tend to be too narrow. The tables therefore also show
the signs of the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "case_weights", "difference"]

RESAMPLES = 2000
CONFIDENCE = 0.95

FloatArray = npt.NDArray[np.float64]
# Maps weights (B, C), the number of times that each of C cases is drawn in each of B resamples, to values (B,).
Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Difference:
    """The difference between two trainers in one measure.

    Attributes:
        mean: mean difference over the seeds.
        low, high: 95 % interval of the mean; NaN without the values of single cases.
        by_seed: difference for each seed.
    """

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def up(self) -> int:
        """Number of seeds with a difference above 0."""
        return sum(value > 0 for value in self.by_seed)

    @property
    def down(self) -> int:
        """Number of seeds with a difference below 0."""
        return sum(value < 0 for value in self.by_seed)

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0 and all seeds, at least two, have the same sign."""
        agree = len(self.by_seed) > 1 and len(self.by_seed) in (self.up, self.down)
        return agree and bool(self.low > 0 or self.high < 0)


def case_weights(cases: int, seed: int = 0) -> FloatArray:
    """Draw the cases of every resample.

    Args:
        cases: number of cases, C.
        seed: seed of the draws.

    Returns:
        The number of times that each case is drawn, float64 (B, C). Each row sums to C.
    """
    return np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), RESAMPLES).astype(np.float64)


def difference(pairs: Sequence[tuple[Statistic, Statistic]], cases: int, seed: int = 0) -> Difference:
    """Compare two trainers over seeds and cases.

    Args:
        pairs: statistics of the trainer and of the reference, for each seed.
        cases: number of test cases; all runs have the same cases in the same order.
        seed: seed of the resampling.

    Example:
        >>> ours, theirs = np.array([0.5, 0.7]), np.array([0.4, 0.6])
        >>> result = difference([(lambda w: w @ ours / 2, lambda w: w @ theirs / 2)], cases=2)
        >>> round(result.mean, 3), round(result.low, 3), result.up, result.clear
        (0.1, 0.1, 1, False)
    """
    once = np.ones((1, cases))
    by_seed = [float((ours(once) - theirs(once))[0]) for ours, theirs in pairs]
    weights = case_weights(cases, seed)
    table = np.stack([ours(weights) - theirs(weights) for ours, theirs in pairs])  # (S, B)
    drawn = np.random.default_rng([seed, 1]).multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), RESAMPLES)
    means = (drawn * table.T).sum(axis=1) / len(pairs)
    edge = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [edge, 100 - edge])
    return Difference(float(np.mean(by_seed)), float(low), float(high), tuple(by_seed))
