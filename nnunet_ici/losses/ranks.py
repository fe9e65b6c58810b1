"""Counts and sums over the instances of all ranks of a distributed training."""

from __future__ import annotations

from torch import Tensor
from torch import distributed as dist

from nnunet_ici.instances.segments import widest_float

__all__ = ["divisors", "sum_over_ranks"]


def divisors(counts: Tensor, over_ranks: bool) -> Tensor:
    """Divisors that turn sums over instances into means.

    Args:
        counts: numbers of instances on this rank, integers of any shape.
        over_ranks: whether to add the counts of all ranks of the default process group and divide by the number of
            ranks, so that the average over the ranks is the mean over all instances. Every rank must then call.

    Returns:
        float64 (float32 on MPS), same shape as ``counts``. A total count of 0 is treated as 1.
    """
    counts = counts.to(widest_float(counts.device))
    if not over_ranks:
        return counts.clamp(min=1)
    dist.all_reduce(counts)
    return counts.clamp(min=1) / dist.get_world_size()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum of values over all ranks of the default process group. Every rank must call.

    The gradient with respect to the values of this rank is multiplied by the number of ranks. If every rank computes a
    loss from such sums and DistributedDataParallel averages the gradients, the result equals that of one process on the
    joint batch.

    Args:
        values: floating point, same shape on every rank.

    Returns:
        The sum, same shape and dtype as ``values``, differentiable.
    """
    total = values.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (values - values.detach())
