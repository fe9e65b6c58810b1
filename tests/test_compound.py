"""ICI, DICI and Dual as nnU-Net calls them: labels, regions, ignored voxels, autocast, deep supervision."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_ici.losses import (
    DICILoss,
    ICILoss,
    LesionWiseLoss,
    PQLoss,
    center_loss,
    instance_loss,
    predicted_instance_loss,
)

DICE = {"batch_dice": True, "smooth": 1e-5, "ddp": False}


def dice_and_ce(ignore_label=None):
    return DC_and_CE_loss(
        {**DICE, "do_bg": False}, {}, ignore_label=ignore_label, dice_class=MemoryEfficientSoftDiceLoss
    )


def no_loss(net_output, target):
    return 0 * net_output.sum()


def labels(classes=2, shape=(2, 1, 24, 24), density=0.1):
    return (torch.rand(shape) < density).to(torch.int16) * torch.randint(1, classes, shape, dtype=torch.int16)


def terms(prob, target, mask=None, threshold=0.5):
    return (
        instance_loss(prob, target, mask, threshold=threshold),
        predicted_instance_loss(prob, target, mask, threshold=threshold),
        center_loss(prob, target, mask, threshold=threshold),
    )


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("shape", [(2, 1, 24, 24), (2, 1, 10, 11, 12)])
def test_labels_are_a_weighted_sum_over_softmax_classes(classes, shape):
    target, logits = labels(classes, shape), 2 * torch.randn(shape[0], classes, *shape[2:])
    prob = logits.softmax(1)[:, 1:]
    one_hot = torch.cat([target == c for c in range(1, classes)], 1)
    instance, predicted, center = terms(prob, one_hot)
    host = dice_and_ce()
    expected = 2 * host(logits, target) + 0.5 * instance + 0.25 * predicted + 3 * center
    loss = DICILoss(host, 2, 0.5, 0.25, 3, threshold=0.5)
    assert loss(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)
    expected = host(logits, target) + instance + center
    assert ICILoss(host, threshold=0.5)(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)
    expected = host(logits, target) + instance + predicted
    dual = DICILoss(host, center_weight=0, threshold=0.5)
    assert dual(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)


def test_each_weight_has_its_effect():
    target, logits = labels(), 2 * torch.randn(2, 2, 24, 24)
    names = ("global_weight", "instance_weight", "predicted_weight", "center_weight")
    base = DICILoss(dice_and_ce(), threshold=0.5)(logits, target).item()
    values = {name: DICILoss(dice_and_ce(), threshold=0.5, **{name: 2})(logits, target).item() - base for name in names}
    assert sum(values.values()) == pytest.approx(base, abs=1e-5)
    assert all(abs(value) > 1e-3 for value in values.values())


@pytest.mark.parametrize("label_dtype", [torch.int16, torch.int64, torch.float32, torch.uint8])
def test_ignored_label(label_dtype):
    target, logits = labels(3), 2 * torch.randn(2, 3, 24, 24)
    target[torch.rand(target.shape) < 0.2] = 3
    mask, prob = target != 3, logits.softmax(1)[:, 1:]
    one_hot = torch.cat([target == 1, target == 2], 1)
    expected = sum(terms(prob, one_hot, mask)).item()
    loss = DICILoss(no_loss, threshold=0.5, ignore_label=3)
    assert loss(logits, target.to(label_dtype)).item() == pytest.approx(expected, abs=1e-5)
    assert DICILoss(dice_and_ce(3), ignore_label=3)(logits, target).isfinite()


@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("with_ignored", [False, True])
@pytest.mark.parametrize("target_dtype", [torch.bool, torch.float32])
def test_regions(regions, with_ignored, target_dtype):
    logits = 2 * torch.randn(2, regions, 24, 24)
    target = torch.rand(2, regions + with_ignored, 24, 24) < 0.1
    mask = ~target[:, -1:] if with_ignored else None
    expected = sum(terms(logits.sigmoid(), target[:, :regions], mask)).item()
    loss = DICILoss(no_loss, threshold=0.5)
    assert loss(logits, target.to(target_dtype)).item() == pytest.approx(expected, abs=1e-5)
    host = DC_and_BCE_loss({}, {**DICE, "do_bg": True}, use_ignore_label=with_ignored)
    assert DICILoss(host)(logits, target).isfinite()


def test_shared_components_give_the_gradient_of_the_terms():
    target, logits = labels(), 2 * torch.randn(2, 2, 24, 24)
    grads = []
    for shared in (True, False):
        leaf = logits.clone().requires_grad_()
        if shared:
            DICILoss(no_loss, threshold=0.4)(leaf, target).backward()
        else:
            sum(terms(leaf.softmax(1)[:, 1:], target == 1, threshold=0.4)).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, atol=1e-7, rtol=1e-4)
    assert grads[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    target, logits = labels(), (2 * torch.randn(2, 2, 24, 24)).to(dtype).requires_grad_()
    loss = DICILoss(no_loss, threshold=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    value.backward()
    assert value.dtype == torch.float32 and logits.grad.dtype == dtype
    assert value.item() == pytest.approx(loss(logits.detach().double(), target).item(), abs=1e-5)


def test_thresholds_are_drawn_in_training_and_fixed_in_validation():
    target, logits = labels(shape=(2, 1, 64, 64)), torch.randn(2, 2, 64, 64)
    loss = DICILoss(no_loss)
    assert len({loss(logits, target).item() for _ in range(5)}) == 5
    assert loss.threshold.draws == 5
    loss.eval()
    fixed = DICILoss(no_loss, threshold=0.5)(logits, target).item()
    assert {loss(logits, target).item() for _ in range(3)} == {fixed} and loss.threshold.draws == 5


def test_the_stream_of_thresholds_is_in_the_state_dict():
    target, logits = labels(shape=(2, 1, 64, 64)), torch.randn(2, 2, 64, 64)
    loss, other = DICILoss(no_loss), DICILoss(no_loss)
    for _ in range(3):
        loss(logits, target)
    other.load_state_dict(loss.state_dict())
    assert other(logits, target).item() == loss(logits, target).item()


@pytest.mark.parametrize("cls", [ICILoss, DICILoss])
def test_copies_and_pickles(cls):
    target, logits = labels(), torch.randn(2, 2, 24, 24)
    loss = cls(dice_and_ce(), threshold=0.3)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin(logits, target).item() == loss(logits, target).item()


def test_deep_supervision_shrinks_the_cubes_or_stays_at_the_finest_scale():
    targets = [labels(shape=(1, 1, n, n)) for n in (64, 32, 16)]
    outputs = [2 * torch.randn(1, 2, n, n) for n in (64, 32, 16)]
    probs = [z.softmax(1)[:, 1:] for z in outputs]
    loss = DICILoss(no_loss, 0, 0, 0, 1, threshold=0.5, reference_shape=(64, 64))
    expected = sum(
        w * center_loss(p, t == 1, size=s).item()
        for w, p, t, s in zip((0.75, 0.25), probs, targets, (7, 3), strict=False)
    )
    wrapped = DeepSupervisionWrapper(loss, (0.75, 0.25, 0))
    assert wrapped(outputs, targets).item() == pytest.approx(expected, abs=1e-5)
    assert loss.record.take()["center"] == pytest.approx(center_loss(probs[0], targets[0] == 1).item(), abs=1e-5)
    finest = ICILoss(dice_and_ce(), threshold=0.5, reference_shape=(64, 64), finest_only=True)
    assert finest(outputs[1], targets[1]).item() == pytest.approx(dice_and_ce()(outputs[1], targets[1]).item())
    instance, _, center = terms(probs[0], targets[0] == 1)
    expected = dice_and_ce()(outputs[0], targets[0]) + instance + center
    assert finest(outputs[0], targets[0]).item() == pytest.approx(expected.item(), abs=1e-5)


def test_finest_scale_only_has_a_graph_without_a_global_loss():
    loss = DICILoss(no_loss, 0, reference_shape=(64, 64), finest_only=True)
    logits = torch.randn(1, 2, 32, 32, requires_grad=True)
    value = loss(logits, labels(shape=(1, 1, 32, 32)))
    value.backward()
    assert value.item() == 0 and logits.grad.eq(0).all()


def test_the_record_counts_missed_and_false_instances():
    target = torch.zeros(1, 1, 16, 16, dtype=torch.int16)
    target[0, 0, 2, 2] = target[0, 0, 8, 8] = target[0, 0, 14, 2] = 1
    logits = torch.stack([torch.zeros(1, 16, 16), torch.full((1, 16, 16), -4.0)], 1)
    logits[0, 1, 2, 2] = logits[0, 1, 2, 12] = 4
    loss = ICILoss(dice_and_ce(), threshold=0.5)
    first, second = loss(logits, target), loss(logits, target)
    taken = loss.record.take()
    counts = [taken[f"{k}_instances"] for k in ("label", "missed", "predicted", "false")]
    assert counts == [6, 4, 4, 2]
    assert taken["global"] + taken["instance"] + taken["center"] == pytest.approx((first + second).item() / 2, abs=1e-5)
    assert "predicted" not in taken and loss.record.take() == {}


@pytest.mark.parametrize("make", [DICILoss, LesionWiseLoss, PQLoss])
@pytest.mark.parametrize("fill", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_logit_makes_the_loss_nan(make, fill):
    """Infinite logits of all classes make a softmax NaN. A single infinite logit is tested below."""
    logits, target = torch.randn(2, 2, 12, 12), labels(shape=(2, 1, 12, 12))
    logits[0, :, 3, 3] = fill
    loss = make(dice_and_ce())(logits.requires_grad_(), target)
    loss.backward()
    assert loss.isnan()
    assert make(no_loss, 0)(torch.full((1, 2, 8, 8), fill), labels(shape=(1, 1, 8, 8))).isnan()


@pytest.mark.parametrize("make", [DICILoss, LesionWiseLoss, PQLoss])
@pytest.mark.parametrize(("fill", "prob"), [(float("inf"), 1.0), (-float("inf"), 0.0)])
def test_one_infinite_logit_is_a_sure_voxel(make, fill, prob):
    logits, target = torch.randn(2, 2, 12, 12), labels(shape=(2, 1, 12, 12))
    sure = logits.clone()
    logits[0, 1, 3, 3], sure[0, 1, 3, 3] = fill, 100 * (2 * prob - 1)
    loss = make(no_loss, 0, threshold=0.5)
    value = loss(logits.requires_grad_(), target)
    value.backward()
    assert value.isfinite() and value.item() == pytest.approx(loss(sure, target).item(), abs=1e-6)
    assert logits.grad[1].isfinite().all()


@pytest.mark.parametrize("fill", [-30.0, 30.0])
@pytest.mark.parametrize("foreground", [0, 1])
def test_empty_and_full_are_finite(fill, foreground):
    target = torch.full((2, 1, 12, 12, 12), foreground, dtype=torch.int16)
    logits = torch.stack([torch.zeros(2, 12, 12, 12), torch.full((2, 12, 12, 12), fill)], 1).requires_grad_()
    loss = DICILoss(dice_and_ce())(logits, target)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_errors_name_what_was_expected_and_got():
    loss = ICILoss(no_loss, threshold=0.5)
    logits = torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"1 channel \(labels\), 3 \(regions\) or 4 .* for 3 logits\. Got: 2"):
        loss(logits, torch.zeros(2, 2, 8, 8))
    with pytest.raises(
        ValueError, match=r"target has the wrong shape\. Expected: \(2, 1, 8, 8\)\. Got: \(2, 1, 8, 9\)"
    ):
        loss(logits, torch.zeros(2, 1, 8, 9))
    with pytest.raises(TypeError, match=r"net_output must be a floating-point tensor\. Got: torch\.int64"):
        loss(logits.long(), torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"net_output must have shape .* Got: \(3, 8, 8\)"):
        loss(logits[0], torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match=r"weights must be finite and not negative.* Got: \{'instance': -1\}"):
        ICILoss(no_loss, instance_weight=-1)
    with pytest.raises(ValueError, match="at least one above 0"):
        ICILoss(no_loss, 0, 0, 0)
    with pytest.raises(ValueError, match="finest_only needs a reference_shape"):
        ICILoss(no_loss, finest_only=True)
    with pytest.raises(TypeError, match="the loss with that term is DICILoss"):
        ICILoss(no_loss, predicted_weight=1)
    with pytest.raises(ValueError, match="size must be an odd positive integer"):
        ICILoss(no_loss, size=6)
