"""The fused Triton terms against the naive loops, and their gradient against that of the terms from the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ici.instances import components
from nnunet_ici.losses import DICILoss, center_loss, ici, instance_loss, predicted_instance_loss
from nnunet_ici.losses.found import find
from nnunet_ici.losses.fused import TERMS, FusedInput, FusedSettings, fused_terms, is_fused
from nnunet_ici.losses.network_output import fused_input, split_classes
from tests import reference
from tests.terms import random_case, tensors

pytestmark = pytest.mark.skipif(not components.HAS_TRITON, reason="there is no Triton here")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UPSTREAM = (1.7, 0.6, 1.3)


def from_table(prob, target, mask, threshold, exclude_other_instances=True, size=7):
    """The same three terms from the table of instances, on the CPU."""
    options = {"threshold": threshold}
    return (
        instance_loss(prob, target, mask, exclude_other_instances=exclude_other_instances, **options),
        predicted_instance_loss(prob, target, mask, **options),
        center_loss(prob, target, mask, size=size, **options),
    )


def gradient(leaf, values):
    (grad,) = torch.autograd.grad(sum(w * v for w, v in zip(UPSTREAM, values, strict=True)), leaf)
    return grad.cpu()


def assert_close(actual, expected, rel=1e-5):
    scale = expected.abs().max().item() if expected.numel() else 0
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=rel * scale + 1e-12)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_values_are_those_of_the_loops_and_gradients_those_of_the_table(axes, seed):
    rng = np.random.default_rng(seed)
    prob, target, mask = random_case(rng, axes, binary=seed % 4 == 0)
    prob = prob.astype(np.float32)
    threshold, exclude = float(rng.choice([0.3, 0.5, 0.7])), seed % 3 > 0
    settings = FusedSettings(exclude_other_instances=exclude)
    p, y, counts = tensors(prob, target, mask)
    leaf = p.to(DEVICE).requires_grad_()
    given = FusedInput(leaf, y.to(DEVICE), "none", True, None if counts is None else counts.to(DEVICE))
    values, found = fused_terms(given, threshold, settings)

    expected = [
        reference.instance_loss(prob, target, mask, threshold, exclude),
        reference.predicted_instance_loss(prob, target, mask, threshold),
        reference.center_loss(prob, target, mask, threshold),
    ]
    assert values.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.tolist() == find(p, y, counts, threshold).counts.tolist()
    exact = p.double().requires_grad_()
    assert_close(gradient(leaf, values), gradient(exact, from_table(exact, y, counts, threshold, exclude)))


def network_case(rng, form, dtype, shape=(9, 8, 10)):
    """Logits and a target of labels or regions, with ignored voxels, half-trained."""
    classes = {"one class": 2, "three classes": 4, "regions": 2}[form]
    labels = rng.integers(0, classes, (2, 1, *shape)) * (rng.random((2, 1, *shape)) < 0.1)
    ignored = rng.random((2, 1, *shape)) < 0.1
    if form == "regions":
        target = np.concatenate([labels > 0, labels == 1, ignored], 1)
        truth = target[:, :2]
    else:
        target = np.where(ignored, classes, labels).astype(np.int16)
        truth = labels == np.arange(classes).reshape(1, -1, 1, 1, 1)
    logits = torch.from_numpy(2.5 * truth + rng.standard_normal(truth.shape)).to(dtype)
    return logits, torch.from_numpy(target), None if form == "regions" else classes


def test_deterministic_algorithms(rng):
    """Nothing on either way refuses to run where torch is told to be deterministic."""
    logits, target, ignore_label = network_case(rng, "one class", torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        leaf = logits.to(DEVICE).requires_grad_()
        values, _ = fused_terms(fused_input(leaf, target.to(DEVICE), ignore_label), 0.5, FusedSettings())
        exact = logits.to(DEVICE).double().requires_grad_()
        expected = from_table(*split_classes(exact, target.to(DEVICE), ignore_label), 0.5)
        assert values.tolist() == pytest.approx([v.item() for v in expected], abs=2e-6)
        assert_close(gradient(leaf, values), gradient(exact, expected))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("form", ["one class", "three classes", "regions"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_logits_and_targets_of_nnunet(form, dtype, rng):
    logits, target, ignore_label = network_case(rng, form, dtype)
    leaf = logits.to(DEVICE).requires_grad_()
    values, _ = fused_terms(fused_input(leaf, target.to(DEVICE), ignore_label), 0.5, FusedSettings())
    assert values.dtype == torch.float32

    exact = logits.double().requires_grad_()
    prob, y, mask = split_classes(exact, target, ignore_label)
    expected = from_table(prob, y, mask, 0.5)
    assert values.tolist() == pytest.approx([v.item() for v in expected], abs=2e-6)
    grad = gradient(leaf, values)
    assert grad.dtype == dtype
    assert_close(grad, gradient(exact, expected), rel=2 * torch.finfo(dtype).eps + 1e-5)


def test_two_dimensional_logits_and_small_cubes(rng):
    logits, target, ignore_label = network_case(rng, "one class", torch.float32, (1, 30, 40))
    logits, target = logits[:, :, 0], target[:, :, 0]
    leaf = logits.to(DEVICE).requires_grad_()
    values, _ = fused_terms(fused_input(leaf, target.to(DEVICE), ignore_label), 0.4, FusedSettings(size=(5, 3)))
    exact = logits.double().requires_grad_()
    expected = from_table(*split_classes(exact, target, ignore_label), 0.4, size=(5, 3))
    assert values.tolist() == pytest.approx([v.item() for v in expected], abs=2e-6)
    assert_close(gradient(leaf, values), gradient(exact, expected))


def test_so_many_cubes_that_they_are_spread():
    prob = torch.zeros(1, 1, 12, 12, 12)
    prob[..., ::2, ::2, ::2] = torch.linspace(0.5, 1, 216).reshape(6, 6, 6)
    target = torch.zeros_like(prob, dtype=torch.bool)
    target[..., 4, 4, 4] = target[..., 9, 9, 9] = True
    leaf = prob.to(DEVICE).requires_grad_()
    values, _ = fused_terms(FusedInput(leaf, target.to(DEVICE), "none", True), 0.5, FusedSettings(size=11))
    exact = prob.double().requires_grad_()
    expected = from_table(exact, target, None, 0.5, size=11)
    assert values.tolist() == pytest.approx([v.item() for v in expected], abs=1e-6)
    assert_close(gradient(leaf, values), gradient(exact, expected))


def test_the_same_bits_at_every_run(rng):
    logits, target, ignore_label = network_case(rng, "three classes", torch.float32)
    runs = []
    for _ in range(3):
        leaf = logits.to(DEVICE).requires_grad_()
        values, _ = fused_terms(fused_input(leaf, target.to(DEVICE), ignore_label), 0.5, FusedSettings())
        runs.append((values.detach().cpu(), gradient(leaf, values)))
    for values, grad in runs[1:]:
        assert torch.equal(values, runs[0][0]) and torch.equal(grad, runs[0][1])


def test_nothing_to_find_is_zero_with_a_live_graph():
    leaf = torch.full((2, 1, 6, 7), 0.2, device=DEVICE, requires_grad=True)
    target = torch.zeros_like(leaf, dtype=torch.bool)
    values, counts = fused_terms(FusedInput(leaf, target, "none", True), 0.5, FusedSettings())
    assert values.tolist() == [0, 0, 0] and counts.tolist() == [0, 0, 0, 0]
    assert torch.equal(gradient(leaf, values), torch.zeros(2, 1, 6, 7))


def test_nan_anywhere_makes_every_term_nan():
    for channel in range(2):
        logits = torch.zeros(1, 2, 5, 6, device=DEVICE)
        logits[0, channel, 4, 5] = float("nan")
        target = torch.zeros(1, 1, 5, 6, dtype=torch.int16, device=DEVICE)
        values, _ = fused_terms(fused_input(logits, target, None), 0.5, FusedSettings())
        assert values.isnan().all()


def test_without_the_center_term_it_is_zero_and_teaches_nothing(rng):
    logits, target, _ = network_case(rng, "one class", torch.float32)
    leaf = logits.to(DEVICE).requires_grad_()
    values, _ = fused_terms(fused_input(leaf, target.to(DEVICE), None), 0.5, FusedSettings(center=False))
    assert values[2] == 0
    exact = logits.double().requires_grad_()
    expected = from_table(*split_classes(exact, target, None), 0.5)
    assert_close(gradient(leaf, values), gradient(exact, (*expected[:2], 0 * expected[2])))


def test_the_compound_takes_the_fused_terms(rng, monkeypatch):
    logits, target, ignore_label = network_case(rng, "one class", torch.float32)
    taken, grads = [], []
    for fused in (False, True):
        monkeypatch.setattr(ici, "is_fused", lambda x, settings, fused=fused: fused)
        loss = DICILoss(
            lambda z, y: z.square().mean(), 0.5, 1.5, 0.25, 2.0, threshold=0.5, size=5, ignore_label=ignore_label
        )
        leaf = logits.to(DEVICE).requires_grad_()
        loss(leaf, target.to(DEVICE)).backward()
        grads.append(leaf.grad.cpu())
        taken.append(loss.record.take())
    assert taken[1] == pytest.approx(taken[0], abs=1e-6)
    assert list(taken[0])[:4] == ["global", *TERMS]
    assert_close(grads[1], grads[0])


def test_where_it_is_used(monkeypatch):
    settings = FusedSettings()
    x = torch.zeros(1, 2, 8, 8)
    assert not is_fused(x, settings)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    assert is_fused(x, settings) and is_fused(x.half(), settings)
    assert not is_fused(x.double(), settings)
    assert not is_fused(x[:0], settings)
    assert not is_fused(torch.zeros(1, 1, 2000, 2000), FusedSettings(size=1999))


def test_errors_are_those_of_the_other_way():
    with pytest.raises(ValueError, match="target has the wrong shape"):
        fused_input(torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 7), None)
