"""The table of label and predicted instances: which touch, how large, where, and the sum of p in every part of them.

Every voxel of an instance lies in exactly one cell (n, m): inside label instance n (0: none) and inside predicted
instance m (0: none). All that the losses ask for is a sum over cells, so the voxels are visited once, and the cost
grows with them, not with the number of instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_ici.instances.components import label_components

__all__ = ["InstanceTable", "cell_sums", "find_instances", "flat_nonzero", "segment_sum", "widest_float"]


@dataclass(frozen=True)
class InstanceTable:
    """Label instances 1..Z and predicted instances 1..M of N images, and the cells in which they meet.

    Attributes:
        shape: (N, *spatial).
        voxels: int64 (K,), flat index of each voxel that lies in an instance, ascending.
        cells: int32 (K,), the cell of each of these voxels.
        cell_label: int64 (L,), label instance of each cell, 1..Z, or 0.
        cell_pred: int64 (L,), predicted instance of each cell, 1..M, or 0. First come the Z cells (n, 0), then the M
            cells (0, m), both also where they hold no voxel, then one cell for each pair that shares a voxel.
        label_image: int64 (Z,), the image each label instance lies in.
        pred_image: int64 (M,), the image each predicted instance lies in.
    """

    shape: torch.Size
    voxels: Tensor
    cells: Tensor
    cell_label: Tensor
    cell_pred: Tensor
    label_image: Tensor
    pred_image: Tensor

    @property
    def pair_label(self) -> Tensor:
        """int64 (T,): the label instance of each touching pair."""
        return self.cell_label[len(self.label_image) + len(self.pred_image) :]

    @property
    def pair_pred(self) -> Tensor:
        """int64 (T,): the predicted instance of each touching pair."""
        return self.cell_pred[len(self.label_image) + len(self.pred_image) :]

    @cached_property
    def cell_size(self) -> Tensor:
        """int64 (L,): voxels of each cell."""
        return torch.bincount(self.cells, minlength=len(self.cell_label))

    @cached_property
    def label_size(self) -> Tensor:
        """int64 (Z,): voxels of each label instance."""
        return self.sum_by_label(self.cell_size)

    @cached_property
    def pred_size(self) -> Tensor:
        """int64 (M,): voxels of each predicted instance."""
        return self.sum_by_pred(self.cell_size)

    @cached_property
    def label_is_hit(self) -> Tensor:
        """bool (Z,): whether a predicted instance touches the label instance."""
        return _flag(self.pair_label, len(self.label_image))

    @cached_property
    def pred_is_hit(self) -> Tensor:
        """bool (M,): whether the predicted instance touches a label instance."""
        return _flag(self.pair_pred, len(self.pred_image))

    @cached_property
    def _cell_coordinate_sums(self) -> Tensor:
        """int64 (L, axes): sum of the voxel coordinates of each cell."""
        *outer, width = self.shape[1:]
        row = torch.div(self.voxels, max(width, 1), rounding_mode="floor")
        column = self.voxels - row * width
        # The other coordinates depend on the row alone: looked up in a table of rows. Where their sums fit into 31
        # bits, two share an integer, and so a pass.
        grid = torch.meshgrid(*(torch.arange(n, device=row.device) for n in (self.shape[0], *outer)), indexing="ij")
        by_row = [coordinate.reshape(-1) for coordinate in grid[1:]]
        packed = len(by_row) == 2 and self.shape[1:].numel() * max(outer) < 2**31
        if packed:
            by_row = [by_row[0] * 2**32 + by_row[1]]
        values = [*(coordinate.index_select(0, row) for coordinate in by_row), column]
        sums = [segment_sum(value, self.cells, len(self.cell_label)) for value in values]
        if packed:
            sums = [sums[0] >> 32, sums[0] & (2**32 - 1), sums[1]]
        return torch.stack(sums, dim=1)

    @cached_property
    def label_center(self) -> Tensor:
        """int64 (Z, axes): ``floor(mean + 0.5)`` of the coordinates of each label instance, exactly."""
        return _rounded_mean(self.sum_by_label(self._cell_coordinate_sums), self.label_size)

    @cached_property
    def pred_center(self) -> Tensor:
        """int64 (M, axes): ``floor(mean + 0.5)`` of the coordinates of each predicted instance, exactly."""
        return _rounded_mean(self.sum_by_pred(self._cell_coordinate_sums), self.pred_size)

    def sum_by_label(self, per_cell: Tensor) -> Tensor:
        """Sums (Z, ...) over the cells of each label instance, of values (L, ...)."""
        return segment_sum(per_cell, self.cell_label, len(self.label_image) + 1)[1:]

    def sum_by_pred(self, per_cell: Tensor) -> Tensor:
        """Sums (M, ...) over the cells of each predicted instance, of values (L, ...)."""
        return segment_sum(per_cell, self.cell_pred, len(self.pred_image) + 1)[1:]


@torch.no_grad()
def find_instances(target: Tensor, predicted: Tensor) -> InstanceTable:
    """Label both masks and make the table of their instances. Nothing here is differentiable.

    Args:
        target: bool (N, *spatial), 2D or 3D, the label.
        predicted: bool, the same shape, the thresholded prediction.

    Returns:
        The table; without any instance, one of no cells.
    """
    label_ids, label_counts = label_components(target)
    pred_ids, pred_counts = label_components(predicted)
    voxels = flat_nonzero(target | predicted)
    # Where the voxels of each image begin; voxels are in ascending order.
    starts = torch.arange(len(target) + 1, device=target.device) * target[:1].numel()
    slices = torch.searchsorted(voxels, starts).tolist()
    label = _batch_ids(label_ids, label_counts, voxels, slices)
    pred = _batch_ids(pred_ids, pred_counts, voxels, slices)
    images = torch.arange(len(target), device=target.device)
    label_image = images.repeat_interleave(label_counts)
    pred_image = images.repeat_interleave(pred_counts)
    labels, preds = len(label_image), len(pred_image)

    # Cells (n, 0) and (0, m) are numbered by their instance, the touching pairs after them. Neighbouring voxels mostly
    # share their pair: dropping repeats first leaves little to sort.
    cells = torch.where(pred == 0, label - 1, pred + (labels - 1))
    overlap = flat_nonzero((label > 0) & (pred > 0))
    key = label[overlap].to(torch.int64) * (preds + 1) + pred[overlap]
    runs, run_of_voxel = torch.unique_consecutive(key, return_inverse=True)
    pairs, pair_of_run = torch.unique(runs, return_inverse=True)
    cells[overlap] = (labels + preds + pair_of_run).to(torch.int32)[run_of_voxel]

    label_range = torch.arange(1, labels + 1, device=target.device)
    pred_range = torch.arange(1, preds + 1, device=target.device)
    return InstanceTable(
        shape=target.shape,
        voxels=voxels,
        cells=cells,
        cell_label=torch.cat([label_range, torch.zeros_like(pred_range), pairs // (preds + 1)]),
        cell_pred=torch.cat([torch.zeros_like(label_range), pred_range, pairs % (preds + 1)]),
        label_image=label_image,
        pred_image=pred_image,
    )


def cell_sums(prob: Tensor, table: InstanceTable) -> tuple[Tensor, Tensor]:
    """Sum the probabilities in each cell, differentiably.

    Args:
        prob: float32 or float64, any shape with as many elements as the table's images.
        table: the table.

    Returns:
        The sums (L,), in float64 (float32 on MPS, which has no other), and ``0 * sum(prob)``, a scalar of the same
        dtype: it keeps the graph alive where there is no instance, and carries a NaN wherever it lies.
    """
    sums, zero = _CellSums.apply(prob, table.voxels, table.cells, len(table.cell_label))
    return sums, zero


class _CellSums(torch.autograd.Function):
    """Forward: one sum per cell. Backward: every voxel gets the gradient of its cell, one gather."""

    @staticmethod
    def forward(ctx: Any, prob: Tensor, voxels: Tensor, cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(voxels, cells)
        ctx.shape, ctx.dtype = prob.shape, prob.dtype
        wide = widest_float(prob.device)
        inside = prob.reshape(-1).index_select(0, voxels).to(wide)
        return segment_sum(inside, cells, cell_count), 0 * prob.sum().to(wide)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        voxels, cells = ctx.saved_tensors
        of_cell = grads[0].to(ctx.dtype)
        grad = of_cell.new_zeros(ctx.shape.numel())
        grad.index_copy_(0, voxels, of_cell.index_select(0, cells))
        return grad.reshape(ctx.shape), None, None, None


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype of sums over many voxels: float64, or float32 on MPS, which has no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def flat_nonzero(mask: Tensor) -> Tensor:
    """int64 (K,): the flat indices of the True elements, ascending."""
    if mask.device.type == "cpu":  # several times faster than torch.nonzero there
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask.reshape(-1)).squeeze(1)


def segment_sum(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """Sums (count, ...) of values (K, ...) over the integer segments (K,) they belong to, 0 for an empty one."""
    return values.new_zeros((count, *values.shape[1:])).index_add(0, segments, values)


def _batch_ids(ids: Tensor, counts: Tensor, voxels: Tensor, slices: list[int]) -> Tensor:
    """The ids at the voxels, int32 (K,), counted on from image to image; those of image b begin at slices[b]."""
    inside = ids.reshape(-1).index_select(0, voxels)
    first = (counts.cumsum(0) - counts).to(torch.int32)
    for b in range(1, len(counts)):
        of_image = inside[slices[b] : slices[b + 1]]
        of_image += first[b] * (of_image > 0)
    return inside


def _flag(instances: Tensor, count: int) -> Tensor:
    """bool (count,): whether each instance 1..count is named in ``instances``."""
    flags = torch.zeros(count + 1, dtype=torch.bool, device=instances.device)
    flags[instances] = True
    return flags[1:]


def _rounded_mean(sums: Tensor, sizes: Tensor) -> Tensor:
    """``floor(sum / size + 0.5)`` in integers; sums (I, axes), sizes (I,)."""
    return torch.div(2 * sums + sizes[:, None], 2 * sizes[:, None], rounding_mode="floor")
