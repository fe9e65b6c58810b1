"""The losses that count every lesion once: by hand, their settings, and the metric they are based on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import instance_dice, lesion_dice
from nnunet_ici.instances import Source
from nnunet_ici.losses import LesionWiseLoss, PQLoss, lesionwise_loss, pq_loss
from nnunet_ici.losses.terms import count_lesions
from tests import reference
from tests.terms import in_2d_and_3d, random_case, tensors

COMPOUNDS = pytest.mark.parametrize(("make", "term"), [(LesionWiseLoss, lesionwise_loss), (PQLoss, pq_loss)])


def scene():
    """A found lesion of 4 voxels, a missed one of 1 voxel, and a false component of 2 voxels, p = 0.75."""
    target, prob = torch.zeros(1, 1, 12, 12, dtype=torch.bool), torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    target[0, 0, 1:3, 1:3] = target[0, 0, 6, 6] = True
    prob[0, 0, 1:3, 1:3], prob[0, 0, 9, 9:11] = 1, 0.75
    return prob, target


def test_values_by_hand():
    prob, target = scene()
    assert lesionwise_loss(prob, target).item() == pytest.approx((0 + 1 + 0.75) / 3, abs=1e-5)
    assert pq_loss(prob, target).item() == pytest.approx(1 - 2 * 1 / (2 + 1 + 0.75), abs=1e-5)
    nothing = torch.zeros_like(target)
    for loss in (lesionwise_loss, pq_loss):
        assert loss(prob, nothing).item() == pytest.approx((1 + 0.75) / 2, abs=1e-5)  # two false, of p 1 and 0.75
        assert loss(torch.zeros_like(prob), target).item() == pytest.approx(1, abs=1e-4)


def test_a_missed_lesion_weighs_as_much_as_a_false_one_whatever_their_sizes():
    """Binary predictions: one more missed lesion, or one more false one, of any size, adds the same."""
    prob, target = torch.zeros(1, 1, 32, 32, dtype=torch.float64), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    target[0, 0, 1:5, 1:5], prob[0, 0, 1:5, 1:5] = True, 1
    values = []
    for size in (1, 3, 9):
        missed, false = target.clone(), prob.clone()
        missed[0, 0, 16 : 16 + size, 16 : 16 + size] = True
        false[0, 0, 16 : 16 + size, 16 : 16 + size] = 1
        values += [lesionwise_loss(prob, missed).item(), lesionwise_loss(false, target).item()]
    assert values == pytest.approx([0.5] * 6, abs=1e-4)


@in_2d_and_3d
@pytest.mark.parametrize("exclude", [True, False])
def test_on_binary_predictions_it_is_the_lesion_wise_dice_of_the_evaluation(axes, exclude, rng):
    """With Eq. 3 as the BraTS challenges count, without dilation and smallest volume."""
    compared = 0
    for _ in range(150):
        shape = rng.integers(1, 24 if axes == 2 else 12, size=axes)
        label, prediction = (rng.random(shape) < rng.choice([0, 0.02, 0.1, 0.4]) for _ in range(2))
        if not label.any() and not prediction.any():
            continue  # nothing to count: the metric is 1, and the loss is 0
        given = tensors(prediction[None, None].astype(np.float64), label[None, None])
        expected = lesion_dice(match_instances(label, prediction), exclude)
        # Without eps: with it a missed lesion of one voxel has a Dice of 1e-5.
        actual = 1 - lesionwise_loss(*given, exclude_other_instances=exclude, smooth=0).item()
        assert actual == pytest.approx(expected, abs=1e-6)
        compared += 1
    assert compared > 100


@in_2d_and_3d
def test_settings_equal_the_naive_loops(axes, rng):
    for _ in range(20):
        case = random_case(rng, axes)
        for fast, naive in ((lesionwise_loss, reference.lesionwise_loss), (pq_loss, reference.pq_loss)):
            for exclude, weight, eps in ((False, 1.0, 1e-5), (True, 0.3, 0.1), (True, 0.0, 1e-5)):
                options = {"exclude_other_instances": exclude, "false_weight": weight}
                actual = fast(*tensors(*case), smooth=eps, **options).item()
                assert actual == pytest.approx(naive(*case, eps=eps, **options), abs=1e-10)


@in_2d_and_3d
@pytest.mark.parametrize("inner", ["bce", "focal", "dice_ce"])
def test_another_inner_loss_is_that_of_lesions_and_false_instances(axes, inner, rng):
    for _ in range(10):
        prob, target, mask = random_case(rng, axes)
        prob, target = prob[:, :1], target[:, :1]
        images = next(reference.images_of_classes(prob, target, mask, 0.4))
        labels, false = sum(len(i.labels) for i in images), len(reference.false_means(images))
        # The losses of both terms; that of the predicted instances only where they are false.
        total = labels * reference.instance_loss(prob, target, mask, 0.4, inner=inner)
        for image in images:
            for q in image.preds:
                if not image.touching_labels(q):
                    total += reference.inner_loss(image, image.p[q].mean(), [], q, inner)
        actual = lesionwise_loss(*tensors(prob, target, mask), threshold=0.4, inner=inner).item()
        assert actual == pytest.approx(total / max(labels + false, 1), rel=1e-9, abs=1e-9)


@COMPOUNDS
def test_the_compound_is_a_weighted_sum(make, term, rng):
    logits = torch.from_numpy(rng.standard_normal((2, 3, 14, 14)))
    target = torch.from_numpy(rng.integers(0, 3, (2, 1, 14, 14)) * (rng.random((2, 1, 14, 14)) < 0.2))
    classes = torch.cat([target == 1, target == 2], 1)
    value = term(logits.softmax(1)[:, 1:], classes, threshold=0.4, false_weight=0.5)
    loss = make(lambda z, y: z.square().mean(), 0.25, 3, threshold=0.4, false_weight=0.5)
    assert loss(logits, target).item() == pytest.approx((0.25 * logits.square().mean() + 3 * value).item())
    assert loss.record.take()[make.term] == pytest.approx(value.item())


@COMPOUNDS
def test_regions_and_ignored_voxels(make, term, rng):
    logits = torch.from_numpy(rng.standard_normal((2, 2, 15, 15)))
    target = torch.from_numpy(rng.random((2, 3, 15, 15)) < 0.15)  # two regions, and what is ignored
    expected = term(logits.sigmoid(), target[:, :2], ~target[:, 2:], threshold=0.5)
    assert make(None, 0, threshold=0.5)(logits, target).item() == pytest.approx(expected.item())
    labels = torch.where(target[:, 2:], 2, target[:, :1].to(torch.int16))
    expected = term(logits.softmax(1)[:, 1:], target[:, :1], ~target[:, 2:], threshold=0.5)
    assert make(None, 0, threshold=0.5, ignore_label=2)(logits, labels).item() == pytest.approx(expected.item())


@COMPOUNDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(make, term, dtype, rng):
    target = torch.from_numpy((rng.random((2, 1, 24, 24)) < 0.1).astype(np.int16))
    logits = torch.from_numpy(2 * rng.standard_normal((2, 2, 24, 24))).to(dtype).requires_grad_()
    loss = make(None, 0, threshold=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    value.backward()
    assert value.dtype == torch.float32 and logits.grad.dtype == dtype and logits.grad.abs().sum() > 0
    assert value.item() == pytest.approx(loss(logits.detach().double(), target).item(), abs=1e-5)


@COMPOUNDS
def test_deep_supervision(make, term, rng):
    targets = [torch.from_numpy((rng.random((1, 1, n, n)) < 0.1).astype(np.int16)) for n in (32, 16)]
    outputs = [torch.from_numpy(2 * rng.standard_normal((1, 2, n, n))) for n in (32, 16)]
    values = [term(z.softmax(1)[:, 1:], t == 1, threshold=0.5).item() for z, t in zip(outputs, targets, strict=True)]
    options = {"threshold": 0.5, "reference_shape": (32, 32)}
    both, finest = (make(None, 0, finest_only=only, **options) for only in (False, True))
    wrapped = [DeepSupervisionWrapper(loss, (0.75, 0.25))(outputs, targets).item() for loss in (both, finest)]
    assert wrapped == pytest.approx([0.75 * values[0] + 0.25 * values[1], 0.75 * values[0]])


@pytest.mark.parametrize("loss", [lesionwise_loss, pq_loss])
def test_the_false_weight_shifts_the_balance(loss):
    prob, target = scene()
    pulls = []
    for weight in (1.0, 0.25):
        leaf = prob.clone().requires_grad_()
        loss(leaf, target, false_weight=weight).backward()
        pulls.append(leaf.grad[0, 0, 9, 9] / -leaf.grad[0, 0, 6, 6])
    assert 0 < pulls[1] < pulls[0]


def test_errors_name_what_was_expected_and_got():
    prob, target = scene()
    with pytest.raises(TypeError, match=r"Expected: exclude_other_instances, smooth, false_weight\. Got: inner"):
        pq_loss(prob, target, inner="bce")
    with pytest.raises(ValueError, match=r"weights must be finite and not negative\. Got: \{'false': -1\}"):
        lesionwise_loss(prob, target, false_weight=-1)
    with pytest.raises(NotImplementedError, match=r"Eq\. 3 .* Dice only.* Got: inner='bce'"):
        LesionWiseLoss(None, 0, exclude_other_instances=False, inner="bce")


def test_a_lesion_just_under_the_threshold_takes_pq_below_0():
    """As its docstring says."""
    target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    target[0, 0, 2:5, 2:5] = True
    assert pq_loss(0.49 * target.double(), target).item() == pytest.approx(-0.315, abs=1e-3)


@pytest.mark.parametrize("shape", [(20, 22), (8, 10, 12)])
def test_lesions_are_counted_as_in_the_evaluation(rng, shape):
    """The counts and the sum of the lesions' Dice that validation logs, with an ignore label."""
    logits = 2 * torch.from_numpy(rng.normal(size=(3, 2, *shape)).astype(np.float32))
    target = torch.from_numpy((rng.random((3, 1, *shape)) > 0.9).astype(np.int16))
    target[:, :, :4] = 2
    got = count_lesions(Source.of_network(logits, target, ignore_label=2))
    expected = np.zeros(5)
    for z, y in zip(logits.numpy(), target[:, 0].numpy(), strict=True):
        m = match_instances(y == 1, (z[1] > z[0]) & (y != 2))
        counts = [m.label_instances, m.missed_instances, m.predicted_instances, m.false_instances]
        expected += [*counts, instance_dice(m).sum()]
    assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-3) and expected[1] > 0 and expected[3] > 0
