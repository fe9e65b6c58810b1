"""Guards the losses outside nnU-Net: called as MONAI's losses are, without nnU-Net, and with targets that are wrong."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from nnunet_ici import losses
from nnunet_ici.losses import DICILoss, ICILoss, PQLoss, center_loss, instance_loss
from nnunet_ici.losses.dice_ce import DiceCELoss, default_global_loss
from tests.conftest import ROOT

MODULES = [
    losses.BlobLoss, losses.BoundaryLoss, losses.CATMILLoss, losses.CCDiceCELoss, losses.DICILoss,
    losses.DilatedBalancedCELoss, losses.ICILoss, losses.InstanceFamilyLoss,
    losses.InverseWeightingLoss, losses.LesionWiseLoss, losses.PQLoss,
    losses.RegionWiseLoss,
]  # fmt: skip
TERMS = ["instance_loss", "predicted_instance_loss", "center_loss", "lesionwise_loss", "pq_loss", "blob_loss",
         "cc_dice_ce_loss", "cat_loss", "mil_loss", "false_instance_rate_loss", "instance_proximity_loss"]  # fmt: skip
OVER_CLASSES = ["region_wise_loss", "boundary_loss", "dilated_balanced_ce_loss", "inverse_weighting_loss"]


@pytest.fixture
def case():
    """Logits (2, 3, 20, 20) and a label map."""
    target = (torch.rand(2, 1, 20, 20) < 0.1) * torch.randint(1, 3, (2, 1, 20, 20))
    return 2 * torch.randn(2, 3, 20, 20), target


def one_hot(target, classes=3):
    return F.one_hot(target[:, 0].long(), classes).movedim(-1, 1)


def fixed(**options):
    return DICILoss(threshold=0.5, **options)


# --- wrong values ---


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (255, r"target must hold the labels 0 to 2\. Got: 255 \(an image\? Divide 0 and 255 by 255\)"),
        (0.7, r"target must hold the labels 0 to 2\. Got: 0\.7 \(soft labels\? Round them, or take the argmax\)"),
        (-1, r"Got: -1 \(voxels to ignore\? Pass ignore_label=-1\)"),
        (3, r"Got: 3 \(labels must be consecutive, and the network needs a channel for each and the background\)"),
    ],
)
@pytest.mark.parametrize("spatial", [(8, 8), (6, 7, 8)])
def test_a_label_map_with_other_values_is_refused(value, message, spatial):
    target = torch.zeros(1, 1, *spatial)
    target[..., 2] = value
    for loss in (PQLoss(), losses.RegionWiseLoss(), losses.CATMILLoss()):
        with pytest.raises(ValueError, match=message):
            loss(torch.randn(1, 3, *spatial), target)
    ignoring = DICILoss(ignore_label=value) if value == -1 else None
    assert ignoring is None or ignoring(torch.randn(1, 3, *spatial), target).isfinite()


@pytest.mark.parametrize(("value", "remedy"), [(255, "divide by 255"), (0.5, "round soft labels")])
def test_regions_with_other_values_are_refused(value, remedy):
    target = torch.zeros(1, 2, 8, 8)
    target[0, 0, 3] = value
    with pytest.raises(ValueError, match=rf"0 and 1 in its channels\. Got: {value} \({remedy}\)"):
        PQLoss()(torch.randn(1, 2, 8, 8), target)


@pytest.mark.parametrize("name", TERMS)
def test_logits_are_not_taken_for_probabilities(name):
    logits, target = torch.full((1, 1, 11, 17), 3.0), torch.zeros(1, 1, 11, 17, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"prob must lie in \[0, 1\]\. Got: 3 to 3 \(logits\? Apply a softmax"):
        getattr(losses, name)(logits, target)


def test_values_are_checked_again_for_another_shape_and_not_for_the_same(case, monkeypatch):
    loss, (logits, target) = PQLoss(), case
    loss(logits, target)
    read = []
    monkeypatch.setattr("nnunet_ici.losses.targets.check_labels", lambda *values: read.append(values))
    loss(logits, target)
    assert not read
    loss(logits[..., :10], target[..., :10])
    loss(logits, target.float())
    assert len(read) == 2


def test_a_missing_channel_axis_is_named(case):
    logits, target = case
    with pytest.raises(ValueError, match=r"channel axis: use target\[:, None\]\. Got: \(2, 20, 20\)"):
        PQLoss()(logits, target[:, 0])


# --- one-hot targets and regions ---


def test_one_hot_targets_are_not_regions(case):
    logits, target = case
    loss, hot = fixed(), one_hot(target)
    with pytest.raises(ValueError, match=r"Got: one-hot channels, of which one is the background\. Pass softmax=True"):
        loss(logits, hot)
    assert fixed(softmax=True)(logits, hot).item() == pytest.approx(loss(logits, target).item(), abs=1e-6)
    assert fixed(regions=True)(logits, hot).isfinite()
    with pytest.raises(ValueError, match=r"exactly one channel set at every voxel for softmax=True"):
        fixed(softmax=True)(logits, torch.zeros_like(hot))


def test_label_maps_and_sigmoids(case):
    logits, target = case
    regions = torch.cat([target == 1, target == 2], 1)
    expected = fixed()(logits[:, 1:], regions).item()
    options = {"sigmoid": True, "include_background": False}
    assert fixed(to_onehot_y=True, **options)(logits, target).item() == pytest.approx(expected, abs=1e-6)
    assert fixed(**options)(logits, one_hot(target)).item() == pytest.approx(expected, abs=1e-6)
    with_background = fixed(to_onehot_y=True, sigmoid=True)(logits, target)
    expected = fixed(regions=True)(logits, one_hot(target))
    assert with_background.item() == pytest.approx(expected.item(), abs=1e-6)


def test_ignored_voxels_and_sigmoids(case):
    logits, target = case
    target[:, :, :5] = 3
    loss = fixed(to_onehot_y=True, sigmoid=True, include_background=False, ignore_label=3)
    regions = torch.cat([target == 1, target == 2, target == 3], 1)
    assert loss(logits, target).item() == pytest.approx(fixed(regions=True)(logits[:, 1:], regions).item(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"softmax": True, "sigmoid": True}, "softmax and sigmoid exclude each other"),
        ({"softmax": True, "regions": True}, "softmax and regions exclude each other"),
        ({"include_background": True}, "the background of a softmax has no instances"),
        ({"reduction": "sum"}, "a mini-batch has a single value. Got: 'sum'"),
        ({"reduction": "max", "batch": False}, "Got: 'max'"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PQLoss(**options)
    with pytest.raises(TypeError, match=r"unknown setting.*Got: colour"):
        PQLoss(colour=1)


def test_to_onehot_y_needs_a_label_map(case):
    logits, target = case
    with pytest.raises(ValueError, match=r"target must be a label map \(B, 1, \*spatial\)"):
        PQLoss(to_onehot_y=True, softmax=True)(logits, one_hot(target))
    with pytest.raises(ValueError, match="a channel for each of 3 regions"):
        PQLoss(regions=True)(logits, target)


# --- the default global loss, batches, scales ---


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("regions", [False, True])
def test_the_default_global_loss_equals_nnunets(case, regions, ignored):
    logits, target = case
    if ignored:
        target[:, :, 15:] = 3
    if regions:
        target = torch.cat([target == c for c in range(1, 4 if ignored else 3)], 1)
        logits = logits[:, 1:]
    label = 3 if ignored and not regions else None
    own, host = DiceCELoss(label), default_global_loss(label)
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    values = [loss(leaf, target) for loss, leaf in zip((own, host), leaves, strict=True)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(v, x)[0] for v, x in zip(values, leaves, strict=True)))
    term = PQLoss(global_weight=0, threshold=0.5, ignore_label=label)(logits, target)
    total = PQLoss(None, threshold=0.5, ignore_label=label)(logits, target)
    assert total.item() == pytest.approx((values[1] + term).item(), abs=1e-6)


@pytest.mark.parametrize("make", MODULES)
def test_every_loss_works_without_arguments(make, case):
    logits, target = case
    value = make()(logits.requires_grad_(), target)
    value.backward()
    assert value.isfinite() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("make", MODULES)
def test_a_batch_of_0_is_0(make):
    logits = torch.zeros(0, 2, 8, 8, requires_grad=True)
    value = make()(logits, torch.zeros(0, 1, 8, 8))
    value.backward()
    assert value.item() == 0 and logits.grad.shape == (0, 2, 8, 8)


@pytest.mark.parametrize("name", TERMS + OVER_CLASSES)
def test_a_term_of_a_batch_of_0_is_0(name):
    x = torch.zeros(0, 2, 8, 8, requires_grad=True)
    y = torch.zeros(0, 8, 8, dtype=torch.int64) if name in OVER_CLASSES else torch.zeros(0, 2, 8, 8, dtype=torch.bool)
    value = getattr(losses, name)(x, y)
    value.backward()
    assert value.item() == 0


def test_without_batch_each_image_counts_on_its_own(case):
    logits, target = case
    alone = torch.stack([fixed()(logits[b : b + 1], target[b : b + 1]) for b in range(2)])
    for reduction, expected in (("mean", alone.mean()), ("sum", alone.sum()), ("none", alone)):
        value = fixed(batch=False, reduction=reduction)(logits, target)
        torch.testing.assert_close(value, expected)
    assert fixed(batch=False, reduction="none")(logits[:0], target[:0]).shape == (0,)


@pytest.mark.parametrize("weights", [None, (0.5, 0.3, 0)])
def test_lists_of_outputs(weights):
    target = (torch.rand(1, 1, 64, 64) < 0.05).to(torch.int16)
    outputs = [torch.randn(1, 2, n, n) for n in (64, 32, 16)]
    targets = [F.interpolate(target.float(), z.shape[2:]).to(torch.int16) for z in outputs]
    loss = DICILoss(global_weight=0, threshold=0.5, ds_weights=weights)
    expected = 0.0
    for w, z, y, size in zip(weights or (4 / 7, 2 / 7, 1 / 7), outputs, targets, (7, 3, 3), strict=True):
        p = z.softmax(1)[:, 1:]
        rest = DICILoss(global_weight=0, center_weight=0, threshold=0.5)(z, y)
        expected += w * (rest + center_loss(p, y == 1, size=size)).item()  # cubes shrink with the scale
    assert loss(outputs, targets).item() == pytest.approx(expected, abs=1e-5)
    assert loss(outputs, target).item() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match=r"the same length\. Got: 2, 3, "):
        loss(outputs[:2], targets)


def test_metatensors(case):
    logits, target = case
    expected = ICILoss(threshold=0.5)(logits, target).item()
    leaf = logits.clone().requires_grad_()
    value = ICILoss(threshold=0.5)(MetaTensor(leaf), MetaTensor(target))
    value.backward()
    assert type(value) is torch.Tensor and value.item() == pytest.approx(expected) and leaf.grad.abs().sum() > 0
    prob = logits.softmax(1)[:, 1:]
    hot = one_hot(target)[:, 1:].bool()
    assert instance_loss(MetaTensor(prob), MetaTensor(hot)).item() == pytest.approx(instance_loss(prob, hot).item())


# --- without nnU-Net ---


@pytest.fixture(scope="module")
def without_nnunet(tmp_path_factory) -> dict[str, str]:
    """The environment variables of an installation without nnU-Net: every other package, as a folder of links."""
    folder = tmp_path_factory.mktemp("packages")
    for packages in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}:
        for path in Path(packages).iterdir():
            if not path.name.lower().startswith(("nnunet", "__pycache__")) and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}


CODE = """
import importlib.util, sys, torch
assert importlib.util.find_spec("nnunetv2") is None
from nnunet_ici import losses
import nnunet_ici.instances, nnunet_ici.settings
target = torch.zeros(1, 1, 12, 12)
target[0, 0, 2:5, 2:5] = 1
for name in sys.argv[1:]:
    assert getattr(losses, name)()(torch.randn(1, 2, 12, 12), target).isfinite(), name
    print(name)
unwanted = {"SimpleITK", "jinja2", "matplotlib", "monai", "nibabel", "pandas", "skimage", "sklearn"}
assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
"""


def test_all_losses_work_without_nnunet(without_nnunet):
    # -S: no site-packages, so that the folder of links is all there is.
    names = [make.__name__ for make in MODULES]
    command = [sys.executable, "-S", "-c", CODE, *names]
    run = subprocess.run(command, env=without_nnunet, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == names


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom_without_nnunet(without_nnunet):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    run = subprocess.run([sys.executable, "-S", "-c", code], env=without_nnunet, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    start, end = map(float, re.findall(r"loss: ([\d.-]+) at the start, ([\d.-]+) at the end", run.stdout)[0])
    assert end < start - 0.5
