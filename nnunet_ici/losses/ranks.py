"""Counts and sums over instances that lie on several ranks of a distributed training."""

from __future__ import annotations

from torch import Tensor
from torch import distributed as dist

from nnunet_ici.instances.segments import widest_float

__all__ = ["divisors", "sum_over_ranks"]


def divisors(counts: Tensor, over_ranks: bool) -> Tensor:
    """Divisors that turn sums over instances into means: at least 1, float64 (float32 on MPS).

    Args:
        counts: integers of any shape, the instances on this rank.
        over_ranks: add the counts of all ranks of the default process group, and divide by the number of ranks. The
            mean of the results over the ranks is then the mean over all instances. Every rank has to call.
    """
    counts = counts.to(widest_float(counts.device))
    if not over_ranks:
        return counts.clamp(min=1)
    dist.all_reduce(counts)
    return counts.clamp(min=1) / dist.get_world_size()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of values over all ranks of the default process group; every rank has to call.

    The gradient with respect to the values of this rank is multiplied by the number of ranks. Where every rank computes
    a loss from such sums, and DistributedDataParallel averages the gradients, the result is that of one process on the
    joined batch.

    Args:
        values: floating point, of the same shape on every rank.
    """
    total = values.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (values - values.detach())
