"""Instances and sums over them on CUDA: buffers, grids and launches of the Triton kernels.

The steps are:

1. One pass over the network outputs separates foreground from background and finds the run starts.
2. Runs are joined, and components are numbered.
3. The numbers of instances are copied to the host, which is the only host synchronization.
4. One pass measures the instances and lists where overlaps begin; another removes repeated pairs.
5. One pass sums each voxel map.

All voxels of an instance part share one gradient, so the backward of a sum is a single gather pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_ici.instances import _triton_cubes as cubes
from nnunet_ici.instances import _triton_label as labelling
from nnunet_ici.instances import _triton_sums as sums
from nnunet_ici.instances._triton_grid import BLOCK, Grid
from nnunet_ici.instances._triton_outputs import MODES, classify_kernel, gradient_kernel
from nnunet_ici.instances._triton_rest import sum_parts
from nnunet_ici.instances.cubes import rounded_mean
from nnunet_ici.instances.kernels import or_in_torch
from nnunet_ici.instances.parts import Instances, PartSums
from nnunet_ici.instances.source import Source, activate

__all__ = ["TritonInstances"]

LANES = 256  # candidates per program
PROB_UNIT = 2.0**32  # scale of integer sums of probabilities: 2^31 voxels of value 1 fit into 63 bits
MAP_UNIT = 2.0**24  # scale for other voxel maps: 2^31 voxels of value 100 fit


@dataclass(frozen=True, eq=False)
class _Labelled:
    """The labeled images in the layout of the kernels: Z label and M predicted instances in N images of S voxels.

    Attributes:
        grid: grid of the programs.
        classes: number of classes F.
        bits: uint8 (N, S), sum of 1 on the label and 2 in the prediction.
        parent: int32 (2, N, S), numbered by :func:`~nnunet_ici.instances._triton_label.number_roots`.
        labels, preds: numbers of instances Z and M.
    """

    grid: Grid
    classes: int
    bits: Tensor
    parent: Tensor
    labels: int
    preds: int

    def table(self, rows: int) -> tuple[Tensor, Tensor]:
        """Zero tables for label and predicted instances, int64 (rows, Z + 1) and (rows, M + 1)."""
        counts = (self.labels + 1, self.preds + 1)
        label, pred = self.bits.new_zeros(rows * sum(counts), dtype=torch.int64).split([rows * n for n in counts])
        return label.reshape(rows, -1), pred.reshape(rows, -1)

    def sum_parts(self, values: Tensor) -> tuple[Tensor, ...]:
        """Sums of a voxel map (B, F, *spatial) in plain torch, in case a kernel fails after the labeling."""
        return sum_parts(values, self.bits, self.parent, self.labels, self.preds)


class TritonInstances(Instances):
    """The instances of a source on CUDA.

    Args:
        source: probabilities or logits, and a target, for which :func:`~nnunet_ici.instances.find.uses_kernels` is
            True.
        threshold: threshold of the predicted instances, the components of ``p >= threshold``; above 1 there are none.
        block: voxels per tile, a power of 2.
    """

    def __init__(self, source: Source, threshold: float, block: int = BLOCK) -> None:
        self.source = source
        with torch.cuda.device_of(source.x), torch.no_grad():
            end, nan, candidates = self._label(threshold, block)
            self._measure(end, candidates)
        *parts, self.zero = _Sums.apply(source.x, self._labelled, source.activation, PROB_UNIT, nan)
        self.prob = PartSums(*parts)

    def _label(self, threshold: float, block: int) -> tuple[Tensor, Tensor, int]:
        """Find the foreground, label it, and copy the numbers of instances to the host.

        Returns:
            int64 (3, N, tiles) from :func:`~nnunet_ici.instances._triton_label.number_roots`; int32 (1,), 1 if any
            probability is NaN; and the number of voxels at which an overlap begins.
        """
        source = self.source
        x, target = source.x.contiguous(), source.target.contiguous()
        images, *spatial = source.images
        grid = Grid(images, tuple(spatial), block)
        bits = torch.empty((images, grid.voxels), dtype=torch.uint8, device=x.device)
        parent = torch.empty((2, *bits.shape), dtype=torch.int32, device=x.device)
        nan = torch.zeros(1, dtype=torch.int32, device=x.device)
        mask = None if source.mask is None else source.mask.contiguous().view(torch.uint8)
        classify_kernel[(len(x) * grid.tiles,)](
            x,
            target.view(torch.uint8) if target.dtype == torch.bool else target,
            bits if mask is None else mask,
            bits,
            parent,
            nan,
            threshold,
            -1 if source.ignore_label is None else source.ignore_label,
            images,
            **grid.options,
            MODE=MODES[source.activation],
            CLASSES=source.classes,
            BY_CLASS=source.by_class,
            TARGETS=target.shape[1],
            HAS_MASK=mask is not None,
            HAS_IGNORE=source.ignore_label is not None,
        )
        end = labelling.number_roots(bits, parent, grid, masks=2, per_image=False)
        last = end[:, -1, -1]
        labels, preds, candidates = last.diff(prepend=last.new_zeros(1)).tolist()  # host synchronization
        self._labelled = _Labelled(grid, source.classes, bits, parent, labels, preds)
        return end, nan, candidates

    def _measure(self, end: Tensor, candidates: int) -> None:
        """Compute sizes, coordinate sums and images of the instances, and the pairs that touch."""
        found = self._labelled
        grid, device = found.grid, found.bits.device
        self._label_table, self._pred_table = found.table(sums.IMAGE.value + 1)
        pairs = torch.empty((2, candidates), dtype=torch.int32, device=device)
        if found.labels + found.preds:
            sums.measure_kernel[(grid.images * grid.tiles,)](
                found.bits,
                found.parent,
                end,
                self._label_table,
                self._pred_table,
                pairs,
                found.labels,
                found.preds,
                candidates,
                grid.images,
                **grid.options,
                NDIM=len(grid.shape),
            )
        if candidates:
            capacity = triton.next_power_of_2(2 * candidates + 1)
            seen = torch.zeros(capacity + 1, dtype=torch.int64, device=device)
            grid_of_pairs = (triton.cdiv(candidates, LANES),)
            sums.pairs_kernel[grid_of_pairs](pairs, seen, found.preds, candidates, capacity, LANES=LANES)
        self.pair_label, self.pair_pred = pairs
        self.label_image, self.pred_image = self._rows(sums.IMAGE.value)
        self.voxels = PartSums(*(table[row, 1:] for table in (self._label_table, self._pred_table) for row in range(2)))

    def _rows(self, row: int) -> tuple[Tensor, Tensor]:
        return self._label_table[row, 1:], self._pred_table[row, 1:]

    def sums(self, values: Tensor) -> PartSums:
        nan = torch.zeros(1, dtype=torch.int32, device=values.device)
        return PartSums(*_Sums.apply(values, self._labelled, "none", MAP_UNIT, nan)[:4])

    @cached_property
    def label_center(self) -> Tensor:
        return self._center(self._label_table)

    @cached_property
    def pred_center(self) -> Tensor:
        return self._center(self._pred_table)

    def _center(self, table: Tensor) -> Tensor:
        first = sums.COORDINATE.value
        axes = len(self._labelled.grid.shape)
        return rounded_mean(table[first : first + axes, 1:].T, table[sums.WHOLE.value, 1:])

    def cover_counts(self, order: Tensor, halves: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        if prod(2 * half + 1 for half in halves) > cubes.LARGEST_CUBE:
            return super().cover_counts(order, halves)

        def by_kernels() -> tuple[Tensor, Tensor, Tensor]:
            with torch.cuda.device_of(order):
                return cubes.cover_counts(self.source.images, self.label_cubes, self.pred_cubes, order, halves)

        return or_in_torch(order.device, by_kernels, lambda: super(TritonInstances, self).cover_counts(order, halves))


class _Sums(torch.autograd.Function):
    """Sums of x in the order of :class:`PartSums`, float64; and a scalar that is NaN if ``nan`` is set, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, found: _Labelled, activation: str, unit: float, nan: Tensor) -> tuple[Tensor, ...]:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.found, ctx.activation = found, activation
        parts = or_in_torch(
            x.device, lambda: _sum_parts(x, found, activation, unit), lambda: found.sum_parts(activate(x, activation))
        )
        return *parts, torch.where(nan[0] > 0, torch.nan, 0.0).double()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (x,), found, activation = ctx.saved_tensors, ctx.found, ctx.activation

        def in_torch() -> Tensor:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (grad,) = torch.autograd.grad(found.sum_parts(activate(leaf, activation)), leaf, grads[:4])
            return grad

        grad = or_in_torch(x.device, lambda: _gradient(x, found, activation, grads), in_torch)
        return grad, None, None, None, None


def _sum_parts(x: Tensor, found: _Labelled, activation: str, unit: float) -> tuple[Tensor, ...]:
    label, pred = found.table(2)
    if found.labels + found.preds:
        with torch.cuda.device_of(x):
            sums.sums_kernel[(found.grid.images * found.grid.tiles,)](
                x,
                found.bits,
                found.parent,
                label,
                pred,
                found.labels,
                found.preds,
                found.grid.images,
                **found.grid.options,
                MODE=MODES[activation],
                CLASSES=found.classes,
                UNIT=unit,
            )
    of_label, of_pred = (table[:, 1:].double() / unit for table in (label, pred))
    return of_label[0], of_label[1], of_pred[0], of_pred[1]


def _gradient(x: Tensor, found: _Labelled, activation: str, grads: Sequence[Tensor]) -> Tensor:
    if found.labels + found.preds == 0:
        return torch.zeros_like(x)
    by_label, by_pred = (
        torch.nn.functional.pad(torch.stack(list(pair)).float(), (1, 0)) for pair in (grads[:2], grads[2:4])
    )
    grad = torch.empty_like(x)
    with torch.cuda.device_of(x):
        gradient_kernel[(len(x) * found.grid.tiles,)](
            x,
            found.bits,
            found.parent,
            by_label,
            by_pred,
            grad,
            found.labels,
            found.preds,
            found.grid.images,
            **found.grid.options,
            MODE=MODES[activation],
            CLASSES=found.classes,
        )
    return grad
