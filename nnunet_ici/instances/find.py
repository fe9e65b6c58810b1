"""The instances of a mini-batch, found with Triton kernels or plain torch depending on device and dtype."""

from __future__ import annotations

import torch

from nnunet_ici.instances.kernels import kernel_status, or_in_torch
from nnunet_ici.instances.parts import Instances
from nnunet_ici.instances.source import Source
from nnunet_ici.instances.table import TableInstances

__all__ = ["find_instances", "uses_kernels"]


def find_instances(source: Source, threshold: float) -> Instances:
    """Find the instances of label and prediction, with differentiable sums of the probability over them.

    Args:
        source: probabilities or logits, and a target.
        threshold: threshold of the predicted instances, the components of ``p >= threshold``; above 1 there are none.

    Returns:
        The instances, found by the Triton kernels if :func:`uses_kernels` is True. Values and gradients are
        deterministic: they do not depend on the order in which a device adds numbers.
    """

    def in_torch() -> Instances:
        return TableInstances(source, threshold)

    def by_kernels() -> Instances:
        from nnunet_ici.instances._triton_find import TritonInstances

        return TritonInstances(source, threshold)

    return or_in_torch(source.x.device, by_kernels, in_torch) if uses_kernels(source) else in_torch()


def uses_kernels(source: Source) -> bool:
    """Whether the Triton kernels process a source: not empty, float16, bfloat16 or float32, on CUDA where they run."""
    x = source.x
    fits = x.is_cuda and x.dtype in (torch.float16, torch.bfloat16, torch.float32) and x.numel() > 0
    return fits and kernel_status(x.device).runs
