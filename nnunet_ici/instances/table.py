"""Instances and sums over them in plain torch, on any device and in any floating-point dtype.

Every voxel of an instance belongs to exactly one cell (n, m): it lies in label instance n (0: none) and in predicted
instance m (0: none). Voxels are summed per cell, once, and all other sums are sums over cells. The cost therefore
grows with the number of voxels, not with the number of instances.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.components import label_components
from nnunet_ici.instances.cubes import rounded_mean
from nnunet_ici.instances.parts import Instances, PartSums
from nnunet_ici.instances.segments import flat_nonzero, segment_sum, widest_float
from nnunet_ici.instances.source import Source

__all__ = ["TableInstances", "sum_by_region"]


class TableInstances(Instances):
    """The instances of a source, found and summed in plain torch.

    Cells are numbered in this order: the Z cells (n, 0) and the M cells (0, m), including empty ones, then one cell for
    each pair that shares a voxel.

    Args:
        source: probabilities or logits, and a target.
        threshold: threshold of the predicted instances, the components of ``p >= threshold``; above 1 there are none.
    """

    def __init__(self, source: Source, threshold: float) -> None:
        self.source = source
        with torch.no_grad():
            predicted = source.prob >= threshold
            if source.counted is not None:
                predicted &= source.counted
            self._find(source.label.flatten(0, 1), predicted.flatten(0, 1))
            self.voxels = self._parts(torch.bincount(self._cells, minlength=self._cell_count))
        sums, self.zero = _CellSums.apply(source.prob, self._voxels, self._cells, self._cell_count)
        self.prob = self._parts(sums)

    def _find(self, label: Tensor, predicted: Tensor) -> None:
        """Label both masks, bool (N, *spatial), and assign every foreground voxel to a cell."""
        label_ids, label_counts = label_components(label)
        pred_ids, pred_counts = label_components(predicted)
        voxels = flat_nonzero(label | predicted)
        # The first foreground voxel of each image; voxels are in ascending order.
        starts = torch.arange(len(label) + 1, device=label.device) * label[:1].numel()
        slices = torch.searchsorted(voxels, starts).tolist()
        of_label = _batch_ids(label_ids, label_counts, voxels, slices)
        of_pred = _batch_ids(pred_ids, pred_counts, voxels, slices)
        images = torch.arange(len(label), device=label.device)
        self.label_image = images.repeat_interleave(label_counts)
        self.pred_image = images.repeat_interleave(pred_counts)
        labels, preds = len(self.label_image), len(self.pred_image)

        # Neighboring voxels mostly belong to the same pair: unique_consecutive leaves few keys to sort.
        cells = torch.where(of_pred == 0, of_label - 1, of_pred + (labels - 1))
        overlap = flat_nonzero((of_label > 0) & (of_pred > 0))
        key = of_label[overlap].to(torch.int64) * (preds + 1) + of_pred[overlap]
        runs, run_of_voxel = torch.unique_consecutive(key, return_inverse=True)
        pairs, pair_of_run = torch.unique(runs, return_inverse=True)
        cells[overlap] = (labels + preds + pair_of_run).to(torch.int32)[run_of_voxel]
        self.pair_label, self.pair_pred = pairs // (preds + 1), pairs % (preds + 1)
        self._voxels, self._cells = voxels, cells  # int64 (K,) ascending flat indices, int32 (K,)
        self._cell_count = labels + preds + len(pairs)

    def _parts(self, per_cell: Tensor) -> PartSums:
        """Sums over instances and their parts from sums (L, ...) over cells."""
        labels, preds = len(self.label_image), len(self.pred_image)
        label_only, pred_only, pairs = per_cell.split([labels, preds, len(self.pair_label)])
        overlap = segment_sum(pairs, self.pair_label - 1, labels)
        shared = segment_sum(pairs, self.pair_pred - 1, preds)
        return PartSums(label_only + overlap, overlap, pred_only + shared, pred_only)

    def sums(self, values: Tensor) -> PartSums:
        sums, _ = _CellSums.apply(values, self._voxels, self._cells, self._cell_count)
        return self._parts(sums)

    @cached_property
    def _coordinates(self) -> PartSums:
        """Sums of the voxel coordinates, int64 (..., axes)."""
        images, *outer, width = self.source.images
        row = torch.div(self._voxels, max(width, 1), rounding_mode="floor")
        column = self._voxels - row * width
        # The other coordinates depend on the row only and are looked up in a table of rows. If their sums fit into 31
        # bits, both are packed into one integer, which saves a pass.
        grid = torch.meshgrid(*(torch.arange(n, device=row.device) for n in (images, *outer)), indexing="ij")
        by_row = [coordinate.reshape(-1) for coordinate in grid[1:]]
        packed = len(by_row) == 2 and outer[0] * outer[1] * width * max(outer) < 2**31
        if packed:
            by_row = [by_row[0] * 2**32 + by_row[1]]
        values = [*(coordinate.index_select(0, row) for coordinate in by_row), column]
        sums = [segment_sum(value, self._cells, self._cell_count) for value in values]
        if packed:
            sums = [sums[0] >> 32, sums[0] & (2**32 - 1), sums[1]]
        return self._parts(torch.stack(sums, dim=1))

    @cached_property
    def label_center(self) -> Tensor:
        return rounded_mean(self._coordinates.label, self.voxels.label)

    @cached_property
    def pred_center(self) -> Tensor:
        return rounded_mean(self._coordinates.pred, self.voxels.pred)


def sum_by_region(values: Tensor, regions: Tensor, count: int, voxels: Tensor | None = None) -> Tensor:
    """Sum a voxel map over regions.

    Args:
        values: float32 or float64, any shape.
        regions: int (K,), region of each voxel, 0..count - 1.
        count: number of regions.
        voxels: int64 (K,), unique flat indices of the voxels to sum; None for all voxels of the map.

    Returns:
        float64 (float32 on MPS) (count,), differentiable; 0 for an empty region.
    """
    if voxels is None:
        return segment_sum(values.reshape(-1).to(widest_float(values.device)), regions, count)
    sums: Tensor = _CellSums.apply(values, voxels, regions, count)[0]
    return sums


class _CellSums(torch.autograd.Function):
    """Sums per cell, and 0 * sum(values). The backward gathers the gradient of its cell for every voxel."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, voxels: Tensor, cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(voxels, cells)
        ctx.shape, ctx.dtype = values.shape, values.dtype
        wide = widest_float(values.device)
        inside = values.reshape(-1).index_select(0, voxels).to(wide)
        return segment_sum(inside, cells, cell_count), 0 * values.sum().to(wide)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        voxels, cells = ctx.saved_tensors
        of_cell = grads[0].to(ctx.dtype)
        grad = of_cell.new_zeros(ctx.shape.numel())
        grad.index_copy_(0, voxels, of_cell.index_select(0, cells))
        return grad.reshape(ctx.shape), None, None, None


def _batch_ids(ids: Tensor, counts: Tensor, voxels: Tensor, slices: list[int]) -> Tensor:
    """Instance ids at the voxels, numbered consecutively through the batch instead of per image.

    Args:
        ids: int32 (N, *spatial), 1..n within each image.
        counts: int64 (N,), instances in each image.
        voxels: int64 (K,), ascending flat indices.
        slices: index of the first of these voxels in each image, N + 1 values.

    Returns:
        int32 (K,), 0 for background.
    """
    inside = ids.reshape(-1).index_select(0, voxels)
    first = (counts.cumsum(0) - counts).to(torch.int32)
    for b in range(1, len(counts)):
        of_image = inside[slices[b] : slices[b + 1]]
        of_image += first[b] * (of_image > 0)
    return inside
