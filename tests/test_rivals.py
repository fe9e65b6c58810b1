"""The rival losses, and the inner losses, against naive loops; gradients, modes, documented effects, errors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn import functional as F

from nnunet_ici import losses, trainers
from nnunet_ici.instances import label_components
from nnunet_ici.instances.distance import nearest_instance
from nnunet_ici.losses import (
    BlobLoss,
    BoundaryLoss,
    CATMILLoss,
    CCDiceCELoss,
    DICILoss,
    DilatedBalancedCELoss,
    InverseWeightingLoss,
    RegionWiseLoss,
    blob_loss,
    cat_loss,
    cc_dice_ce_loss,
    dilated_balanced_ce_loss,
    instance_loss,
    inverse_weighting_loss,
    mil_loss,
    predicted_instance_loss,
)
from nnunet_ici.losses.inverse_weighting import inverse_weights
from tests import reference
from tests import reference_rivals as naive
from tests.terms import in_2d_and_3d, random_case, tensors

INNER = ["dice", "bce", "focal", "dice_ce"]
OVER_CLASSES = ["region_wise_loss", "boundary_loss", "dilated_balanced_ce_loss", "inverse_weighting_loss"]
# Loss class by the name of its term or terms, with its options.
COMPOUNDS = {
    "blob": (BlobLoss, {}),
    "cc_dice_ce": (CCDiceCELoss, {}),
    "catmil": (CATMILLoss, {}),
    "region_wise": (RegionWiseLoss, {"global_weight": 0.5}),
    "dbce": (DilatedBalancedCELoss, {"global_weight": 0.5}),
    "inverse_weighting": (InverseWeightingLoss, {"global_weight": 0.5}),
    "boundary": (BoundaryLoss, {}),
}


def global_loss(z, y):
    return z.square().mean()


def terms_alone(name, **options):
    """The compound without its global loss."""
    if name != "boundary":
        return COMPOUNDS[name][0](None, 0.0, **options)
    loss = BoundaryLoss(lambda z, y: 0 * z.sum(), **options)
    loss.set_progress(1.0)
    return loss


def case_of_classes(rng, axes, classes=3):
    """Logits, label and mask or None, small."""
    shape = (2, *rng.integers(1, 7 if axes == 2 else 5, size=axes))
    label = rng.integers(0, classes, shape) * (rng.random(shape) < rng.choice([0, 0.2, 0.6, 1]))
    if rng.random() < 0.2:
        label[0] = rng.integers(classes)  # a class that fills its image
    mask = rng.random(shape) < 0.7 if rng.random() < 0.5 else None
    return rng.standard_normal((2, classes, *shape[1:])), label, mask


@in_2d_and_3d
@pytest.mark.parametrize("name", OVER_CLASSES)
def test_losses_over_classes_equal_the_loops(name, axes, rng):
    for _ in range(12):
        logits, label, mask = case_of_classes(rng, axes)
        actual = getattr(losses, name)(*tensors(logits, label, mask)).item()
        assert actual == pytest.approx(float(getattr(naive, name)(logits, label, mask)), abs=1e-6)


@pytest.mark.parametrize("radius", [0, 1, 2, 5])
def test_the_radius_has_its_documented_effect(radius, rng):
    logits, label, mask = case_of_classes(rng, 2)
    actual = dilated_balanced_ce_loss(*tensors(logits, label, mask), radius=radius).item()
    assert actual == pytest.approx(naive.dilated_balanced_ce_loss(logits, label, mask, radius), abs=1e-6)


@in_2d_and_3d
@pytest.mark.parametrize("inner", INNER)
def test_inner_losses_equal_the_loops(inner, axes, rng):
    for _ in range(15):
        prob, target, mask = random_case(rng, axes, binary=rng.random() < 0.2)
        given = tensors(prob, target, mask)
        for threshold in (0.3, 0.6):
            for fast, slow in (
                (instance_loss, reference.instance_loss),
                (predicted_instance_loss, reference.predicted_instance_loss),
            ):
                actual = fast(*given, threshold=threshold, inner=inner).item()
                assert actual == pytest.approx(slow(prob, target, mask, threshold, inner=inner), rel=1e-9, abs=1e-9)
        assert blob_loss(*given, inner=inner).item() == pytest.approx(
            naive.blob_loss(prob, target, mask, inner), rel=1e-9, abs=1e-9
        )


@in_2d_and_3d
def test_cc_dice_ce_equals_the_loops_on_voronoi_regions(axes, rng):
    for _ in range(8):
        shape = (2, 2, *rng.integers(1, 8 if axes == 2 else 5, size=axes))
        prob, target = rng.random(shape), rng.random(shape) < rng.choice([0, 0.1, 0.3])
        mask = rng.random((2, 1, *shape[2:])) < 0.8 if rng.random() < 0.5 else None
        counted = target if mask is None else target & mask
        ids, _ = label_components(torch.from_numpy(counted).flatten(0, 1))
        regions = nearest_instance(ids).numpy().reshape(4, -1)
        for image, region in zip(ids.numpy(), regions, strict=True):
            valid = naive.voronoi(image.ravel(), shape[2:])
            assert all(r in v or (r == 0 and not v) for r, v in zip(region, valid, strict=True))
        given = tensors(prob, counted, mask)
        expected = naive.cc_dice_ce_loss(given[0], given[1], lambda c, b, r=regions: r[2 * b + c], given[2]).item()
        assert cc_dice_ce_loss(*given).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@in_2d_and_3d
def test_catmil_equals_the_loops(axes, rng):
    for _ in range(15):
        given = tensors(*random_case(rng, axes, binary=rng.random() < 0.2))
        expected = [term.item() for term in naive.cat_and_mil(*given)]
        assert [cat_loss(*given).item(), mil_loss(*given).item()] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def corners_and_middle(second_corner=False):
    """Label of the hand-worked examples: 5^3 voxels, lesions at corners of image 0 and in the middle of image 1."""
    target = torch.zeros(2, 1, 5, 5, 5, dtype=torch.int16)
    target[0, 0, 0, 0, 0] = target[0, 0, 4, 4, 4] = target[1, 0, 2, 2, 2] = 1
    target[0, 0, 0, 4, 4] = second_corner
    empty = target.clone()
    empty[1] = 0
    return target, empty


def test_mil_counts_the_lesions_of_the_mini_batch():
    logits = torch.zeros(2, 2, 5, 5, 5)
    logits[0, 1], logits[1, 1] = 2, -2
    mil = CATMILLoss(None, 0, 0, 1)
    # log(1 + e^-2) = .1269 twice and log(1 + e^2) = 2.1269 once; then the former alone
    assert [mil(logits, y).item() for y in corners_and_middle()] == pytest.approx([0.7936, 0.1269], abs=5e-5)


def test_cc_dice_ce_averages_the_images():
    logits = torch.zeros(2, 2, 5, 5, 5)
    logits[1, 1] = 2
    loss = CCDiceCELoss(None, 0)
    values = [loss(logits, y).item() for y in corners_and_middle(second_corner=True)]
    assert values == pytest.approx([2.3691, 2.3851], abs=5e-5)
    confident = torch.zeros(1, 2, 5, 5, 5)
    confident[0, 1], confident[0, 1, 2, 2, 2] = -20, 20
    nothing = torch.zeros(1, 1, 5, 5, 5, dtype=torch.int16)
    assert loss(confident, nothing).item() == pytest.approx(1 + 20 / 125)  # the Dice loss, and one false voxel
    logits, target = torch.randn(2, 3, 9, 9), torch.randint(0, 3, (2, 1, 9, 9))
    by_class = cc_dice_ce_loss(logits.softmax(1)[:, 1:], torch.cat([target == 1, target == 2], 1))
    assert loss(logits, target).item() == pytest.approx(by_class.item(), rel=1e-5)


def test_inverse_weights_are_clipped():
    few = torch.zeros(1, 10, 10, 10, dtype=torch.int64)
    few[0, ::9, ::9, 0] = 1
    weight = inverse_weights(few, None, 2)
    assert weight.unique().tolist() == [1, 200]  # the background's would be 1000 / (5 * 996)
    single = torch.zeros(1, 128, 128, 128, dtype=torch.int64)
    single[0, 7, 7, 7] = 1
    assert inverse_weights(single, None, 2).unique().tolist() == [1, 2e5]  # it would be 128^3 / 2


@pytest.mark.parametrize("name", ["CATMIL", "CCDiceCE", "IW"])
def test_the_trainers_loss_equals_the_published_one(name, rng):
    """Value and gradient: deep supervision, a batch of two images, three scales, one image without a lesion or not."""
    shapes = [(8, 8, 8), (4, 4, 4), (2, 2, 2), (1, 1, 1)]
    cls = getattr(trainers, f"nnUNetTrainer{name}")
    trainer = cls.__new__(cls)
    trainer.label_manager = SimpleNamespace(has_regions=False, ignore_label=None)
    trainer.configuration_manager = SimpleNamespace(batch_dice=False, patch_size=shapes[0])
    trainer.device, trainer.is_ddp, trainer.enable_deep_supervision = torch.device("cpu"), False, True
    trainer._get_deep_supervision_scales = lambda: shapes
    host, ours = nnUNetTrainer._build_loss(trainer), trainer._build_loss()
    trainer._compound.start_epoch(20, 1000)

    def published(outputs, targets):
        def terms(z, y):
            prob, target = torch.softmax(z, 1)[:, 1:], y == 1
            if name == "CATMIL":
                cat, mil = naive.cat_and_mil(prob, target)
                return 0.1 * 20 / 50 * cat + 0.2 * mil
            if name == "IW":
                return naive.inverse_weighting_loss(z, y[:, 0].long())
            regions = nearest_instance(label_components(target[:, 0])[0])
            return naive.cc_dice_ce_loss(prob, target, lambda c, b: regions[b])

        scales = zip(host.weight_factors, outputs, targets, strict=True)
        if name == "CATMIL":
            return host(outputs, targets) + terms(outputs[0], targets[0])
        return sum(w * (host.loss(z, y) * (name != "IW") + terms(z, y)) for w, z, y in scales if w)

    for lesions in ([3, 0], [4, 2]):
        full = torch.zeros(2, 1, *shapes[0], dtype=torch.int16)
        for image, count in zip(full, lesions, strict=True):
            for _ in range(count):
                i, j, k = rng.integers(0, 6, 3)
                image[0, i : i + 2, j : j + 2, k] = 1
        targets = [F.adaptive_max_pool3d(full.double(), shape).to(torch.int16) for shape in shapes]
        outputs = [torch.from_numpy(rng.standard_normal((2, 2, *shape))).requires_grad_() for shape in shapes]
        values = [loss(outputs, targets) for loss in (ours, published)]
        if name == "CATMIL":  # called with lists
            alone = CATMILLoss(host.loss, finest_only=True, reference_shape=shapes[0], ds_weights=host.weight_factors)
            alone.start_epoch(20, 1000)
            assert alone(outputs, targets).item() == pytest.approx(values[1].item(), abs=1e-6)
        assert values[0].item() == pytest.approx(values[1].item(), abs=1e-6)
        grads = [torch.autograd.grad(value, outputs[:3]) for value in values]
        for actual, expected in zip(*grads, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_the_weight_of_catmils_tversky_loss_rises(rng):
    logits = torch.from_numpy(rng.standard_normal((2, 2, 9, 9)))
    target = torch.from_numpy((rng.random((2, 1, 9, 9)) < 0.1).astype(np.int16))
    prob, y = torch.softmax(logits, 1)[:, 1:], target == 1
    loss = CATMILLoss(global_loss)
    for epoch, weight in ((0, 0), (10, 0.02), (50, 0.1), (80, 0.1)):
        loss.start_epoch(epoch, 100)
        expected = global_loss(logits, target) + weight * cat_loss(prob, y) + 0.2 * mil_loss(prob, y)
        assert loss(logits, target).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", COMPOUNDS)
def test_a_nan_logit_makes_the_loss_nan(name):
    logits, target = torch.randn(2, 2, 9, 8), torch.zeros(2, 1, 9, 8, dtype=torch.int16)
    target[..., 2:4, 2:4] = 1
    logits[0, 1, 7, 7] = float("nan")
    value = terms_alone(name)(logits.requires_grad_(), target)
    value.backward()
    assert value.isnan()


@in_2d_and_3d
def test_gradients(axes, rng):
    shape = (2, 2, 5, 4) if axes == 2 else (1, 2, 3, 4, 4)
    prob = torch.from_numpy(rng.uniform(0.05, 0.95, shape)).requires_grad_()
    target = torch.from_numpy(rng.random(shape) < 0.25)
    for loss in (
        lambda p: cc_dice_ce_loss(p, target),
        lambda p: cat_loss(p, target),
        lambda p: mil_loss(p, target),
        *(lambda p, inner=inner: blob_loss(p, target, inner=inner) for inner in INNER),
        *(lambda p, inner=inner: instance_loss(p, target, inner=inner) for inner in INNER),
        *(lambda p, inner=inner: predicted_instance_loss(p, target, inner=inner) for inner in INNER),
    ):
        assert torch.autograd.gradcheck(lambda p, loss=loss: 1.7 * loss(p), prob)
    logits = torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
    label = torch.from_numpy(rng.integers(0, 2, (shape[0], *shape[2:])))
    for name in OVER_CLASSES:
        assert torch.autograd.gradcheck(lambda z, name=name: 1.7 * getattr(losses, name)(z, label), logits)


def test_a_missed_and_a_false_lesion_each_get_a_gradient_of_the_right_sign():
    target = torch.zeros(1, 1, 24, 24, dtype=torch.int16)
    target[0, 0, 4:6, 4:6] = 1
    logits = torch.zeros(1, 2, 24, 24)
    logits[0, 0] = 2
    logits[0, 1, 17:19, 17:19] = 4  # false
    for name in COMPOUNDS:
        leaf = logits.clone().requires_grad_()
        terms_alone(name)(leaf, target).backward()
        assert leaf.grad[0, 1, 4, 4] < 0, name
        assert leaf.grad[0, 1, 17, 17] > 0, name


@pytest.mark.parametrize("name", COMPOUNDS)
def test_an_image_without_lesions(name):
    cls, options = COMPOUNDS[name]
    loss = cls(global_loss, **options)
    logits = torch.randn(2, 2, 9, 8, requires_grad=True)
    value = loss(logits, torch.zeros(2, 1, 9, 8, dtype=torch.int16))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", COMPOUNDS)
def test_regions_are_softmaxes_over_two_classes_each(name, rng):
    """One region with a sigmoid equals labels with a softmax; ignored voxels count nowhere."""
    z = torch.from_numpy(rng.standard_normal((2, 1, 9, 11)))
    y = torch.from_numpy(rng.random((2, 1, 9, 11)) < 0.2)
    ignored = torch.from_numpy(rng.random((2, 1, 9, 11)) < 0.2)
    labels = torch.where(ignored, 2, y.to(torch.int16))
    by_label = terms_alone(name, ignore_label=2)(torch.cat([torch.zeros_like(z), z], 1), labels)
    by_region = terms_alone(name)(z, torch.cat([y, ignored], 1))
    assert by_region.item() == pytest.approx(by_label.item(), rel=1e-6)
    elsewhere = terms_alone(name)(torch.where(ignored, z + 3, z), torch.cat([y, ignored], 1))
    assert elsewhere.item() == pytest.approx(by_region.item(), rel=1e-6)


def test_the_weight_of_boundary_loss_falls():
    loss = BoundaryLoss(global_loss)
    logits, target = torch.randn(1, 2, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.int16)
    target[..., 2:4, 2:4] = 1
    assert loss(logits, target).item() == pytest.approx(global_loss(logits, target).item())
    seen = []
    for progress in (0, 0.25, 0.995, 1):
        loss.set_progress(progress)
        seen.append(loss.weights["global"])
    assert seen == pytest.approx([1, 0.75, 0.01, 0.01])
    with pytest.raises(ValueError, match=r"progress must lie in \[0, 1\]\. Got: 1\.5"):
        loss.set_progress(1.5)


def test_alpha_and_beta_of_blob_loss(rng):
    logits = torch.from_numpy(rng.standard_normal((2, 2, 9, 9)))
    target = torch.from_numpy((rng.random((2, 1, 9, 9)) < 0.1).astype(np.int16))
    prob = torch.softmax(logits, 1)[:, 1:]
    expected = 2 * global_loss(logits, target) + blob_loss(prob, target == 1)
    assert BlobLoss(global_loss)(logits, target).item() == pytest.approx(expected.item())
    expected = 0.5 * global_loss(logits, target) + 3 * blob_loss(prob, target == 1)
    assert BlobLoss(global_loss, 0.5, 3.0)(logits, target).item() == pytest.approx(expected.item())


def test_validation_counts_instances_for_every_loss(rng):
    target = torch.zeros(1, 1, 20, 20, dtype=torch.int16)
    target[0, 0, 3, 3] = target[0, 0, 12:14, 12:14] = 1
    logits = torch.zeros(1, 2, 20, 20)
    logits[0, 1] = -5
    logits[0, 1, 12:14, 12:14] = logits[0, 1, 17, 3] = 5
    for name, (cls, options) in COMPOUNDS.items():
        loss = cls(global_loss, **options).eval()
        if name == "boundary":
            loss.set_progress(0.5)
        loss(logits, target)
        taken = loss.record.take()
        assert taken["lesion_dice"] == pytest.approx(1, abs=1e-4)  # of one lesion that is found, and one that is missed
        counts = [taken[f"{kind}_instances"] for kind in ("label", "missed", "predicted", "false")]
        assert counts == [2, 1, 2, 1], name
        loss.train()
        loss(logits, target)
        assert "missed_instances" not in loss.record.take()


def test_the_inner_loss_of_compounds(rng):
    logits = torch.from_numpy(rng.standard_normal((2, 2, 12, 12)))
    target = torch.from_numpy((rng.random((2, 1, 12, 12)) < 0.1).astype(np.int16))
    prob, y = torch.softmax(logits, 1)[:, 1:], target == 1
    loss = DICILoss(None, 0, 1, 1, 0, threshold=0.5, inner="focal")
    expected = instance_loss(prob, y, inner="focal") + predicted_instance_loss(prob, y, inner="focal")
    assert loss(logits, target).item() == pytest.approx(expected.item())


def test_errors_name_what_was_got():
    prob, target = torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"inner must be one of dice, bce, focal, dice_ce\. Got: 'ce'"):
        instance_loss(prob, target, inner="ce")
    with pytest.raises(NotImplementedError, match=r"Eq\. 3 .* Dice only.* Got: inner='bce'"):
        DICILoss(None, 0, inner="bce", exclude_other_instances=False)
    with pytest.raises(ValueError, match=r"radius must be an integer, 0 or more\. Got: -1"):
        DilatedBalancedCELoss(radius=-1)
    with pytest.raises(TypeError, match=r"label must have dtype torch\.int64\. Got: torch\.int32"):
        inverse_weighting_loss(torch.rand(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"mask has the wrong shape\. Expected: \(1, 4, 4\)\. Got: \(1, 4, 5\)"):
        losses.region_wise_loss(
            torch.rand(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), torch.ones(1, 4, 5, dtype=torch.bool)
        )
