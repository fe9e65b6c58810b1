"""One way to the instances of a mini-batch, on every device."""

from __future__ import annotations

import torch

from nnunet_ici.instances.kernels import kernel_status, or_in_torch
from nnunet_ici.instances.parts import Instances
from nnunet_ici.instances.source import Source
from nnunet_ici.instances.table import TableInstances

__all__ = ["find_instances", "uses_kernels"]


def find_instances(source: Source, threshold: float) -> Instances:
    """Find the instances of label and prediction, and sum the probability over their parts, differentiably.

    Args:
        source: probabilities or logits, and a target.
        threshold: predicted instances are the components of ``p >= threshold``; above 1 there are none.

    Returns:
        The instances; on CUDA those of the Triton kernels where :func:`uses_kernels` says so. Nothing in them depends
        on the order in which a device adds numbers: values and gradients are the same at every run.
    """

    def in_torch() -> Instances:
        return TableInstances(source, threshold)

    def by_kernels() -> Instances:
        from nnunet_ici.instances._triton_find import TritonInstances

        return TritonInstances(source, threshold)

    return or_in_torch(source.x.device, by_kernels, in_torch) if uses_kernels(source) else in_torch()


def uses_kernels(source: Source) -> bool:
    """Whether the Triton kernels take a source: on CUDA where they run, in single or half precision, and not empty."""
    x = source.x
    fits = x.is_cuda and x.dtype in (torch.float16, torch.bfloat16, torch.float32) and x.numel() > 0
    return fits and kernel_status(x.device).runs
