"""The threshold: fixed, drawn, checkpointed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from nnunet_ici.losses.threshold import Threshold


def test_a_number_stays_and_draws_nothing():
    threshold = Threshold(0.3)
    assert [threshold(True), threshold(False), threshold.draws] == [0.3, 0.3, 0]


def test_a_range_is_drawn_from_uniformly():
    threshold = Threshold((0.1, 0.9), seed=1)
    drawn = np.array([threshold(True) for _ in range(4000)])
    assert 0.1 <= drawn.min() < 0.11 and 0.89 < drawn.max() < 0.9
    assert abs(drawn.mean() - 0.5) < 0.015 and abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.05


def test_validation_is_fixed_and_does_not_move_the_stream():
    threshold, other = Threshold((0.1, 0.9)), Threshold((0.1, 0.9))
    assert threshold(False) == 0.5
    assert threshold(True) == other(True)


def test_the_stream_continues_from_a_state_and_differs_by_seed():
    threshold = Threshold((0.1, 0.9), seed=5)
    for _ in range(7):
        threshold(True)
    resumed = Threshold((0.1, 0.9), seed=5)
    resumed.load_state_dict(threshold.state_dict())
    copied, pickled = copy.deepcopy(threshold), pickle.loads(pickle.dumps(threshold))
    following = [threshold(True) for _ in range(3)]
    for twin in (resumed, copied, pickled):
        assert [twin(True) for _ in range(3)] == following
    assert Threshold((0.1, 0.9), seed=6)(True) != Threshold((0.1, 0.9), seed=5)(True)


def test_zero_is_never_drawn():
    assert all(Threshold((0, 1e-300), seed)(True) > 0 for seed in range(50))


@pytest.mark.parametrize("wrong", [0, -0.1, 1.1, float("nan")])
def test_a_number_must_lie_above_0_and_up_to_1(wrong):
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\]\. Got:"):
        Threshold(wrong)


@pytest.mark.parametrize("wrong", [(0.9, 0.1), (0.5, 0.5), (0.1, 1.2), (-0.1, 0.5), (0.1,), (0.1, 0.2, 0.3)])
def test_a_range_must_ascend(wrong):
    with pytest.raises(ValueError, match="0 <= low < high <= 1"):
        Threshold(wrong)
