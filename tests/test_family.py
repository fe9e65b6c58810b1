"""False instance rate and instance proximity: the published values, hand-worked boxes, gradients, the compound."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ici.instances import boxes
from nnunet_ici.instances.boxes import Boxes, distance_iou, widen
from nnunet_ici.losses import (
    InstanceFamilyLoss,
    center_loss,
    false_instance_rate_loss,
    instance_loss,
    instance_proximity_loss,
    predicted_instance_loss,
)
from tests import reference_family
from tests.terms import in_2d_and_3d, random_case, tensors


@in_2d_and_3d
def test_binary_predictions_give_the_published_values(axes, rng):
    for _ in range(100):
        prob, target, mask = random_case(rng, axes, binary=True)
        prob, target = prob[:, :1], target[:, :1]
        published, case = reference_family.published(prob, target, mask), tensors(prob, target, mask)
        for tau in (0.1, 0.9):  # any threshold cuts the same components
            proximity = instance_proximity_loss(*case, threshold=tau).item()
            assert proximity == pytest.approx(published["proximity"], rel=1e-9, abs=1e-6)
            for kind, f in (("rate", 1), ("number", 0.5)):
                loss = false_instance_rate_loss(*case, threshold=tau, rates=kind == "rate", false_weight=f).item()
                expected = published[f"missed {kind}"] + f * published[f"false {kind}"]
                assert loss == pytest.approx(expected, abs=1e-6)


@in_2d_and_3d
def test_options_equal_the_loops(axes, rng):
    for _ in range(15):
        case = random_case(rng, axes)
        loss = instance_proximity_loss(*tensors(*case), exclude_other_instances=False, smooth=0.1).item()
        expected = reference_family.instance_proximity_loss(*case, exclude_other_instances=False, eps=0.1)
        assert loss == pytest.approx(expected, rel=1e-9, abs=1e-9)
        loss = false_instance_rate_loss(*tensors(*case), rates=False, false_weight=3).item()
        expected = reference_family.false_instance_rate_loss(*case, rates=False, false_weight=3)
        assert loss == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_boxes_by_hand():
    first, last = torch.tensor([[3.0, 3.0], [0.0, 14.0]]), torch.tensor([[5.0, 3.0], [0.0, 15.0]])
    low, high = widen(first, last, (16, 16))
    # Voxels 3 to 5 have the extent 2, a single voxel has 1. The low corner lies one voxel further out.
    assert low.tolist() == [[0, 1], [0, 12]] and high.tolist() == [[7, 4], [1, 16]]
    assert Boxes(low, high).center.tolist() == [[4, 3], [1, 14]]  # rounded up
    a, b = Boxes(torch.zeros(1, 2), torch.full((1, 2), 4.0)), Boxes(torch.tensor([[0.0, 2]]), torch.tensor([[4.0, 6]]))
    # 8 of 24 voxels are shared; the centers are 2 apart; the common box is 4 x 6.
    assert distance_iou(a, b).item() == pytest.approx(1 - 8 / 24 + 4 / (16 + 36))
    assert distance_iou(a, a).item() == 0


def test_proximity_by_hand():
    # G_1 is found exactly; G_2 is missed; P_2 is false. All are single voxels, in boxes of 3 x 3 voxels.
    target, prob = torch.zeros(1, 1, 32, 32, dtype=torch.bool), torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    target[0, 0, 5, 5] = target[0, 0, 5, 25] = True
    prob[0, 0, 5, 5] = prob[0, 0, 25, 15] = 1
    missed = 1 + (20**2 + 10**2) / (23**2 + 13**2)  # the nearer one of both predictions: 20 rows and 10 columns away
    missed = min(missed, 1 + 20**2 / (23**2 + 3**2))
    false = 1 + (20**2 + 10**2) / (23**2 + 13**2)
    assert instance_proximity_loss(prob, target).item() == pytest.approx((missed - false) ** 2, abs=1e-6)
    prob[0, 0, 25, 15] = 0
    assert instance_proximity_loss(prob, target).item() == pytest.approx((1 + 20**2 / (23**2 + 3**2)) ** 2, rel=1e-4)


def test_one_missed_and_one_false_instance_balance_but_both_get_a_gradient():
    target = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    target[0, 0, 3, 3] = True
    prob = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    prob[0, 0, 20, 20] = 1
    assert instance_proximity_loss(prob, target).item() == pytest.approx(0)  # as published
    prob.requires_grad_()
    instance_proximity_loss(prob, target).backward()
    assert prob.grad[0, 0, 3, 3] < 0 < prob.grad[0, 0, 20, 20]
    assert prob.grad.count_nonzero() == 2


def test_an_image_with_one_empty_side(rng):
    """The middle of the image stands for what is missing; whatever is there gets a gradient of the right sign."""
    ids = np.zeros((1, 1, 20, 20), bool)
    ids[0, 0, 2:4, 2:4] = ids[0, 0, 12, 15:18] = True
    for label in (True, False):
        prob = torch.from_numpy(np.where(ids & (not label), 0.8, 0.2)).requires_grad_()
        target = torch.from_numpy(ids & label)
        instance_proximity_loss(prob, target).backward()
        inside = prob.grad[torch.from_numpy(ids)]
        assert (inside < 0).all() if label else (inside > 0).all()
    nothing = torch.zeros(2, 1, 9, 9, requires_grad=True)
    loss = instance_proximity_loss(nothing, nothing > 1) + false_instance_rate_loss(nothing, nothing > 1)
    loss.backward()
    assert loss.item() == 0


def test_pairs_are_compared_in_parts(rng, monkeypatch):
    case = tensors(*random_case(rng, 2))
    whole = instance_proximity_loss(*case).item()
    monkeypatch.setattr(boxes, "PAIRS_AT_ONCE", 3)
    assert instance_proximity_loss(*case).item() == pytest.approx(whole)


def test_the_compound_is_the_weighted_sum(rng):
    logits = torch.from_numpy(rng.standard_normal((2, 3, 14, 15)))
    target = torch.from_numpy(rng.integers(0, 3, (2, 1, 14, 15)) * (rng.random((2, 1, 14, 15)) < 0.1))
    prob = torch.softmax(logits, 1)[:, 1:]
    y = torch.cat([target == 1, target == 2], 1)
    loss = InstanceFamilyLoss(None, 0, 2, 3, 4, 5, 6, threshold=0.4, false_weight=0.5, rates=False, inner="focal")
    expected = (
        2 * instance_loss(prob, y, threshold=0.4, inner="focal")
        + 3 * predicted_instance_loss(prob, y, threshold=0.4, inner="focal")
        + 4 * center_loss(prob, y, threshold=0.4)
        + 5 * false_instance_rate_loss(prob, y, threshold=0.4, false_weight=0.5, rates=False)
        + 6 * instance_proximity_loss(prob, y, threshold=0.4)
    )
    assert loss(logits, target).item() == pytest.approx(expected.item())
    taken = loss.record.take()
    assert [*taken][:5] == ["instance", "predicted", "center", "false_rate", "proximity"]


def test_unknown_settings_are_named():
    prob, target = torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(TypeError, match=r"unknown setting\. Expected: false_weight, rates\. Got: inner"):
        false_instance_rate_loss(prob, target, inner="bce")
    with pytest.raises(ValueError, match=r"weights must be finite and not negative\. Got: \{'false': -1\}"):
        false_instance_rate_loss(prob, target, false_weight=-1)
