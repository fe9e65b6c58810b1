"""Two gloo processes give the losses, gradients and means of one process on the joined batch."""

from __future__ import annotations

import os
import socket
from unittest import mock

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from nnunet_ici.instances import components
from nnunet_ici.losses import BlobLoss, CATMILLoss, CCDiceCELoss, DICILoss, InstanceFamilyLoss, LesionWiseLoss, PQLoss
from nnunet_ici.trainers import history

CASES = ("both ranks", "first rank only", "no instance")


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
        "family": InstanceFamilyLoss(global_loss, threshold=0.5, **options),
        "blob": BlobLoss(global_loss, inner="dice_ce", **options),
        "cc": CCDiceCELoss(global_loss, **options),
        "lesionwise": LesionWiseLoss(global_loss, threshold=0.5, false_weight=0.5, **options),
        "pq": PQLoss(global_loss, 0.5, 2, threshold=0.5, **options),
        "catmil": CATMILLoss(global_loss, **options),
    }
    if components.HAS_TRITON:
        by_kernels = [DICILoss(global_loss, threshold=0.5, **options), PQLoss(global_loss, threshold=0.5, **options)]

        def interpreted(z, y):
            with mock.patch.dict(os.environ, NNUNET_ICI_KERNELS="interpret"):
                return sum(loss(z.float(), y) for loss in by_kernels)

        losses["kernels"] = interpreted
    return losses


def values_and_gradients(over_ranks, logits, target):
    """By loss: its value and its gradient with respect to the logits."""
    results = {}
    for name, loss in losses_for(over_ranks).items():
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        results[name] = (value.item(), leaf.grad.numpy())
    return results


def run_rank(rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TRITON_INTERPRET": "1"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    results = {case: values_and_gradients(True, *(part[half] for part in joined_batch(case))) for case in CASES}
    # Only rank 0 computed the second term.
    taken = {"global": 1.0 + rank, "label_instances": 5 + rank} | ({"instance": 0.5} if rank == 0 else {})
    torch.save(results | {"means": history.over_ranks(taken)}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    """The results of both ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(run_rank, (port, folder), nprocs=2)  # raises the error of a rank
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_the_means_of_the_training_log_are_over_both_ranks(by_rank):
    expected = {"global": 1.5, "label_instances": 11, "instance": 0.5}
    assert [results["means"] for results in by_rank] == [expected, expected]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(case, by_rank):
    for name, (value, grad) in values_and_gradients(False, *joined_batch(case)).items():
        values, grads = zip(*(results[case][name] for results in by_rank), strict=True)
        assert np.mean(values) == pytest.approx(value, abs=1e-5), name
        # DDP averages gradients over the ranks; here the gradients of their logits are concatenated.
        np.testing.assert_allclose(np.concatenate(grads) / 2, grad, atol=1e-5, err_msg=name)
