"""Counts and sums over instances that lie on several ranks of a distributed training."""

from __future__ import annotations

from torch import Tensor
from torch import distributed as dist

from nnunet_ici.instances.segments import widest_float

__all__ = ["divisors", "sum_over_ranks"]


def divisors(counts: Tensor, over_ranks: bool) -> Tensor:
    """What sums over instances are divided by for a mean: at least 1, float64 (float32 on MPS).

    Args:
        counts: integers of any shape, the instances on this rank.
        over_ranks: add those of all ranks of the default process group, and divide by the number of ranks: the mean
            over ranks of the results is then the mean over all instances. Every rank has to call.
    """
    counts = counts.to(widest_float(counts.device))
    if not over_ranks:
        return counts.clamp(min=1)
    dist.all_reduce(counts)
    return counts.clamp(min=1) / dist.get_world_size()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of values over all ranks of the default process group, each of which has to call.

    The gradient by the values of this rank is multiplied by the number of ranks. A loss that every rank computes from
    such sums, with gradients averaged over the ranks as DistributedDataParallel does, then teaches what one process
    would on the joined batch.

    Args:
        values: floating point, of the same shape on every rank.
    """
    total = values.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (values - values.detach())
