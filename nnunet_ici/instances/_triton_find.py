"""Instances and sums over them on CUDA: buffers and launches of the Triton kernels.

1. One pass over the network outputs separates foreground from background, as bits of the blocks.
2. Blocks that touch are joined.
3. One pass finds the roots, measures the instances, sums the probability over them, and collects the pairs that touch.
4. One pass over the tables converts the sums, and computes the centers.
5. The center cubes are drawn and counted, see :mod:`~nnunet_ici.instances._triton_cubes`.

All voxels of an instance part share one gradient, so the backward of a sum is a single gather pass. The size of every
table follows from the shape of the images: the host waits for nothing, and a CUDA graph can capture all of it.

Memory in bytes per voxel and class, 3D, with two float16 logits. Tables of an int32 have 4 / 8 bytes per voxel.

=====================================  =======  =====  =====  ========
buffer                                 sums     cubes  count  backward
=====================================  =======  =====  =====  ========
bits, parents                             1.25   1.25   1.25      1.25
numbers of voxels, 4 tables                2      2      2         2
pairs: hash table, rows, used              2.5    1.3    1.3       1.3
sums, 4 tables of int64; coordinates, 6    7      -      -         -
sums, 4 tables of float32; centers         3      3      3         2
maps of cubes                              -      8      4         -
voxels of cubes, 4 tables                  -      -      2         2
gradients: 4 tables, logits                -      -      -         6
sum                                       15.8   15.6   13.6      14.6
=====================================  =======  =====  =====  ========
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_ici.instances._triton_cubes import cover_by_kernels
from nnunet_ici.instances._triton_grid import Grid
from nnunet_ici.instances._triton_label import union_kernel
from nnunet_ici.instances._triton_outputs import MODES, classify_kernel, gradient_kernel
from nnunet_ici.instances._triton_sums import finish_kernel, measure_kernel
from nnunet_ici.instances.entropy import entropy
from nnunet_ici.instances.kernels import launching
from nnunet_ici.instances.source import Source
from nnunet_ici.instances.table import Cover, Side, Table

__all__ = ["find_by_kernels"]

PROB_UNIT = 2.0**32  # scale of integer sums of probabilities: 2^31 voxels of value 1 fit into 63 bits
MAP_UNIT = 2.0**24  # scale for other voxel maps: 2^31 voxels of value 100 fit
ROWS = 512  # rows of a table per program


def find_by_kernels(source: Source, threshold: float | Tensor, inner: str, halves: Sequence[int] | None) -> Table:
    """As :func:`~nnunet_ici.instances.table.find_instances`, for a source with at least one voxel.

    Rows are blocks: K = K' is the number of blocks of an image, and an instance has the row of its first block. Sums
    are float32. A threshold tensor must be on the device of the source.
    """
    with launching(source.x.device):
        found = _Found.of(source, threshold)
        *sums, zero, label_rows, pred_rows, used, elsewhere, inside, size = _Measure.apply(
            source.x, found, source.activation, halves
        )
        of_entropy: Sequence[Tensor | None] = [None] * 4
        if inner != "dice":
            of_entropy = _Sum.apply(entropy(source.prob, source.label, inner), found)
    count = found.count
    label, pred = (Side(*count[s : s + 2], *sums[s : s + 2], *of_entropy[s : s + 2]) for s in (0, 2))
    cover = None if halves is None else Cover(elsewhere[0], inside[0], elsewhere[1], inside[1], size)
    return Table(label, pred, label_rows, pred_rows, used, zero, cover)


@dataclass(frozen=True, eq=False)
class _Found:
    """The labeled images in the layout of the kernels.

    Attributes:
        grid: grid of the images.
        shape: shape of a table, (B, C, K).
        bits, parent: uint8 and int32 (2, N, K), see :func:`~nnunet_ici.instances._triton_outputs.classify_kernel`.
        flags: int32 (2,), whether a probability is NaN, and the number of center cubes.
        count: int32 (4, B, C, K), numbers of voxels.
    """

    grid: Grid
    shape: tuple[int, int, int]
    bits: Tensor
    parent: Tensor
    flags: Tensor
    count: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, source: Source, threshold: float | Tensor) -> _Found:
        """Find the foreground and label it."""
        x, target, mask = source.x.contiguous(), source.target.contiguous(), source.mask
        device = x.device
        grid = Grid(source.images[0], source.images[1:])
        shape = (len(x), source.classes, grid.blocks)
        if not isinstance(threshold, Tensor):
            threshold = torch.full((), threshold, device=device)  # torch.tensor would copy from the host
        bits = torch.empty((2, grid.images, grid.blocks), dtype=torch.uint8, device=device)
        parent = torch.empty(bits.shape, dtype=torch.int32, device=device)
        count, flags = torch.zeros(4 * grid.rows + 2, dtype=torch.int32, device=device).split([4 * grid.rows, 2])
        classify_kernel[(len(x) * grid.tiles,)](
            x,
            target.view(torch.uint8) if target.dtype == torch.bool else target,
            bits if mask is None else mask.contiguous().view(torch.uint8),
            threshold.to(device, torch.float32),
            bits,
            parent,
            flags,
            -1 if source.ignore_label is None else source.ignore_label,
            grid.images,
            **grid.options,
            MODE=MODES[source.activation],
            CLASSES=source.classes,
            BY_CLASS=source.by_class,
            TARGETS=target.shape[1],
            HAS_MASK=mask is not None,
            HAS_IGNORE=source.ignore_label is not None,
        )
        union_kernel[(2 * grid.images * grid.tiles,)](bits, parent, **grid.options)
        return cls(grid, shape, bits, parent, flags, count.reshape(4, *shape))

    def sum(
        self,
        x: Tensor,
        activation: str,
        unit: float,
        sums: Tensor,
        coordinates: Tensor | None = None,
        slots: Tensor | None = None,
    ) -> None:
        """Add integer sums of the probability or of another map, and of the coordinates, to zero tables.

        Args:
            x: (B, C, *spatial), or softmax logits (B, C + 1, *spatial).
            activation: see :class:`~nnunet_ici.instances.source.Source`.
            unit: number that is added for the value 1.
            sums, coordinates, slots: see :func:`~nnunet_ici.instances._triton_sums.measure_kernel`. Voxels are counted
                if there are slots.
        """
        measure_kernel[(self.grid.images * self.grid.tiles,)](
            x.contiguous(),
            self.bits,
            self.parent,
            self.count,
            sums,
            sums if coordinates is None else coordinates,
            sums if slots is None else slots,
            0 if slots is None else len(slots),
            self.grid.images,
            **self.grid.options,
            MODE=MODES[activation],
            CLASSES=self.shape[1],
            UNIT=unit,
            COUNT=slots is not None,
            AXES=0 if coordinates is None else coordinates.shape[1],
        )

    def gradient(self, x: Tensor | None, grad: Tensor, activation: str, grads: Sequence[Tensor | None]) -> Tensor:
        """Write the gradient with respect to x, from the gradients (B, C, K) with respect to the four sums."""
        tables = [None if given is None else given.contiguous() for given in grads]
        nothing = next((table for table in tables if table is not None), None)
        if nothing is None:
            return grad.zero_()
        with launching(grad.device):
            gradient_kernel[(len(grad) * self.grid.tiles,)](
                grad if x is None else x,
                self.bits,
                self.parent,
                *(nothing if table is None else table for table in tables),
                sum(1 << i for i, table in enumerate(tables) if table is not None),
                grad,
                self.grid.images,
                **self.grid.options,
                MODE=MODES[activation],
                CLASSES=self.shape[1],
            )
        return grad


class _Measure(torch.autograd.Function):
    """Measure the instances: the sums and ``zero``, which are differentiable, the pairs and the cover of a table."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, found: _Found, activation: str, halves: Sequence[int] | None
    ) -> tuple[Tensor | None, ...]:
        x, grid, shape = x.contiguous(), found.grid, found.shape
        ctx.save_for_backward(x)
        ctx.found, ctx.activation = found, activation
        ctx.set_materialize_grads(False)
        axes = 0 if halves is None else len(grid.spatial)
        # The mean coordinate of an image is less than half its length.
        whole = torch.int32 if grid.voxels * max(grid.shape) < 2**32 else torch.int64
        # A block has voxels of at most one pair, so that the hash table cannot overflow.
        sizes = [4 * grid.rows, triton.next_power_of_2(grid.rows), 2 * axes * grid.rows * whole.itemsize // 8]
        sums, slots, coordinates = x.new_zeros(sum(sizes), dtype=torch.int64).split(sizes)
        coordinates = coordinates.view(whole).reshape(2, axes, grid.rows)
        found.sum(x, activation, PROB_UNIT, sums, coordinates, slots)
        prob = torch.empty((4, *shape), dtype=torch.float32, device=x.device)
        zero = torch.empty((), dtype=torch.float32, device=x.device)
        center = torch.empty((2, grid.rows), dtype=torch.int32, device=x.device) if axes else found.count
        pair = torch.empty((2, len(slots)), dtype=torch.int32, device=x.device)
        used = torch.empty(len(slots), dtype=torch.bool, device=x.device)
        finish_kernel[(triton.cdiv(len(slots), ROWS),)](
            found.count,
            sums,
            coordinates,
            slots,
            found.flags,
            prob,
            center,
            found.flags[1:],
            pair,
            used,
            zero,
            len(slots),
            grid.images,
            *grid.shape,
            LANES=ROWS,
            UNIT=PROB_UNIT,
            AXES=axes,
        )
        del sums, coordinates, slots
        fixed = [*pair, used]
        if halves is not None:
            cover, size = cover_by_kernels(grid, halves, center, found.flags[1:], found.count, prob)
            fixed += [*cover.reshape(2, 2, *shape), size.reshape(shape[:2])]
        ctx.mark_non_differentiable(*fixed)
        return *prob, zero, *fixed, *[None] * (6 - len(fixed))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.found.gradient(x, torch.empty_like(x), ctx.activation, grads[:4]), None, None, None


class _Sum(torch.autograd.Function):
    """The four sums of another voxel map (B, C, *spatial), float32."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, found: _Found) -> tuple[Tensor, ...]:
        ctx.found, ctx.shape = found, values.shape
        ctx.set_materialize_grads(False)
        sums = values.new_zeros(4 * found.grid.rows, dtype=torch.int64)
        found.sum(values, "none", MAP_UNIT, sums)
        return tuple((sums * (1 / MAP_UNIT)).reshape(4, *found.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        grad = torch.empty(ctx.shape, dtype=torch.float32, device=ctx.found.count.device)
        return ctx.found.gradient(None, grad, "none", grads), None
