"""Intervals over seeds and cases together.

All runs share their test cases, so seeds and cases are crossed: each resample draws seeds and, apart from them, cases,
both with replacement (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1(2), 2007). SciPy's ``bootstrap``
resamples one axis only. With three to five seeds the intervals are rather too narrow than too wide: the sign of each
seed is reported beside them.
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
# From weights (B, C), how often each of C cases is drawn in each of B resamples, to the values (B,).
Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Difference:
    """A trainer against another one in one measure.

    Attributes:
        mean: over the seeds.
        low, high: 95 % interval of that mean; NaN without the values of single cases.
        by_seed: the difference of each seed.
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
        """Whether the interval leaves 0 out and two seeds or more all agree in sign."""
        agree = len(self.by_seed) > 1 and len(self.by_seed) in (self.up, self.down)
        return agree and bool(self.low > 0 or self.high < 0)


def case_weights(cases: int, seed: int = 0) -> FloatArray:
    """Draw the cases of every resample.

    Args:
        cases: number of cases, C.
        seed: seed of the draws.

    Returns:
        float64 (B, C), how often each case is drawn; the rows sum to C.
    """
    return np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), RESAMPLES).astype(np.float64)


def difference(pairs: Sequence[tuple[Statistic, Statistic]], cases: int, seed: int = 0) -> Difference:
    """Compare two trainers over seeds and cases.

    Args:
        pairs: for each seed the statistic of the trainer and that of the one it is compared with.
        cases: number of test cases, the same in all runs and in the same order.
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
