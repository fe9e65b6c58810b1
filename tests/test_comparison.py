"""Paired comparisons: by hand, against SciPy's distributions, and the cases without a result."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nnunet_ici.evaluation.comparison import compare, holm

nan = math.nan


def test_the_sign():
    better = compare([1.0, 0.75, 0.5], [0.5, 0.5, 0.25])
    # mean 1 / 3, standard error 1 / 12, t = 4 with 2 degrees of freedom, whose 97.5 % quantile is 4.3027
    limits = 1 / 3 - 4.3027 / 12, 1 / 3 + 4.3027 / 12
    assert better.difference == pytest.approx(1 / 3) and (better.low, better.high) == pytest.approx(limits, abs=1e-4)
    assert better.p_value == pytest.approx(0.0572, abs=1e-4)
    worse = compare([0.5, 0.5, 0.25], [1.0, 0.75, 0.5])
    assert worse.difference == pytest.approx(-1 / 3) and worse.p_value == better.p_value
    assert better.cases == worse.cases == 3


def test_the_interval_and_the_p_value_agree(rng):
    """A p-value equal to a level means that the interval at this level ends at 0."""
    differences = rng.normal(0.1, 0.2, size=12)
    result = compare(differences, np.zeros(12))
    assert result.p_value == pytest.approx(stats.ttest_rel(differences, np.zeros(12)).pvalue)
    low, high = stats.t.interval(0.95, 11, differences.mean(), stats.sem(differences))
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    limits = stats.t.interval(1 - result.p_value, 11, differences.mean(), stats.sem(differences))
    assert min(map(abs, limits)) == pytest.approx(0, abs=1e-12)


def test_the_interval_covers_the_truth(rng):
    results = [compare(rng.normal(0.1, 0.2, size=10), np.zeros(10)) for _ in range(400)]
    assert 368 <= sum(result.low <= 0.1 <= result.high for result in results) <= 392  # 380 are expected


def test_holm_by_hand():
    """0.03 is above 0.05 / 2, so the two largest are kept, although 0.04 alone is below 0.05."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1, 1] and holm([]) == []
    with_nan = holm([nan, 0.02])
    assert math.isnan(with_nan[0]) and with_nan[1] == 0.04  # a comparison without a result counts


def test_cases_without_a_value_are_left_out():
    with_nan = compare([0.5, nan, 0.75, 1.0, 0.5], [0.25, 0.5, nan, 0.5, 0.0])
    assert with_nan == compare([0.5, 1.0, 0.5], [0.25, 0.5, 0.0]) and with_nan.cases == 3


def test_all_cases_equal():
    result = compare([0.5, 0.25, 1.0], [0.5, 0.25, 1.0])
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_one_case_has_no_interval():
    result = compare([0.5, nan], [0.25, 0.5])
    assert (result.cases, result.difference) == (1, 0.25)
    assert all(map(math.isnan, (result.low, result.high, result.p_value)))


@pytest.mark.parametrize("values", [[], [nan, nan]])
def test_no_case_has_no_difference(values):
    result = compare(values, values)
    assert result.cases == 0
    assert all(map(math.isnan, (result.difference, result.low, result.high, result.p_value)))


def test_different_numbers_of_cases():
    with pytest.raises(ValueError, match=r"other cases than the reference\. Expected: 2 values\. Got: 1"):
        compare([0.5], [0.5, 0.25])
