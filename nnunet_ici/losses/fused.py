"""The three terms in one function on CUDA, from network outputs to their gradient, without a table of voxels.

Forward: one pass tells foreground from background and starts the runs; runs are joined and numbered; the numbers of
instances are read back, the only synchronisation; one pass sums over instances, one takes each touching pair once, one
computes loss and derivatives of every instance; cubes are drawn in ascending order of their value and counted.
Backward: the derivative by p is a constant of the instances a voxel lies in, so one pass gathers it and applies the
chain rule.

All sums are of integers: values and gradients are the same at every run, with or without
``torch.use_deterministic_algorithms``. Formulas: :func:`~nnunet_ici.losses.instance_loss`,
:func:`~nnunet_ici.losses.predicted_instance_loss` and :func:`~nnunet_ici.losses.center_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.components import HAS_TRITON
from nnunet_ici.instances.cubes import half_widths

__all__ = ["TERMS", "FusedInput", "FusedSettings", "fused_terms", "is_fused"]

TERMS = ("instance", "predicted", "center")


@dataclass(frozen=True)
class FusedInput:
    """What the terms are computed from.

    Attributes:
        x: float16, bfloat16 or float32: probabilities or logits (B, F, *spatial), or logits (B, F + 1, *spatial) for a
            softmax with the background as channel 0.
        target: labels (B, 1, *spatial), 1..F, of any integer or floating-point dtype; or, with ``by_class``, bool or
            0/1 (B, F, *spatial), or (B, F + 1, *spatial) with the ignored voxels last.
        activation: "none", "sigmoid" or "softmax".
        by_class: whether the target has a channel for each class.
        mask: bool (B, 1, *spatial), True = counts, or None.
        ignore_label: of label targets, or None.
    """

    x: Tensor
    target: Tensor
    activation: str
    by_class: bool
    mask: Tensor | None = None
    ignore_label: int | None = None

    @property
    def classes(self) -> int:
        """F, without the background."""
        return self.x.shape[1] - (self.activation == "softmax")


@dataclass(frozen=True)
class FusedSettings:
    """Settings of the terms, as those of the functions of the same names.

    Attributes:
        center: whether the center term is wanted; the other two cost nothing on top of each other.
        over_ranks: count instances and images over all ranks of a distributed training, each of which has to call.
    """

    exclude_other_instances: bool = True
    smooth: float = 1e-5
    size: int | Sequence[int] = 7
    reference_shape: Sequence[int] | None = None
    center: bool = True
    over_ranks: bool = False

    def halves(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Half widths of the cubes in images of a shape."""
        return half_widths(self.size, shape, self.reference_shape)


def is_fused(x: Tensor, settings: FusedSettings) -> bool:
    """Whether :func:`fused_terms` takes a tensor: on CUDA, with Triton, in single or half precision, not empty, and
    with cubes that can be counted in 21 bits."""
    return (
        HAS_TRITON
        and x.is_cuda
        and x.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and x.numel() > 0
        and math.prod(2 * half + 1 for half in settings.halves(x.shape[2:])) < 2**21
    )


def fused_terms(given: FusedInput, threshold: float, settings: FusedSettings) -> tuple[Tensor, Tensor]:
    """The instance, the predicted and the center term, differentiable by ``given.x``.

    Args:
        given: outputs and target; :func:`is_fused` must hold.
        threshold: predicted instances are the components of ``p >= threshold``.
        settings: of the terms.

    Returns:
        float32 (3,): the terms, in the order of :data:`TERMS`, each averaged over its instances (center: images) and
        the classes; 0 for a center term that was not wanted. NaN if there is a NaN among p.
        int64 (4,): label, missed, predicted and false instances of the batch.
    """
    with torch.cuda.device_of(given.x):
        values, counts = _FusedTerms.apply(given.x, given, threshold, settings)
    return values, counts


class _FusedTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, given: FusedInput, threshold: float, settings: FusedSettings
    ) -> tuple[Tensor, Tensor]:
        from nnunet_ici.losses import _triton_launch as launch

        found = launch.find(given, threshold)
        launch.measure(found, settings)
        if settings.center:
            launch.draw(found, settings)
        values, counts = launch.values(found, settings)
        ctx.found, ctx.settings = found, settings
        ctx.mark_non_differentiable(counts)
        return values, counts

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        from nnunet_ici.losses import _triton_launch as launch

        with torch.cuda.device_of(grad):
            return launch.gradient(ctx.found, ctx.settings, grad.contiguous().float()), None, None, None
