"""Tables of instances in plain torch, on any device and in any floating-point dtype.

Every voxel of an instance belongs to exactly one cell (n, m): it lies in label instance n (0: none) and in predicted
instance m (0: none). Voxels are summed per cell, once, and all other sums are sums over cells. The cost therefore
grows with the number of voxels, not with the number of instances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnunet_ici.instances.boxes import nearest_tables
from nnunet_ici.instances.components import label_components
from nnunet_ici.instances.cubes import Cubes, cover_counts, rounded_mean
from nnunet_ici.instances.entropy import entropy
from nnunet_ici.instances.segments import flat_nonzero, segment_sum, widest_float
from nnunet_ici.instances.source import Source
from nnunet_ici.instances.table import Cover, Side, Table, is_hit

__all__ = ["Cells", "RankedCubes", "find_in_torch"]


def find_in_torch(
    source: Source, threshold: float | Tensor, inner: str, halves: Sequence[int] | None, boxes: bool = False
) -> Table:
    """As :func:`~nnunet_ici.instances.table.find_instances`, in plain torch."""
    cells = Cells.of(source, threshold)
    table = cells.table(source, inner)
    if boxes:
        with torch.no_grad():
            table = table._replace(nearest=nearest_tables(*cells.corners(), cells.images[2:]))
    if halves is None:
        return table
    with torch.no_grad():
        return table._replace(cover=RankedCubes.of(cells, table).cover(cells, halves))


@dataclass(frozen=True, eq=False)
class Cells:
    """The cell of each foreground voxel.

    Cells are numbered in this order: one for each row of the label table, for the voxels outside all predictions; one
    for each row of the predicted table, for the voxels outside the label; one for each pair that shares a voxel.

    Attributes:
        images: shape of the images, (B, C, *spatial).
        voxels: int64 (V,), ascending flat indices of the foreground voxels of label and prediction.
        cells: int32 (V,), cell of each of these voxels.
        label_shape, pred_shape: shapes (B, C, K) and (B, C, K') of the tables.
        pair_label, pair_pred: int64 (T,), rows of each touching pair in the flat tables.
    """

    images: tuple[int, ...]
    voxels: Tensor
    cells: Tensor
    label_shape: tuple[int, ...]
    pred_shape: tuple[int, ...]
    pair_label: Tensor
    pair_pred: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, source: Source, threshold: float | Tensor) -> Cells:
        """Label both masks of a source, and assign every foreground voxel to a cell."""
        label, predicted = source.label, source.prob >= threshold
        if source.counted is not None:
            predicted &= source.counted
        images = tuple(label.shape)
        label, predicted = label.flatten(0, 1), predicted.flatten(0, 1)
        voxels = flat_nonzero(label | predicted)
        # The first foreground voxel of each image; voxels are in ascending order.
        starts = torch.arange(len(label) + 1, device=label.device) * label[:1].numel()
        slices = torch.searchsorted(voxels, starts).tolist()
        (of_label, labels), (of_pred, preds) = (_rows(mask, voxels, slices) for mask in (label, predicted))
        label_rows, pred_rows = labels * len(label), preds * len(label)

        # Neighboring voxels mostly belong to the same pair: unique_consecutive leaves few keys to sort.
        cells = torch.where(of_pred == 0, of_label - 1, of_pred + (label_rows - 1))
        overlap = flat_nonzero((of_label > 0) & (of_pred > 0))
        key = (of_label[overlap].to(torch.int64) - 1) * pred_rows + of_pred[overlap] - 1
        runs, run_of_voxel = torch.unique_consecutive(key, return_inverse=True)
        pairs, pair_of_run = torch.unique(runs, return_inverse=True)
        cells[overlap] = (label_rows + pred_rows + pair_of_run).to(torch.int32)[run_of_voxel]
        return cls(
            images,
            voxels,
            cells,
            (*images[:2], labels),
            (*images[:2], preds),
            torch.div(pairs, max(pred_rows, 1), rounding_mode="floor"),
            pairs % max(pred_rows, 1),
        )

    @property
    def count(self) -> int:
        """Number of cells."""
        return sum(self._sections)

    @property
    def _sections(self) -> list[int]:
        rows = self.images[0] * self.images[1]
        return [rows * self.label_shape[2], rows * self.pred_shape[2], len(self.pair_label)]

    def parts(self, per_cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sums over label instances, their parts, predicted instances, their parts, from sums over cells.

        Args:
            per_cell: (cells, ...).

        Returns:
            Tables (B, C, K, ...), see :class:`~nnunet_ici.instances.table.Side`.
        """
        labels, preds, _ = self._sections
        label_only, pred_only, pairs = per_cell.split(self._sections)
        overlap = segment_sum(pairs, self.pair_label, labels)
        shared = segment_sum(pairs, self.pair_pred, preds)
        more = per_cell.shape[1:]
        return (
            (label_only + overlap).reshape(*self.label_shape, *more),
            overlap.reshape(*self.label_shape, *more),
            (pred_only + shared).reshape(*self.pred_shape, *more),
            pred_only.reshape(*self.pred_shape, *more),
        )

    def table(self, source: Source, inner: str) -> Table:
        """The tables of sums, without cubes."""
        voxels = self.parts(torch.bincount(self.cells, minlength=self.count))
        sums, zero = _CellSums.apply(source.prob, self.voxels, self.cells, self.count)
        columns = [voxels, self.parts(sums)]
        if inner != "dice":
            of_map, _ = _CellSums.apply(entropy(source.prob, source.label, inner), self.voxels, self.cells, self.count)
            columns.append(self.parts(of_map))
        label, pred = (Side(*(part for column in columns for part in column[first : first + 2])) for first in (0, 2))
        return Table(label, pred, self.pair_label, self.pair_pred, None, zero)

    def coordinates(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sums of the voxel coordinates, int64 (B, C, K, axes) each, in the order of :meth:`parts`."""
        *outer, width = self.images[2:]
        images = self.images[0] * self.images[1]
        row = torch.div(self.voxels, max(width, 1), rounding_mode="floor")
        column = self.voxels - row * width
        # The other coordinates depend on the row only and are looked up in a table of rows. If their sums fit into 31
        # bits, both are packed into one integer, which saves a pass.
        grid = torch.meshgrid(*(torch.arange(n, device=row.device) for n in (images, *outer)), indexing="ij")
        by_row = [coordinate.reshape(-1) for coordinate in grid[1:]]
        packed = len(by_row) == 2 and outer[0] * outer[1] * width * max(outer) < 2**31
        if packed:
            by_row = [by_row[0] * 2**32 + by_row[1]]
        values = [*(coordinate.index_select(0, row) for coordinate in by_row), column]
        sums = [segment_sum(value, self.cells, self.count) for value in values]
        if packed:
            sums = [sums[0] >> 32, sums[0] & (2**32 - 1), sums[1]]
        return self.parts(torch.stack(sums, dim=1))

    def corners(self) -> tuple[Tensor, Tensor]:
        """First and last voxel of each instance, the input of :func:`~nnunet_ici.instances.boxes.nearest_tables`."""
        cells = self.cells.to(torch.int64)
        columns: list[list[Tensor]] = [[], []]
        for sign, axis in product((1, -1), range(2, len(self.images))):
            size, stride = self.images[axis], math.prod(self.images[axis + 1 :])
            coordinate = sign * (torch.div(self.voxels, max(stride, 1), rounding_mode="floor") % max(size, 1))
            # The last voxel is the first one in the opposite direction.
            first = coordinate.new_full((self.count,), size).scatter_reduce(0, cells, coordinate, "amin")
            alone_label, alone_pred, pairs = first.split(self._sections)
            columns[0].append(sign * alone_label.scatter_reduce(0, self.pair_label, pairs, "amin"))
            columns[1].append(sign * alone_pred.scatter_reduce(0, self.pair_pred, pairs, "amin"))
        label, pred = (torch.stack(of_side, 1) for of_side in columns)
        axes = len(self.images) - 2
        return label.reshape(*self.label_shape, 2, axes), pred.reshape(*self.pred_shape, 2, axes)


class RankedCubes(NamedTuple):
    """The center cubes of the instances, label instances first, and their ranks.

    Attributes:
        labels, preds: cubes of the Z label and the M predicted instances, in ascending rows.
        rows: int64 (Z,) and (M,), rows of these instances in the flat tables.
        value: (Z + M,), value of each cube, see :class:`~nnunet_ici.instances.table.Cover`: 0 for a label instance that
            is hit, 1 for a predicted instance that touches a label, otherwise the mean probability.
        order: int64 (Z + M,), the cubes in ascending rank.
    """

    labels: Cubes
    preds: Cubes
    rows: tuple[Tensor, Tensor]
    value: Tensor
    order: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, cells: Cells, table: Table) -> RankedCubes:
        """Locate and rank the cubes of the instances of a table."""
        sums = cells.coordinates()
        cubes, rows, values, keys = [], [], [], []
        for side, hit, coordinates, of_hit in zip(
            (table.label, table.pred), is_hit(table), (sums[0], sums[2]), (0, 1), strict=True
        ):
            voxels = side.voxels.reshape(-1)
            used = flat_nonzero(voxels)
            image = torch.div(used, max(side.voxels.shape[2], 1), rounding_mode="floor")
            center = rounded_mean(coordinates.flatten(0, 2)[used], voxels[used])
            live, fixed = side.prob.detach().reshape(-1)[used] / voxels[used], hit.reshape(-1)[used]
            cubes.append(Cubes(image, center))
            rows.append(used)
            values.append(torch.where(fixed, of_hit, live))
            # Fixed values of 0 and 1 rank below and above all others.
            keys.append(torch.where(fixed, 3 * of_hit - 1, live))
        order = torch.cat(keys).argsort(stable=True)
        return cls(cubes[0], cubes[1], (rows[0], rows[1]), torch.cat(values), order)

    def cover(self, cells: Cells, halves: Sequence[int]) -> Cover:
        """Count the voxels of each cube; ``halves`` are the half widths along each spatial axis."""
        batch, classes, *spatial = cells.images
        counts = cover_counts((batch * classes, *spatial), self.labels, self.preds, self.order, halves)
        elsewhere, inside, in_pred = (torch.empty_like(count).index_copy_(0, self.order, count) for count in counts)
        image = torch.cat([self.labels.image, self.preds.image])
        size = segment_sum(inside + in_pred, image, batch * classes).reshape(batch, classes)
        tables: list[Tensor] = []
        for first, rows, shape in zip(
            (0, len(self.rows[0])), self.rows, (cells.label_shape, cells.pred_shape), strict=True
        ):
            for count in (elsewhere, inside):
                table = count.new_zeros(math.prod(shape))
                tables.append(table.index_copy_(0, rows, count[first : first + len(rows)]).reshape(shape))
        return Cover(*tables, size)  # type: ignore[call-arg]


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


def _rows(mask: Tensor, voxels: Tensor, slices: list[int]) -> tuple[Tensor, int]:
    """Label a mask.

    Args:
        mask: bool (N, *spatial).
        voxels: int64 (V,), ascending flat indices.
        slices: index of the first of these voxels in each image, N + 1 values.

    Returns:
        int32 (V,), 1 + row of the instance of each voxel in a flat table (N, K), 0 for background; and K, the largest
        number of instances of an image.
    """
    ids, counts = label_components(mask)
    rows = int(counts.max()) if len(counts) else 0
    inside = ids.reshape(-1).index_select(0, voxels)
    for image in range(1, len(counts)):
        of_image = inside[slices[image] : slices[image + 1]]
        of_image += image * rows * (of_image > 0)
    return inside, rows
