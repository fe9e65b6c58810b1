"""Sums over the pairs of label and predicted instances that touch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.kernels import uses_kernels
from nnunet_ici.instances.segments import segment_sum

__all__ = ["add_pairs", "pair_sum"]


def add_pairs(values: Tensor, source: Tensor, target: Tensor, used: Tensor | None, rows: int) -> Tensor:
    """For each target row, the sum of the values of the source rows that it touches.

    Differentiable as :func:`pair_sum`, and deterministic on every device, see
    :func:`~nnunet_ici.instances.segments.segment_sum`.

    Args:
        values: (S,), integer or floating point.
        source, target: integer (T,), rows of each pair.
        used: bool (T,), False for entries without a pair, or None.
        rows: number of target rows R.

    Returns:
        (R,), dtype of ``values``.
    """
    if values.is_floating_point() and uses_kernels(values):
        from nnunet_ici.instances._triton_pairs import pair_sum_by_kernel

        return pair_sum_by_kernel(values, source, target, used, rows)
    taken = values.index_select(0, source)
    return segment_sum(taken if used is None else taken * used, target, rows)


# A compiled formula calls it as it is: compilers add floating-point numbers in any order.
pair_sum = torch.library.custom_op("nnunet_ici::pair_sum", add_pairs, mutates_args=())


@pair_sum.register_fake
def _(values: Tensor, source: Tensor, target: Tensor, used: Tensor | None, rows: int) -> Tensor:
    return values.new_empty(rows)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, source, target, used, _ = inputs
    ctx.save_for_backward(source, target, used)
    ctx.rows = values.shape[0]  # symbolic while a formula is compiled


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    source, target, used = ctx.saved_tensors
    return pair_sum(grad.contiguous(), target, source, used, ctx.rows), None, None, None, None


pair_sum.register_autograd(_backward, setup_context=_save)
