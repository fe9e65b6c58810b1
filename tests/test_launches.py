"""Guards what a step costs on a GPU: the losses never wait for it, and launch few kernels. Counted without a GPU."""

from __future__ import annotations

import pytest
import torch

from nnunet_ici.instances import Source, find_instances
from nnunet_ici.instances.pairs import add_pairs
from nnunet_ici.losses import BlobLoss, DICILoss, ICILoss, LesionWiseLoss, PQLoss, compute, terms
from nnunet_ici.settings import TermSettings
from tests.launches import Launches

LOSSES = {
    "ICI": ICILoss,
    "DICI": DICILoss,
    "Dual": lambda *args, **options: DICILoss(*args, center_weight=0, **options),
    "LesionWise": LesionWiseLoss,
    "PQ": PQLoss,
    "blob": BlobLoss,
}
TERMS = {"ICI": ("instance", "center"), "DICI": ("instance", "predicted", "center"), "PQ": ("pq",)}
LIMITS = {"ICI": 60, "DICI": 80, "PQ": 80}


@pytest.fixture
def interpreted(monkeypatch):
    monkeypatch.setenv("NNUNET_ICI_KERNELS", "interpret")


def batch():
    target = (torch.rand(2, 1, 12, 12, 12) < 0.05).to(torch.int16)
    return torch.randn(2, 2, 12, 12, 12).requires_grad_(), target


def nothing(net_output, target):
    return net_output.new_zeros(())


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_made_of_instances_waits_for_the_gpu(name, interpreted):
    options = {} if name == "blob" else {"threshold": 0.5}
    loss, (logits, target) = LOSSES[name](nothing, **options), batch()
    loss(logits, target)  # the first call checks the values of the target
    with Launches() as counted:
        loss(logits, target).backward()
    assert "classify_kernel" in counted.names and logits.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_few_launches(name, interpreted):
    """The operators of the formulas are fused: their number is that of the kernels of the compiled formula."""
    loss, (logits, target) = LOSSES[name](nothing, threshold=0.5), batch()
    loss(logits, target)
    arguments = (TERMS[name], TermSettings(), compute._identity, torch.float32)
    compiled = torch.compile(terms.evaluate, dynamic=True, fullgraph=True)

    def table():
        source = Source.of_network(logits, target, None)
        return find_instances(source, 0.5, halves=(3, 3, 3) if "center" in TERMS[name] else None)

    with Launches() as whole:
        loss(logits, target).backward()
    found = table()
    sums = [side[i] for side in (found.label, found.pred) for i in (2, 3)]
    with Launches() as formula:
        values, _ = terms.evaluate(found, *arguments)
        torch.autograd.grad(sum(values), sums, allow_unused=True)
    formula_names = [n for n in formula.names if n != "pairs_kernel"]
    pair_sums = [n == "pair_sum True" for n in formula_names if n.startswith("pair_sum")]

    torch._inductor.metrics.reset()
    torch._dynamo.reset()
    found = table()
    values, _ = compiled(found, *arguments)
    sum(values).backward()
    fused = torch._inductor.metrics.generated_kernel_count

    label, rows = found.pair_label, found.label.voxels.numel()
    of_pairs = 0
    for is_float in pair_sums:
        x = torch.rand(rows) if is_float else torch.ones(rows, dtype=torch.int32)
        with Launches() as counted, torch.no_grad():
            add_pairs(x, label, label, found.pair_used, rows)
        of_pairs += len(counted.names)
    rest = len([n for n in whole.names if n != "pairs_kernel"]) - len(formula_names)
    print(f"{name}: {rest} outside the formulas, {fused} in them, {of_pairs} for {len(pair_sums)} sums over pairs")
    assert 0 < fused < 25 and rest + fused + of_pairs <= LIMITS[name]
