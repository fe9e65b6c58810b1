"""Paired comparisons: by hand, against SciPy's distributions, and the cases without a result."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nnunet_ici.evaluation.comparison import compare

nan = math.nan


def test_the_sign():
    better = compare([1.0, 0.75, 0.5], [0.5, 0.5, 0.25])
    assert better.difference == pytest.approx(1 / 3) and 0.25 <= better.low <= better.high <= 0.5
    worse = compare([0.5, 0.5, 0.25], [1.0, 0.75, 0.5])
    assert worse.difference == pytest.approx(-1 / 3) and worse.p_value == better.p_value
    assert better.cases == worse.cases == 3


def test_the_same_input_gives_the_same_interval(rng):
    values, reference = rng.random(30), rng.random(30)
    assert compare(values, reference) == compare(values, reference)
    assert compare(values, reference, seed=1) != compare(values, reference)


def test_the_interval_is_that_of_resampled_means(rng):
    """Three differences have 27 equally likely resamples."""
    differences = np.array([-1.0, 2.0, 5.0])
    means = [np.mean(chosen) for chosen in itertools.product(differences, repeat=3)]
    result = compare(differences, np.zeros(3))
    low, high = np.percentile(means, [2.5, 97.5], method="inverted_cdf")
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_covers_the_truth(rng):
    covered = 0
    for _ in range(50):
        differences = rng.normal(0.1, 0.2, size=40)
        result = compare(differences, np.zeros(40))
        assert result.low < result.difference < result.high
        covered += result.low <= 0.1 <= result.high
    assert 42 <= covered <= 50  # 47 or 48 are expected


def test_p_is_the_share_of_signs_that_are_as_uneven(rng):
    """Wilcoxon's test for few cases, from its definition: all signs of the ranks are equally likely."""
    for size in (4, 7, 10):
        differences = rng.normal(0.3, 1, size=size)
        ranks = stats.rankdata(np.abs(differences))
        middle = ranks.sum() / 2
        observed = abs(ranks[differences > 0].sum() - middle)
        sums = np.array(list(itertools.product([0, 1], repeat=size))) @ ranks
        expected = np.mean(np.abs(sums - middle) >= observed - 1e-9)
        assert compare(differences, np.zeros(size)).p_value == pytest.approx(expected)


def test_p_equals_scipy(rng):
    values, reference = rng.random((2, 60)).round(1)  # with ties and zeros
    assert compare(values, reference).p_value == stats.wilcoxon(values - reference).pvalue


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
    with pytest.raises(ValueError, match=r"the models have different cases\. Expected: 2 values\. Got: 1"):
        compare([0.5], [0.5, 0.25])
