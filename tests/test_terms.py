"""The values of the terms: against the naive loops, by hand, and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunet_ici.losses import (
    CenterLoss,
    center_loss,
    instance_loss,
    predicted_instance_loss,
)
from tests import reference
from tests.terms import TERMS, by_term, in_2d_and_3d, random_case, tensors


@by_term
@in_2d_and_3d
@pytest.mark.parametrize("binary", [False, True])
def test_equals_the_naive_loops(name, axes, binary, rng):
    fast, _, naive = TERMS[name]
    for _ in range(60):
        case = random_case(rng, axes, binary)
        tau = float(rng.uniform(0.1, 0.9))
        assert fast(*tensors(*case), threshold=tau).item() == pytest.approx(naive(*case, tau), abs=1e-10)


@by_term
@in_2d_and_3d
def test_labelling_in_torch_gives_the_same_values(name, axes, rng, monkeypatch):
    monkeypatch.setattr("nnunet_ici.instances.components.labelling_backend", lambda device: "torch")
    fast, _, naive = TERMS[name]
    for _ in range(20):
        case = random_case(rng, axes)
        assert fast(*tensors(*case)).item() == pytest.approx(naive(*case), abs=1e-10)


@in_2d_and_3d
def test_options_equal_the_naive_loops(axes, rng):
    for _ in range(30):
        case = random_case(rng, axes)
        fast = instance_loss(*tensors(*case), exclude_other_instances=False, smooth=0.1).item()
        assert fast == pytest.approx(reference.instance_loss(*case, exclude_other_instances=False, eps=0.1), abs=1e-10)
        size = (3, 5, 1)[:axes]
        fast = center_loss(*tensors(*case), size=size, smooth=0.1).item()
        assert fast == pytest.approx(reference.center_loss(*case, size=size, eps=0.1), abs=1e-10)
        fast = predicted_instance_loss(*tensors(*case), smooth=0.1).item()
        assert fast == pytest.approx(reference.predicted_instance_loss(*case, eps=0.1), abs=1e-10)


@in_2d_and_3d
def test_binary_predictions_give_the_papers_values(axes, rng):
    for _ in range(60):
        shape = rng.integers(1, 24 if axes == 2 else 12, size=axes)
        target, prediction = (rng.random(shape) < rng.choice([0, 0.05, 0.2]) for _ in range(2))
        prob, label = tensors(prediction[None, None].astype(np.float64), target[None, None])
        for tau in (0.1, 0.5, 0.9):  # any threshold cuts the same components
            expected = reference.paper_instance_loss(prediction, target)
            assert instance_loss(prob, label, threshold=tau).item() == pytest.approx(expected, abs=1e-10)
            expected = reference.paper_center_loss(prediction, target)
            assert center_loss(prob, label, threshold=tau).item() == pytest.approx(expected, abs=1e-6)


@by_term
def test_float32_is_close_to_the_naive_loops_on_a_crowded_volume(name, rng):
    fast, _, naive = TERMS[name]
    target = ndimage.gaussian_filter(rng.standard_normal((1, 1, 40, 40, 40)), (0, 0, 1, 1, 1)) > 0.5
    prob = np.clip(0.5 * target + 0.5 * rng.random(target.shape), 0, 1).astype(np.float32)
    assert fast(*tensors(prob, target)).item() == pytest.approx(naive(prob, target), abs=1e-5)


@pytest.mark.parametrize("shape", [(46_400, 1, 1), (1, 46_400, 2), (3, 1, 70_000)])
def test_centers_of_long_volumes(shape, rng):
    target, prob = rng.random((1, 1, *shape)) < 0.01, rng.random((1, 1, *shape))
    assert center_loss(*tensors(prob, target)).item() == pytest.approx(reference.center_loss(prob, target), abs=1e-10)


def line(*values):
    """(1, 1, 1, n) float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def test_instance_term_by_hand():
    # G_1 = voxels 0-1, G_2 = voxel 3; P_1 = voxels 1-3 touches both, with p = 0.6 on the background between.
    prob, target = line(0.2, 0.8, 0.6, 0.9, 0), line(1, 1, 0, 1, 0) > 0
    first = 1 - 2 * 1.0 / (1.0 + 0.6 + 2)
    second = 1 - 2 * 0.9 / (0.9 + 0.6 + 1)
    assert instance_loss(prob, target, smooth=0).item() == pytest.approx((first + second) / 2)
    first = 1 - 2 * 1.0 / (1.0 + (0.6 + 0.9) + 2)  # Eq. 3: the part of P_1 on the other instance is wrong
    second = 1 - 2 * 0.9 / (0.9 + (0.6 + 0.8) + 1)
    loss = instance_loss(prob, target, smooth=0, exclude_other_instances=False)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_a_missed_lesion_of_three_voxels_costs_three_quarters_with_eps_1():
    prob, target = line(0, 0, 0, 0), line(1, 1, 1, 0) > 0
    assert instance_loss(prob, target, smooth=1).item() == pytest.approx(0.75)
    assert instance_loss(prob, target).item() == pytest.approx(1, abs=1e-5)


def test_predicted_term_by_hand():
    # P_1 = voxel 0, false; P_2 = voxels 2-4 touches both labels, of 2 and 1 voxels.
    prob, target = line(0.7, 0, 0.6, 0.8, 1, 0.1), line(0, 0, 1, 0, 1, 1) > 0
    touching = 1 - 2 * 1.6 / (2.4 + 3)
    assert predicted_instance_loss(prob, target, smooth=0).item() == pytest.approx((0.7 + touching) / 2)


def test_center_term_by_hand():
    # Missed label at voxel 0 (p = 0.25), false prediction at voxel 6 (p = 0.75), hit label and prediction at voxel 12.
    prob, target = torch.zeros(1, 1, 1, 15, dtype=torch.float64), torch.zeros(1, 1, 1, 15, dtype=torch.bool)
    prob[..., 0], prob[..., 6], prob[..., 12] = 0.25, 0.75, 1
    target[..., 0] = target[..., 12] = True
    # Cubes of 3 along the long axis: 2 (clipped) + 3 of the label, 3 + 3 of the prediction.
    error = 2 * 0.75 + 3 * 0.75
    assert center_loss(prob, target, size=3, smooth=0).item() == pytest.approx(error / (6 + 5))


def test_one_prediction_at_the_middle_of_two_labels_is_misplaced():
    target = torch.zeros(1, 1, 9, 21, dtype=torch.bool)
    target[0, 0, 4, [2, 18]] = True
    prob = torch.zeros(1, 1, 9, 21)
    prob[0, 0, 4, 2:19] = 1
    assert instance_loss(prob, target).item() < 1  # it touches both
    assert center_loss(prob, target, size=3).item() == pytest.approx(1, abs=1e-5)  # but its center is that of neither


@by_term
def test_instances_are_averaged_over_the_batch_not_over_images(name):
    fast, _, naive = TERMS[name]
    target, prob = np.zeros((2, 1, 9, 9), bool), np.zeros((2, 1, 9, 9))
    target[0, 0, 1, 1] = target[0, 0, 5, 5] = target[0, 0, 1, 7] = target[1, 0, 4, 4] = True
    prob[0, 0, 1, 1], prob[1, 0, 4, 4], prob[1, 0, 0, 0] = 1, 0.75, 0.625
    whole = fast(*tensors(prob, target)).item()
    assert whole == pytest.approx(naive(prob, target), abs=1e-10)
    halves = [fast(*tensors(prob[b : b + 1], target[b : b + 1])).item() for b in range(2)]
    if name in ("center", "false_rate", "proximity"):
        assert whole == pytest.approx(np.mean(halves))
    else:
        assert whole != pytest.approx(np.mean(halves), abs=1e-3)


@by_term
def test_classes_are_averaged_one_by_one(name, rng):
    fast, _, _ = TERMS[name]
    prob, target = torch.from_numpy(rng.random((2, 3, 12, 12))), torch.from_numpy(rng.random((2, 3, 12, 12)) < 0.1)
    target[:, 1] = False  # a class absent from the batch
    alone = [fast(prob[:, c : c + 1], target[:, c : c + 1]) for c in range(3)]
    assert fast(prob, target).item() == pytest.approx(torch.stack(alone).mean().item())


@by_term
def test_masked_voxels_count_neither_in_p_nor_in_y(name, rng):
    fast, _, _ = TERMS[name]
    prob, target, _ = tensors(*random_case(rng, 2))
    prob, target = torch.rand(2, 2, 14, 15), torch.rand(2, 2, 14, 15) < 0.2
    mask = torch.ones(2, 1, 14, 15, dtype=torch.bool)
    mask[..., 9:] = False
    cleared = mask.expand_as(target)
    expected = fast(torch.where(cleared, prob, 0), target & cleared)
    assert fast(prob, target, mask).item() == pytest.approx(expected.item())
    leaf = prob.clone().requires_grad_()
    fast(leaf, target, mask).backward()
    assert leaf.grad[~cleared].eq(0).all() and leaf.grad[cleared].ne(0).any()


@by_term
@pytest.mark.parametrize(("label", "prediction"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@in_2d_and_3d
def test_empty_and_full(name, label, prediction, axes):
    fast, _, naive = TERMS[name]
    shape = (2, 1, *(6,) * axes)
    target = torch.full(shape, bool(label))
    prob = torch.full(shape, float(prediction), requires_grad=True)
    loss = fast(prob, target)
    assert loss.item() == pytest.approx(naive(prob.detach().numpy(), target.numpy()), abs=1e-6)
    loss.backward()
    assert prob.grad.isfinite().all()


@by_term
def test_one_hundred_thousand_components(name):
    size = 24 if name == "proximity" else 94  # which compares all pairs
    target = torch.zeros(1, 1, size, size, size, dtype=torch.bool)
    target[..., ::2, ::2, ::2] = True
    prob = (target * 0.75).requires_grad_()
    loss = TERMS[name][0](prob, target)
    loss.backward()
    expected = 0 if name in ("center", "false_rate", "proximity") else 1 - 1.5 / 1.75
    assert loss.item() == pytest.approx(expected, abs=1e-5) and prob.grad.isfinite().all()


@by_term
@pytest.mark.parametrize("where", [(2, 2), (7, 7)])  # in the lesion, in the background
def test_nan_in_nan_out(name, where):
    prob, target = torch.full((1, 1, 9, 9), 0.3), torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    target[0, 0, 1:4, 1:4] = True
    prob[(0, 0, *where)] = float("nan")
    assert TERMS[name][0](prob.requires_grad_(), target).isnan()


@by_term
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_of_the_loss(name, dtype):
    prob, target = torch.rand(1, 1, 16, 16).to(dtype).requires_grad_(), torch.rand(1, 1, 16, 16) < 0.2
    loss = TERMS[name][0](prob, target)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert prob.grad.dtype == dtype
    as_double = TERMS[name][0](prob.detach().double(), target)
    assert loss.item() == pytest.approx(as_double.item(), rel=1e-6, abs=1e-6)


@by_term
def test_module_equals_function_and_draws_its_threshold(name, rng):
    fast, module, _ = TERMS[name]
    prob, target, mask = (torch.rand(2, 1, 64, 64) for _ in range(3))
    target, mask = target < 0.1, mask < 0.9
    assert module()(prob, target, mask).item() == fast(prob, target, mask).item()
    assert module(threshold=0.8)(prob, target).item() == fast(prob, target, threshold=0.8).item()
    term = module(threshold=(0.1, 0.9), seed=3)
    drawn = [term(prob, target).item() for _ in range(4)]
    assert len(set(drawn)) == 4
    again = module(threshold=(0.1, 0.9), seed=3)
    assert [again(prob, target).item() for _ in range(4)] == drawn
    assert term.eval()(prob, target).item() == fast(prob, target, threshold=0.5).item()
    assert "U(0.1, 0.9)" in repr(term)


@by_term
def test_errors_name_what_was_expected_and_got(name):
    fast = TERMS[name][0]
    prob, target = torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(TypeError, match=r"prob must be a floating-point tensor\. Got: torch\.int64"):
        fast(prob.long(), target)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\) or \(B, C, D, H, W\)\. Got: \(1, 4, 4\)"):
        fast(prob[0], target[0])
    with pytest.raises(TypeError, match=r"target must be a bool tensor\. Got: torch\.float32"):
        fast(prob, target.float())
    with pytest.raises(
        ValueError, match=r"target has the wrong shape\. Expected: \(1, 1, 4, 4\)\. Got: \(1, 1, 4, 5\)"
    ):
        fast(prob, torch.zeros(1, 1, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask has the wrong shape\. Expected: \(1, 1, 4, 4\)\. Got: \(4, 4\)"):
        fast(prob, target, torch.ones(4, 4, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask must be a bool tensor\. Got: torch\.int64"):
        fast(prob, target, torch.ones(1, 1, 4, 4, dtype=torch.int64))


def test_a_center_size_must_be_odd():
    with pytest.raises(ValueError, match=r"size must be an odd positive integer, or one for each axis\. Got: 4"):
        CenterLoss(size=4)
