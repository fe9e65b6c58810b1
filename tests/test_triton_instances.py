"""Instances by the Triton kernels, through the public functions: against the naive loops, and against plain torch.

Without a GPU they run in Triton's interpreter, see NNUNET_ICI_KERNELS.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from nnunet_ici.instances import Source, components, find_instances, kernels, segments
from nnunet_ici.instances.table import is_hit
from nnunet_ici.losses import BlobLoss, DICILoss, ICILoss, LesionWiseLoss, PQLoss
from tests import terms
from tests.launches import Launches
from tests.terms import in_2d_and_3d, random_case, tensors

pytestmark = pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed")
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
SHAPE = (5, 6, 10)
# The proximity compares boxes, in plain torch.
TERMS = {name: term for name, term in terms.TERMS.items() if name != "proximity"}
UPSTREAM = dict(zip(TERMS, (1.7, 0.6, 1.3, 0.9, 1.1, 0.8), strict=True))


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    """The kernels run wherever there is no GPU, in several tiles even for the small images of these tests."""
    if not ON_GPU:
        from nnunet_ici.instances import _triton_grid

        monkeypatch.setenv(kernels.VARIABLE, "interpret")
        monkeypatch.setattr(_triton_grid, "TILE", 256)


@contextmanager
def plain_torch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kernels.VARIABLE, "off")
        patch.setattr(kernels, "_statuses", {})
        yield


def by_kernels(source, threshold=0.5, **options):
    assert kernels.uses_kernels(source.x)
    return find_instances(source, threshold, **options)


def in_torch(source, threshold=0.5, **options):
    with plain_torch():
        return find_instances(source, threshold, **options)


def assert_close(actual, expected, rel=1e-5):
    scale = expected.abs().max().item() if expected.numel() else 0
    torch.testing.assert_close(actual.cpu().double(), expected.cpu().double(), rtol=0, atol=rel * scale + 1e-12)


def on_device(*given):
    return [None if tensor is None else tensor.to(DEVICE) for tensor in given]


@in_2d_and_3d
@pytest.mark.parametrize("seed", range(6))
def test_values_are_those_of_the_loops_and_gradients_those_of_plain_torch(axes, seed):
    rng = np.random.default_rng(seed)
    prob, target, mask = random_case(rng, axes, binary=seed % 4 == 0)
    prob = prob.astype(np.float32)
    threshold = float(rng.choice([0.3, 0.5, 0.7]))
    p, y, counts = tensors(prob, target, mask)
    leaf, exact = p.to(DEVICE).requires_grad_(), p.double().requires_grad_()
    assert kernels.uses_kernels(leaf)
    values, expected = {}, {}
    for name, (loss, _, naive) in TERMS.items():
        options = {"exclude_other_instances": seed % 3 > 0} if name in ("instance", "lesionwise", "pq") else {}
        values[name] = loss(leaf, *on_device(y, counts), threshold=threshold, **options)
        assert values[name].item() == pytest.approx(naive(prob, target, mask, threshold, **options), abs=1e-6), name
        with plain_torch():
            expected[name] = loss(exact, y, counts, threshold=threshold, **options)
    # Which of several cubes of equal values owns a voxel is free, and with it the gradient of the center term.
    kept = [name for name in TERMS if name != "center" or seed % 4]
    grads = (
        torch.autograd.grad(sum(UPSTREAM[name] * of[name] for name in kept), x)[0]
        for of, x in ((values, leaf), (expected, exact))
    )
    assert_close(*grads)


def rows(table, side, hit):
    """The instances of a side, sorted: image, integers, sums, and what they touch."""
    touched = table.over_preds if side is table.label else table.over_labels
    other = table.pred if side is table.label else table.label
    image = torch.arange(side.voxels.shape[0] * side.voxels.shape[1]).repeat_interleave(side.voxels.shape[2])
    columns = [image.to(DEVICE), side.voxels, side.part_voxels, hit, touched(other.voxels.float())]
    columns += [part.detach() for part in side[2:] if part is not None]
    flat = torch.stack([column.reshape(-1).double() for column in columns], 1).cpu()
    unused = flat[flat[:, 1] == 0]
    assert (unused[:, 2:] == 0).all()
    return sorted(flat[flat[:, 1] > 0].tolist())


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (7, 1), (1, 9), (2, 2), (5, 7), (1, 1, 1), (5, 7, 3), (1, 6, 5), (4, 1, 1), (2, 2, 2), (3, 11, 8)],
)
def test_everything_the_table_has_on_odd_shapes(shape, rng):
    for density in (0.05, 0.3, 0.7):
        prob = torch.from_numpy(rng.random((2, 2, *shape), np.float32))
        target, mask = tensors(rng.random(prob.shape) < density, rng.random((2, 1, *shape)) < 0.9)
        options = {"halves": [1] * len(shape), "inner": "bce"}
        found = by_kernels(Source.of_prob(*on_device(prob, target, mask)), 1 - density, **options)
        expected = in_torch(Source.of_prob(prob, target, mask), 1 - density, **options)
        for side, of_torch, hit, hit_of_torch in zip(
            found[:2], expected[:2], is_hit(found), is_hit(expected), strict=True
        ):
            np.testing.assert_allclose(
                rows(found, side, hit), rows(expected, of_torch, hit_of_torch), rtol=1e-5, atol=1e-6
            )
        pairs = torch.stack([found.pair_label, found.pair_pred], 1)[found.pair_used]
        assert len(pairs.unique(dim=0)) == len(pairs) == len(expected.pair_label)
        assert (found.pair_label[~found.pair_used] == 0).all() and (found.pair_pred[~found.pair_used] == 0).all()
        assert torch.equal(found.cover.size.cpu(), expected.cover.size)
        # Which of several cubes of equal values owns a voxel is free.
        elsewhere, inside, of_torch, in_torch_too = (
            sum(int(counts.sum()) for counts in cover[first:4:2])
            for cover in (found.cover, expected.cover)
            for first in (0, 1)
        )
        assert (elsewhere, inside) == (of_torch, in_torch_too)


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
        truth = labels == np.arange(classes).reshape(1, -1, *[1] * len(shape))
    logits = torch.from_numpy(2.5 * truth + rng.standard_normal(truth.shape)).to(dtype)
    return logits, torch.from_numpy(target), None if form == "regions" else classes


def loss_and_gradient(make, logits, target, ignore_label, **options):
    """The recorded means of a compound loss, and the gradient with respect to the logits."""
    loss = make(lambda z, y: z.float().square().mean(), ignore_label=ignore_label, **options)
    leaf = logits.detach().requires_grad_()
    loss(leaf, target).backward()
    return loss.record.take(), leaf.grad


@pytest.mark.parametrize(
    ("form", "dtype", "shape"),
    [
        ("one class", torch.float16, SHAPE),
        ("one class", torch.float32, (17, 21)),
        ("three classes", torch.bfloat16, SHAPE),
        ("three classes", torch.float16, (15, 13)),
        ("regions", torch.float32, SHAPE),
        ("regions", torch.bfloat16, (15, 13)),
    ],
)
def test_logits_and_targets_of_nnunet(form, dtype, shape, rng):
    logits, target, ignore_label = network_case(rng, form, dtype, shape)
    for make in (DICILoss, PQLoss):
        options = {"ignore_label": ignore_label, "threshold": 0.5}
        taken, grad = loss_and_gradient(make, *on_device(logits, target), **options)
        with plain_torch():
            expected, exact = loss_and_gradient(make, logits.double(), target, **options)
        assert taken == pytest.approx(expected, abs=1e-5)
        assert grad.dtype == dtype
        assert_close(grad, exact, rel=2 * torch.finfo(dtype).eps + 1e-5)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (ICILoss, {"inner": "bce"}),
        (DICILoss, {"inner": "focal", "size": (5, 3, 3)}),
        (LesionWiseLoss, {"inner": "dice_ce"}),
        (BlobLoss, {"inner": "bce"}),
    ],
)
@pytest.mark.parametrize("form", ["one class", "three classes"])
def test_other_inner_losses(make, options, form, rng):
    logits, target, ignore_label = network_case(rng, form, torch.float32)
    options = options | {"ignore_label": ignore_label} | ({} if make is BlobLoss else {"threshold": 0.4})
    taken, grad = loss_and_gradient(make, *on_device(logits, target), **options)
    with plain_torch():
        expected, exact = loss_and_gradient(make, logits.double(), target, **options)
    assert taken == pytest.approx(expected, abs=1e-5)
    assert_close(grad, exact, rel=1e-4)


@pytest.mark.parametrize(("step", "halves"), [(2, (0, 1, 0)), (2, (5, 1, 3)), (2, (999, 999, 999)), (5, (1, 1, 1))])
def test_few_cubes_are_drawn_and_many_are_spread(step, halves):
    prob = torch.zeros(1, 1, 10, 9, 11)
    centers = prob[..., ::step, ::step, ::step]
    centers.copy_(torch.linspace(0.5, 1, centers.numel()).reshape(centers.shape))
    target = torch.zeros_like(prob, dtype=torch.bool)
    target[..., 4, 4, 4] = target[..., 9, 3, 3] = target[..., 9, 0, 7] = True
    options = {"halves": halves, "threshold": 0.5}
    found = by_kernels(Source.of_prob(*on_device(prob, target)), **options)
    expected = in_torch(Source.of_prob(prob, target), **options)
    assert torch.equal(found.cover.size.cpu(), expected.cover.size)
    voxels = []
    for table in (found, expected):
        false = ~is_hit(table)[1].cpu() & (table.pred.voxels.cpu() > 0)
        # Every false instance has a value of its own. Which of those that touch a label owns a voxel is free.
        counts = [count.cpu() for count in table.cover[2:4]]
        of_false = [*(count[false].tolist() for count in (table.pred.prob.cpu(), *counts))]
        of_hit = [int(count[~false].sum()) for count in counts]
        voxels.append((sorted(zip(*of_false, strict=True)), of_hit))
    assert voxels[0] == voxels[1] and voxels[0][0]


def test_the_same_bits_at_every_run_also_where_torch_must_be_deterministic(rng):
    logits, target, ignore_label = network_case(rng, "three classes", torch.float32)
    runs = []
    torch.use_deterministic_algorithms(True)
    try:
        for threshold in (0.5, 0.5, 0.4):
            options = {"ignore_label": ignore_label, "threshold": threshold}
            runs.append(loss_and_gradient(DICILoss, *on_device(logits, target), **options))
    finally:
        torch.use_deterministic_algorithms(False)
    same = [values == runs[0][0] and torch.equal(grad, runs[0][1]) for values, grad in runs]
    assert same == [True, True, False]


def test_nothing_to_find_is_zero_with_a_live_graph():
    leaf = torch.full((2, 1, 6, 7), 0.2, device=DEVICE, requires_grad=True)
    target = torch.zeros_like(leaf, dtype=torch.bool)
    values = [loss(leaf, target, threshold=0.5) for loss, *_ in TERMS.values()]
    assert all(value == 0 for value in values)
    assert torch.equal(torch.autograd.grad(sum(values), leaf)[0].cpu(), torch.zeros(2, 1, 6, 7))


def test_nan_anywhere_makes_every_term_nan():
    for at in ((0, 0, 0, 0), (0, 1, 4, 5)):
        prob = torch.zeros(1, 2, 5, 6, device=DEVICE)
        prob[at] = float("nan")
        assert all(loss(prob, prob > 1).isnan() for loss, *_ in TERMS.values())


def training_case():
    target = torch.zeros(1, 1, 12, 20, 20, dtype=torch.int16)
    target[..., 3:6, 3:6, 3:6] = target[..., 8, 12, 12] = 1
    logits = torch.stack([torch.zeros(1, 12, 20, 20), 4.0 * target[:, 0] - 2], 1)
    logits[:, 1, 8, 12, 12], logits[:, 1, 8, 4, 4] = -1, 3  # a missed and a false one
    return logits, target


@pytest.mark.skipif(ON_GPU, reason="the interpreter counts")
def test_launches_of_the_tables_and_of_the_cubes():
    logits, target = training_case()
    source = Source.of_network(logits.requires_grad_(), target, None)
    with Launches() as launches:
        table = find_instances(source, 0.5)
        forward = len(launches.names)
        torch.autograd.grad(table.label.prob, source.x, torch.ones_like(table.label.prob))
        backward = len(launches.names)
        find_instances(source, 0.5, halves=[3, 3, 3])
    print(launches.names)
    assert (forward, backward - forward) == (7, 2)  # and the ones
    assert len(launches.names) - backward - forward == 6
    assert table.label.prob[table.label.voxels > 0].numel() == 2


@pytest.mark.skipif(not ON_GPU, reason="no GPU")
@pytest.mark.parametrize("make", [ICILoss, DICILoss, LesionWiseLoss, PQLoss, BlobLoss])
def test_a_cuda_graph_captures_a_step_without_waiting(make, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "false")
    logits, target = (given.to(DEVICE) for given in training_case())
    loss = make(lambda z, y: z.square().mean(), **({} if make is BlobLoss else {"threshold": 0.5}))
    expected = loss_and_gradient(make, logits, target, None, **({} if make is BlobLoss else {"threshold": 0.5}))[1]
    leaf = logits.clone().requires_grad_()

    def step():
        leaf.grad = None
        loss(leaf, target).backward()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    graph.replay()
    assert torch.equal(leaf.grad, expected)


def test_where_they_are_used(monkeypatch):
    x = torch.zeros(1, 2, 8, 8, device=DEVICE)
    assert kernels.uses_kernels(x) and kernels.uses_kernels(x.half())
    assert not kernels.uses_kernels(x.double()) and not kernels.uses_kernels(x[:0])
    with plain_torch():
        assert not kernels.uses_kernels(x)
    assert find_instances(Source.of_prob(x.double(), x > 0), 0.5).pair_used is None


def test_batches_too_large_for_int32_are_refused():
    from nnunet_ici.instances._triton_grid import Grid

    with pytest.raises(ValueError, match=r"fewer than 2\^31 - 2\^26 voxels\. Got: \(2048, 1024, 1024\)"):
        Grid(1, (2048, 1024, 1024))
    with pytest.raises(ValueError, match=r"fewer than 2\^28 blocks .*\. Got: 4 images of \(1024, 1024, 1024\) voxels"):
        Grid(4, (1024, 1024, 1024))


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
