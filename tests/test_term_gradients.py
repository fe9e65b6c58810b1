"""The gradients of the terms: gradcheck, and a non-zero gradient for every lesion."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.terms import TERMS, by_term, in_2d_and_3d


@by_term
@in_2d_and_3d
def test_gradcheck_away_from_the_threshold(name, axes, rng):
    fast, _, _ = TERMS[name]
    for _ in range(5):
        shape = (2, 2, *(6,) * axes) if axes == 2 else (1, 1, 5, 4, 5)
        target = torch.from_numpy(rng.random(shape) < 0.15)
        prob = torch.from_numpy(
            np.where(rng.random(shape) < 0.2, rng.uniform(0.6, 1, shape), rng.uniform(0, 0.4, shape))
        )
        prob.requires_grad_()
        options = {"size": 3} if name == "center" else {}
        function = functools.partial(_times_1_7, fast, target=target, **options)
        assert torch.autograd.gradcheck(function, (prob,), eps=1e-7, atol=1e-6)


def _times_1_7(fast, prob, **options):
    """The term with an upstream gradient that is not 1."""
    return 1.7 * fast(prob, **options)


@by_term
def test_upstream_gradient_scales(name, rng):
    fast, _, _ = TERMS[name]
    prob, target = torch.rand(1, 1, 20, 20), torch.rand(1, 1, 20, 20) < 0.1
    grads = []
    for factor in (1, -3.5):
        leaf = prob.clone().requires_grad_()
        (factor * fast(leaf, target)).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[1], -3.5 * grads[0])
    assert grads[0].abs().sum() > 0


def apart(rng, count=6, spacing=12):
    """A (1, 1, n, n) grid of small blobs, too far apart for their cubes to meet; ids of the blobs."""
    ids = np.zeros((1, 1, 3 * spacing, 3 * spacing), int)
    for k, cell in enumerate(rng.choice(9, count, replace=False), start=1):
        y, x = (spacing * c + 4 + rng.integers(0, 3) for c in divmod(cell, 3))
        h, w = rng.integers(1, 4, 2)
        ids[0, 0, y : y + h, x : x + w] = k
    return ids


@pytest.mark.parametrize("name", ["instance", "center", "lesionwise", "pq", "false_rate", "proximity"])
def test_every_missed_lesion_is_pulled_up(name, rng):
    for _ in range(20):
        ids = apart(rng)
        prob = torch.from_numpy(rng.uniform(0.01, 0.4, ids.shape)).requires_grad_()
        TERMS[name][0](prob, torch.from_numpy(ids > 0)).backward()
        assert (prob.grad[torch.from_numpy(ids > 0)] < 0).all()  # every voxel of every lesion


@pytest.mark.parametrize("name", ["predicted", "center", "lesionwise", "pq", "false_rate", "proximity"])
@pytest.mark.parametrize("labelled", [True, False])
def test_every_false_component_is_pushed_down(name, labelled, rng):
    for _ in range(20):
        ids = apart(rng)
        target = torch.from_numpy((ids == 1) & labelled)  # the blob 1 is a lesion, or the image has none
        prob = torch.from_numpy(np.where(ids > 0, rng.uniform(0.6, 0.99, ids.shape), 0.1)).requires_grad_()
        TERMS[name][0](prob, target).backward()
        assert (prob.grad[torch.from_numpy(ids > 1)] > 0).all()


@pytest.mark.parametrize("name", ["instance", "lesionwise", "pq"])
def test_every_uncertain_voxel_of_a_lesion_is_pulled_up(name, rng):
    for _ in range(20):
        target = torch.from_numpy(ndimage.gaussian_filter(rng.standard_normal((2, 1, 24, 24)), (0, 0, 2, 2)) > 0.1)
        prob = torch.rand(target.shape, dtype=torch.float64).requires_grad_()
        TERMS[name][0](prob, target).backward()
        under = target & (prob.detach() < 0.5)
        assert under.any() and (prob.grad[under] < 0).all()


@by_term
def test_without_instances_the_graph_is_alive(name):
    prob = torch.full((1, 1, 5, 5), 0.2, requires_grad=True)
    loss = TERMS[name][0](prob, torch.zeros(1, 1, 5, 5, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and prob.grad.eq(0).all()


@by_term
def test_deterministic_algorithms_are_enough(name):
    prob, target = torch.rand(2, 1, 12, 12, 12), torch.rand(2, 1, 12, 12, 12) < 0.1
    grads = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            leaf = prob.clone().requires_grad_()
            TERMS[name][0](leaf, target).backward()
            grads.append(leaf.grad)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*grads)
