"""Instances and sums by the Triton kernels: the terms against the naive loops, and against those from the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunet_ici.losses.found import FoundInstances
from torch.utils._python_dispatch import _disable_current_modes

from nnunet_ici.instances import KernelStatus, Source, components, find_instances, segments
from nnunet_ici.instances import find as finding
from nnunet_ici.instances.table import TableInstances
from nnunet_ici.losses import BlobLoss, DICILoss, LesionWiseLoss, PQLoss
from nnunet_ici.settings import TermSettings
from tests.launches import Launches
from tests.terms import TERMS, random_case, tensors

pytestmark = pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = tuple(TERMS)
TERMS_OF_DICI = ("instance", "predicted", "center")
SHAPE = (5, 6, 10)
TILE = {} if DEVICE == "cuda" else {"block": 256}  # an image of this shape has two tiles; the interpreter is slow
UPSTREAM = dict(zip(NAMES, (1.7, 0.6, 1.3, 0.9, 1.1), strict=True))


def by_kernels(source, threshold, **options):
    from nnunet_ici.instances._triton_find import TritonInstances

    return TritonInstances(source, threshold, **options)


def terms(instances, names=NAMES, **settings):
    """The terms by name, from instances already found."""
    found = FoundInstances(instances)
    return {name: TERMS[name][1].term(found, TermSettings(**settings)) for name in names}


def gradient(leaf, values):
    (grad,) = torch.autograd.grad(sum(UPSTREAM[name] * value for name, value in values.items()), leaf)
    return grad.cpu()


def assert_close(actual, expected, rel=1e-5):
    scale = expected.abs().max().item() if expected.numel() else 0
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=rel * scale + 1e-12)


def assert_equal_terms(actual, expected, abs=2e-6):
    assert {name: value.item() for name, value in actual.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, abs=abs
    )


def on_device(*given):
    return [None if tensor is None else tensor.to(DEVICE) for tensor in given]


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_values_are_those_of_the_loops_and_gradients_those_of_the_table(axes, seed):
    rng = np.random.default_rng(seed)
    prob, target, mask = random_case(rng, axes, binary=seed % 4 == 0)
    prob = prob.astype(np.float32)
    threshold, exclude = float(rng.choice([0.3, 0.5, 0.7])), seed % 3 > 0
    p, y, counts = tensors(prob, target, mask)
    leaf, on_y, on_counts = on_device(p, y, counts)
    instances = by_kernels(Source.of_prob(leaf.requires_grad_(), on_y, on_counts), threshold)
    values = terms(instances, exclude_other_instances=exclude)
    for name, value in values.items():
        options = {"exclude_other_instances": exclude} if name not in ("predicted", "center") else {}
        expected = TERMS[name][2](prob, target, mask, threshold, **options)
        assert value.item() == pytest.approx(expected, abs=1e-6), name

    exact = p.double().requires_grad_()
    table = TableInstances(Source.of_prob(exact, y, counts), threshold)
    assert instances.counts.tolist() == table.counts.tolist()
    assert_close(gradient(leaf, values), gradient(exact, terms(table, exclude_other_instances=exclude)))


@pytest.mark.parametrize("axes", [2, 3])
def test_everything_the_table_has(axes, rng):
    """Parts, centers, images, and each touching pair once, in any order."""
    for _ in range(6):
        prob, target, mask = random_case(rng, axes)
        given = tensors(prob.astype(np.float32), target, mask)
        table = TableInstances(Source.of_prob(*given), 0.5)
        kernels = by_kernels(Source.of_prob(*on_device(*given)), 0.5)
        # Ids differ, because those of the kernels follow tiles. Instances are matched by their own values.
        order = []
        for instances in (table, kernels):
            image, size = instances.label_image[:, None], instances.voxels.label[:, None]
            rows = torch.cat([image, instances.label_center, size], 1)
            order.append(sorted(rows.tolist()))
        assert order[0] == order[1]
        kept = kernels.pair_label > 0
        assert (kernels.pair_pred > 0).equal(kept)
        pairs = torch.stack([kernels.pair_label, kernels.pair_pred], 1)[kept]
        assert len(pairs.unique(dim=0)) == len(pairs) == len(table.pair_label)


def network_case(rng, form, dtype, shape=SHAPE):
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


def network_sources(rng, form, dtype, shape=SHAPE):
    """A case of nnU-Net as the kernels get it, and in float64 for the table."""
    logits, target, ignore_label = network_case(rng, form, dtype, shape)
    if shape[0] == 1:
        logits, target = logits[:, :, 0], target[:, :, 0]
    leaf, exact = logits.to(DEVICE).requires_grad_(), logits.double().requires_grad_()
    return (
        Source.of_network(leaf, target.to(DEVICE), ignore_label),
        Source.of_network(exact, target, ignore_label),
    )


@pytest.mark.parametrize("form", ["one class", "three classes", "regions"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_logits_and_targets_of_nnunet(form, dtype, rng):
    source, exact = network_sources(rng, form, dtype)
    values, expected = terms(by_kernels(source, 0.5, **TILE)), terms(TableInstances(exact, 0.5))
    assert all(value.dtype == torch.float32 for value in values.values())
    assert_equal_terms(values, expected)
    grad = gradient(source.x, values)
    assert grad.dtype == dtype
    assert_close(grad, gradient(exact.x, expected), rel=2 * torch.finfo(dtype).eps + 1e-5)


@pytest.mark.parametrize("inner", ["bce", "focal", "dice_ce"])
@pytest.mark.parametrize("form", ["one class", "three classes"])
def test_inner_losses_are_sums_of_another_voxel_map(inner, form, rng):
    source, exact = network_sources(rng, form, torch.float32)
    names = ("instance", "predicted", "lesionwise")
    values, expected = (
        terms(found, names, inner=inner) for found in (by_kernels(source, 0.4, **TILE), TableInstances(exact, 0.4))
    )
    assert_equal_terms(values, expected, abs=1e-5)
    assert_close(gradient(source.x, values), gradient(exact.x, expected), rel=1e-4)


def test_two_dimensional_logits_and_small_cubes(rng):
    source, exact = network_sources(rng, "one class", torch.float32, (1, 30, 40))
    values, expected = (terms(f, size=(5, 3)) for f in (by_kernels(source, 0.4), TableInstances(exact, 0.4)))
    assert_equal_terms(values, expected)
    assert_close(gradient(source.x, values), gradient(exact.x, expected))


@pytest.mark.parametrize("size", [11, 1999])
def test_so_many_cubes_that_they_are_spread_and_cubes_too_large_to_count(size):
    prob = torch.zeros(1, 1, 12, 12, 12)
    prob[..., ::2, ::2, ::2] = torch.linspace(0.5, 1, 216).reshape(6, 6, 6)
    target = torch.zeros_like(prob, dtype=torch.bool)
    target[..., 4, 4, 4] = target[..., 9, 9, 9] = True
    leaf, exact = prob.to(DEVICE).requires_grad_(), prob.double().requires_grad_()
    values = terms(by_kernels(Source.of_prob(leaf, target.to(DEVICE)), 0.5), size=size)
    expected = terms(TableInstances(Source.of_prob(exact, target), 0.5), size=size)
    assert_equal_terms(values, expected, abs=1e-6)
    assert_close(gradient(leaf, values), gradient(exact, expected))


def test_the_same_bits_at_every_run_also_where_torch_must_be_deterministic(rng):
    form = "three classes" if DEVICE == "cuda" else "one class"  # the interpreter runs programs in order
    logits, target, ignore_label = network_case(rng, form, torch.float32)
    runs = []
    torch.use_deterministic_algorithms(True)
    try:
        for threshold in (0.5, 0.5, 0.5, 0.4):
            source = Source.of_network(logits.to(DEVICE).requires_grad_(), target.to(DEVICE), ignore_label)
            values = terms(by_kernels(source, threshold, **TILE))
            runs.append((torch.stack(list(values.values())).detach().cpu(), gradient(source.x, values)))
    finally:
        torch.use_deterministic_algorithms(False)
    same = [torch.equal(values, runs[0][0]) and torch.equal(grad, runs[0][1]) for values, grad in runs]
    assert same == [True, True, True, False]


def test_nothing_to_find_is_zero_with_a_live_graph():
    leaf = torch.full((2, 1, 6, 7), 0.2, device=DEVICE, requires_grad=True)
    target = torch.zeros_like(leaf, dtype=torch.bool)
    instances = by_kernels(Source.of_prob(leaf, target), 0.5)
    values = terms(instances)
    assert all(value == 0 for value in values.values()) and instances.counts.tolist() == [0, 0, 0, 0]
    assert torch.equal(gradient(leaf, values), torch.zeros(2, 1, 6, 7))


def test_nan_anywhere_makes_every_term_nan():
    for channel in range(2):
        logits = torch.zeros(1, 2, 5, 6, device=DEVICE)
        logits[0, channel, 4, 5] = float("nan")
        target = torch.zeros(1, 1, 5, 6, dtype=torch.int16, device=DEVICE)
        assert all(v.isnan() for v in terms(by_kernels(Source.of_network(logits, target, None), 0.5)).values())


@pytest.fixture
def launches(monkeypatch):
    """Makes a mode that lists launches of torch and of Triton; reading a tensor back is a wait, too."""
    from triton.runtime.interpreter import InterpretedFunction

    active = []
    run, tolist = InterpretedFunction.run, torch.Tensor.tolist

    def counted_run(self, *args, **kwargs):
        active[-1].names.append(self.fn.__name__)
        with _disable_current_modes():
            return run(self, *args, **kwargs)

    def counted_tolist(self):
        active[-1].waits.append("tolist")
        return tolist(self)

    monkeypatch.setattr(InterpretedFunction, "run", counted_run)
    monkeypatch.setattr(torch.Tensor, "tolist", counted_tolist)

    def make():
        active.append(Launches())
        return active[-1]

    return make


@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter counts")
@pytest.mark.parametrize(
    ("names", "most"),
    [
        (("instance", "center"), (142, 62)),
        (TERMS_OF_DICI, (164, 83)),
        (("lesionwise",), (86, 52)),
        (("pq",), (100, 63)),
    ],
)
def test_one_read_back_and_few_launches(names, most, launches, monkeypatch):
    """As on CUDA, where sums over instances are of integers. scripts/benchmarks/NOTES.md has these numbers."""
    target = torch.zeros(1, 1, 20, 20, 20, dtype=torch.int16)
    target[..., 3:6, 3:6, 3:6] = target[..., 12, 12, 12] = 1
    logits = torch.stack([torch.zeros(1, 20, 20, 20), 4.0 * target[:, 0] - 2], 1)
    logits[:, 1, 12, 12, 12], logits[:, 1, 12, 4, 4] = -1, 3  # a missed and a false one
    source = Source.of_network(logits.requires_grad_(), target, None)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    with launches() as forward:
        total = sum(terms(by_kernels(source, 0.5), names).values())
    with launches() as backward:
        torch.autograd.grad(total, source.x)
    print(names, len(forward.names), len(backward.names))
    assert forward.waits == ["tolist"] and backward.waits == []
    assert len(forward.names) <= most[0] and len(backward.names) <= most[1]


@pytest.mark.parametrize("make", [DICILoss, LesionWiseLoss, PQLoss, BlobLoss])
def test_compounds_take_the_kernels(make, rng, monkeypatch):
    logits, target, ignore_label = network_case(rng, "one class", torch.float32)
    options = {} if make is BlobLoss else {"threshold": 0.5}
    taken, grads = [], []
    for kernels in (False, True):
        monkeypatch.setattr(finding, "uses_kernels", lambda source, kernels=kernels: kernels)
        loss = make(lambda z, y: z.square().mean(), ignore_label=ignore_label, **options)
        leaf = logits.to(DEVICE).requires_grad_()
        loss(leaf, target.to(DEVICE)).backward()
        grads.append(leaf.grad.cpu())
        taken.append(loss.record.take())
    assert taken[1] == pytest.approx(taken[0], abs=1e-6)
    assert_close(grads[1], grads[0])


def test_where_they_are_used(monkeypatch):
    def used(x):
        return finding.uses_kernels(Source.of_network(x, torch.zeros(len(x), 1, 8, 8), None))

    x = torch.zeros(1, 2, 8, 8)
    assert not used(x)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    monkeypatch.setattr(finding, "kernel_status", lambda device: KernelStatus(False, "for a test"))
    assert not used(x)
    monkeypatch.setattr(finding, "kernel_status", lambda device: KernelStatus(True, "for a test"))
    assert used(x) and used(x.half())
    assert not used(x.double())
    assert not used(x[:0])


@pytest.mark.parametrize("scale", [0, 1e-30, 1, 1e6])
def test_sums_on_cuda_are_of_integers(scale, rng, monkeypatch):
    """The branch of segment_sum for CUDA: as exact as float64, for values of any size."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    values = torch.from_numpy(scale * rng.standard_normal((100_000, 2))).requires_grad_()
    at = torch.from_numpy(rng.integers(0, 7, 100_000))
    expected = torch.zeros(9, 2, dtype=torch.float64).index_add(0, at, values.detach())
    sums = segments.segment_sum(values, at, 9)
    assert_close(sums, expected, rel=1e-9)
    shuffled = torch.randperm(len(at))
    assert torch.equal(segments.segment_sum(values[shuffled], at[shuffled], 9), sums)
    sums[:, 0].sum().backward()
    assert torch.equal(values.grad, torch.tensor([1.0, 0.0], dtype=torch.float64).expand(100_000, 2))
    nan = values.detach().clone()
    nan[0, 0] = float("nan")
    assert segments.segment_sum(nan, at, 9).isnan().any()


def test_the_instances_of_the_device(rng):
    prob, target, _ = random_case(rng, 2)
    assert isinstance(find_instances(Source.of_prob(*tensors(prob, target)), 0.5), TableInstances)
