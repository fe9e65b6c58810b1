"""torch.compile around the losses: the same values, and no new graph when the number of instances changes."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from nnunet_ici.losses import CenterLoss, DICILoss, InstanceLoss, PredictedInstanceLoss, instance_loss


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batches(rng, sizes=(0, 1, 3, 40, 7, 0, 90)):
    """Logits and labels with very different numbers of instances."""
    for n in sizes:
        target = torch.zeros(2, 1, 32, 32, dtype=torch.int16)
        target.view(-1)[torch.from_numpy(rng.integers(0, target.numel(), n))] = 1
        logits = (
            torch.from_numpy(rng.standard_normal((2, 2, 32, 32)).astype("float32"))
            + torch.tensor([0.5, 0.0])[:, None, None]
        )
        yield logits.requires_grad_(), target


def test_a_compiled_compound_is_not_recompiled(rng):
    def global_loss(z, y):
        return torch.nn.functional.cross_entropy(z, y[:, 0].long())

    loss, plain = (DICILoss(global_loss, threshold=0.5) for _ in range(2))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss, backend=counter)
    graphs = []
    for logits, target in batches(rng):
        value = compiled(logits, target)
        value.backward()
        grad, logits.grad = logits.grad, None
        expected = plain(logits, target)
        expected.backward()
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(grad, logits.grad)
        graphs.append(counter.frame_count)
    assert graphs[0] >= 1  # the global loss is in a graph
    assert graphs[-1] == graphs[0], graphs
    assert loss.record.take() == pytest.approx(plain.record.take())


@pytest.mark.parametrize("term", [InstanceLoss(), PredictedInstanceLoss(), CenterLoss()])
def test_compiled_modules(term, rng):
    counter = CompileCounterWithBackend("aot_eager")
    network = torch.nn.Conv2d(2, 1, 1)
    step = torch.compile(lambda z, y: term(network(z).sigmoid(), y == 1), backend=counter)
    graphs = []
    for logits, target in batches(rng):
        assert step(logits, target).item() == pytest.approx(
            term(network(logits).sigmoid(), target == 1).item(), abs=1e-6
        )
        graphs.append(counter.frame_count)
    assert graphs[-1] == graphs[0] >= 1, graphs


def test_a_compiled_function(rng):
    step = torch.compile(lambda z, y: instance_loss(z[:, 1:].sigmoid(), y == 1), backend="aot_eager")
    for logits, target in batches(rng, (0, 5)):
        assert step(logits, target).item() == pytest.approx(instance_loss(logits[:, 1:].sigmoid(), target == 1).item())
