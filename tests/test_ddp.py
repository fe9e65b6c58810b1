"""Two gloo processes give the losses and gradients of one process on the joined batch."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from nnunet_ici.instances import Source, components
from nnunet_ici.losses import BlobLoss, CATMILLoss, CCDiceCELoss, DICILoss, LesionWiseLoss, PQLoss
from nnunet_ici.losses.found import FoundInstances
from nnunet_ici.settings import TermSettings
from tests.terms import TERMS


def joined_batch(case):
    """Logits and labels of four images with three classes, the instances unevenly spread over ranks and classes."""
    rng = np.random.default_rng(7)
    target = np.zeros((4, 1, 24, 24), np.int16)
    if case != "no instance":
        target[0, 0, 2:5, 2:5], target[0, 0, 10, 10], target[1, 0, 20, 3:9] = 1, 1, 1
    if case == "both ranks":
        target[3, 0, 5:8, 5], target[2, 0, 15, 15] = 1, 2
    logits = rng.standard_normal((4, 3, 24, 24)) + np.array([2, 0, 0]).reshape(1, 3, 1, 1)
    return torch.from_numpy(logits), torch.from_numpy(target)


def losses_for(over_ranks):
    def global_loss(z, y):
        return z.square().mean()

    options = {"over_ranks": over_ranks}
    losses = {
        "dici": DICILoss(global_loss, 0.5, 1, 2, 1.5, threshold=0.5, size=5, **options),
        "drawn": DICILoss(global_loss, **options),
        "focal": DICILoss(global_loss, inner="focal", threshold=0.4, **options),
        "blob": BlobLoss(global_loss, inner="dice_ce", **options),
        "cc": CCDiceCELoss(global_loss, **options),
        "lesionwise": LesionWiseLoss(global_loss, threshold=0.5, false_weight=0.5, **options),
        "pq": PQLoss(global_loss, 0.5, 2, threshold=0.5, **options),
        "catmil": CATMILLoss(global_loss, **options),
    }
    if components.HAS_TRITON:
        from nnunet_ici.instances._triton_find import TritonInstances

        def by_kernels(z, y):
            found = FoundInstances(TritonInstances(Source.of_network(z.float(), y, None), 0.5), over_ranks)
            terms = [module.term(found, TermSettings()) for _, module, _ in TERMS.values()]
            return sum(weight * term for weight, term in enumerate(terms, start=1))

        losses["kernels"] = by_kernels
    return losses


def run_rank(rank, port, case, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TRITON_INTERPRET": "1"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    logits, target = joined_batch(case)
    half = slice(2 * rank, 2 * rank + 2)
    results = {}
    for name, loss in losses_for(True).items():
        leaf = logits[half].clone().requires_grad_()
        value = loss(leaf, target[half])
        value.backward()
        results[name] = (value.item(), leaf.grad.numpy())
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("case", ["both ranks", "first rank only", "no instance"])
def test_two_processes_equal_one(case, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(run_rank, (port, case, tmp_path), nprocs=2)  # raises the error of a rank
    by_rank = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]

    logits, target = joined_batch(case)
    for name, loss in losses_for(False).items():
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        values, grads = zip(*(by_rank[rank][name] for rank in range(2)), strict=True)
        assert np.mean(values) == pytest.approx(value.item(), abs=1e-5), name
        # DDP averages gradients over the ranks; here the gradients of their logits are concatenated.
        joined = np.concatenate(grads) / 2
        np.testing.assert_allclose(joined, leaf.grad.numpy(), atol=1e-5, err_msg=name)
