"""What ``fused.py`` does, kernel by kernel: allocations, grids and arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from nnunet_ici.instances import _triton_cubes as cubes
from nnunet_ici.instances import _triton_label as labelling
from nnunet_ici.instances import _triton_sums as sums
from nnunet_ici.instances._triton_grid import BLOCK, Grid
from nnunet_ici.instances.cubes import spread
from nnunet_ici.losses import _triton_terms as terms
from nnunet_ici.losses.ranks import divisors

if TYPE_CHECKING:
    from nnunet_ici.losses.fused import FusedInput, FusedSettings

__all__ = ["Found", "draw", "find", "gradient", "measure", "values"]

MODES = {"none": sums.PROBABILITIES, "sigmoid": sums.REGIONS, "softmax": sums.SOFTMAX}
LANES = 256  # of a program over instances, pairs or images
VOXEL_LANES = 1024


@dataclass
class Found:
    """The instances of a batch: N = B * F images of S voxels, Z label and M predicted instances.

    Attributes:
        given: the input.
        x: its outputs, contiguous and without a graph.
        grid: of the N images.
        bits: uint8 (N, S).
        parent: int32 (2, N, S), numbered.
        end: int64 (3, N, tiles), of :func:`~nnunet_ici.instances._triton_label.number_roots`.
        nan: int32 (1,).
        labels, preds, candidates: Z, M and the number of candidates for touching pairs.
        class_counts: int64 (2, F): label and predicted instances of each class.
        divisors: float64 (3, F): those of all ranks, and of images, for means.
        label_table, pred_table, pair: as the kernels of the sums fill them.
        label_slope, pred_slope, value, count: as the kernel of the instances does.
        order, covered, image: of the center maps; covered and image are zero without.
    """

    given: FusedInput
    x: Tensor
    grid: Grid
    bits: Tensor
    parent: Tensor
    end: Tensor
    nan: Tensor
    labels: int
    preds: int
    candidates: int
    class_counts: Tensor
    divisors: Tensor = field(init=False)
    label_table: Tensor = field(init=False)
    pred_table: Tensor = field(init=False)
    pair: Tensor = field(init=False)
    label_slope: Tensor = field(init=False)
    pred_slope: Tensor = field(init=False)
    value: Tensor = field(init=False)
    count: Tensor = field(init=False)
    image: Tensor = field(init=False)
    covered: Tensor = field(init=False)
    order: Tensor = field(init=False)

    @property
    def instances(self) -> int:
        """Z + M."""
        return self.labels + self.preds

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.grid.shape)


def find(given: FusedInput, threshold: float, block: int = BLOCK) -> Found:
    """Tell the foreground, label it, and read the numbers of instances back."""
    x, target = given.x.detach().contiguous(), given.target.detach().contiguous()
    classes, device = given.classes, x.device
    grid = Grid(len(x) * classes, tuple(x.shape[2:]), block)
    bits = torch.empty((grid.images, grid.voxels), dtype=torch.uint8, device=device)
    parent = torch.empty((2, *bits.shape), dtype=torch.int32, device=device)
    nan = torch.zeros(1, dtype=torch.int32, device=device)
    mask = None if given.mask is None else given.mask.contiguous().view(torch.uint8)
    sums.classify_kernel[(len(x) * grid.tiles,)](
        x,
        target.view(torch.uint8) if target.dtype == torch.bool else target,
        bits if mask is None else mask,
        bits,
        parent,
        nan,
        threshold,
        -1 if given.ignore_label is None else given.ignore_label,
        grid.images,
        **grid.options,
        MODE=MODES[given.activation],
        CLASSES=classes,
        BY_CLASS=given.by_class,
        TARGETS=target.shape[1],
        HAS_MASK=mask is not None,
        HAS_IGNORE=given.ignore_label is not None,
    )
    end = labelling.number_roots(bits, parent, grid, masks=2, per_image=False)
    counts = end[:, :, -1].reshape(-1)
    counts = counts.diff(prepend=counts.new_zeros(1)).reshape(3, -1, classes)
    labels, preds, candidates = (sum(map(sum, row)) for row in counts.tolist())  # the synchronisation
    return Found(given, x, grid, bits, parent, end, nan, labels, preds, candidates, counts[:2].sum(1))


def measure(found: Found, settings: FusedSettings) -> None:
    """Sums over the instances, the pairs that touch, and the loss and derivatives of each instance."""
    labels, preds, candidates, images = found.labels, found.preds, found.candidates, found.grid.images
    classes = found.given.classes
    per_class = found.class_counts.new_full((1, classes), images // classes)
    found.divisors = divisors(torch.cat([found.class_counts, per_class]), settings.over_ranks)
    device, rows = found.bits.device, sums.COORDINATE.value + found.ndim
    capacity = triton.next_power_of_2(2 * candidates + 1)
    sizes = [rows * (labels + 1), rows * (preds + 1), 4, 2 * images, found.instances + 1, capacity + 1]
    zeros = torch.zeros(sum(sizes), dtype=torch.int64, device=device).split(sizes)
    found.label_table, found.pred_table, found.count, found.image, found.covered, seen = zeros
    found.pair = torch.empty((2, candidates), dtype=torch.int32, device=device)
    found.label_slope = torch.empty((2, labels + 1), dtype=torch.float64, device=device)
    found.pred_slope = torch.empty((2, preds + 1), dtype=torch.float64, device=device)
    found.value = torch.empty(found.instances, dtype=torch.float32, device=device)
    if found.instances == 0:
        return
    sums.sums_kernel[(images * found.grid.tiles,)](
        found.x,
        found.bits,
        found.parent,
        found.end,
        found.label_table,
        found.pred_table,
        found.pair,
        labels,
        preds,
        candidates,
        images,
        **found.grid.options,
        MODE=MODES[found.given.activation],
        CLASSES=found.given.classes,
        NDIM=found.ndim,
    )
    eq3 = not settings.exclude_other_instances
    if candidates:
        sums.pairs_kernel[(triton.cdiv(candidates, LANES),)](
            found.pair,
            seen,
            found.label_table,
            found.pred_table,
            labels,
            preds,
            candidates,
            capacity,
            EQ3=eq3,
            LANES=LANES,
        )
    terms.instances_kernel[(triton.cdiv(labels, LANES) + triton.cdiv(preds, LANES),)](
        found.label_table,
        found.pred_table,
        found.divisors,
        found.label_slope,
        found.pred_slope,
        found.value,
        found.count,
        labels,
        preds,
        settings.smooth,
        CLASSES=found.given.classes,
        EQ3=eq3,
        LANES=LANES,
    )


def draw(found: Found, settings: FusedSettings) -> None:
    """The center maps: which cube is the highest over each voxel, and what each covers."""
    found.order = found.value.argsort(stable=True)
    if found.instances == 0:
        return
    shape = found.grid.shape
    halves = settings.halves(shape)
    size = found.bits.numel()
    buffer = torch.zeros(6 * size, dtype=torch.uint8, device=found.bits.device)
    rank, in_label, in_pred = buffer[: 4 * size].view(torch.int32), buffer[4 * size : 5 * size], buffer[5 * size :]
    # Very many cubes are drawn as their centers and spread afterwards: that takes the same time however many there are.
    many = found.instances * math.prod(2 * half + 1 for half in halves) > 4 * size
    drawn_halves = (0,) * len(halves) if many else halves
    z, y, x = (0, *drawn_halves)[-3:]
    cubes.draw_kernel[(found.instances,)](
        found.label_table,
        found.pred_table,
        found.order,
        rank,
        in_label,
        in_pred,
        found.labels,
        found.preds,
        shape[0] if found.ndim == 3 else 1,
        shape[-2],
        shape[-1],
        HALF_Z=z,
        HALF_Y=y,
        HALF_X=x,
        NDIM=found.ndim,
        LANES=min(512, triton.next_power_of_2((2 * z + 1) * (2 * y + 1) * (2 * x + 1))),
    )
    if many:
        batch = (found.grid.images, *shape)
        rank = spread(rank.reshape(batch), halves, torch.maximum)
        in_label = spread(in_label.reshape(batch), halves, torch.bitwise_or)
        in_pred = spread(in_pred.reshape(batch), halves, torch.bitwise_or)
    cubes.count_kernel[(triton.cdiv(size, VOXEL_LANES),)](
        rank, in_label, in_pred, found.covered, size, LANES=VOXEL_LANES
    )
    terms.images_kernel[(triton.cdiv(found.instances, LANES),)](
        found.label_table,
        found.pred_table,
        found.order,
        found.value,
        found.covered,
        found.image,
        found.labels,
        found.preds,
        found.grid.images,
        LANES=LANES,
    )


def values(found: Found, settings: FusedSettings) -> tuple[Tensor, Tensor]:
    """The three terms, float32 (3,), and the four counts, int64 (4,)."""
    value = torch.empty(3, dtype=torch.float32, device=found.bits.device)
    terms.values_kernel[(1,)](
        found.count,
        found.image,
        found.divisors,
        found.nan,
        value,
        found.grid.images,
        settings.smooth,
        CLASSES=found.given.classes,
        CENTER=settings.center,
        LANES=LANES,
    )
    of_all = found.class_counts.sum(1)
    return value, torch.stack([of_all[0], found.count[2], of_all[1], found.count[3]])


def gradient(found: Found, settings: FusedSettings, upstream: Tensor) -> Tensor:
    """The derivative by x of the terms weighed by upstream float32 (3,); shape and dtype of x."""
    if found.instances == 0:
        return torch.zeros_like(found.x)
    labels, preds, device = found.labels, found.preds, found.bits.device
    eq3 = not settings.exclude_other_instances
    wrong = torch.zeros(preds + 1, dtype=torch.int64, device=device)
    label_grad = torch.empty((2, labels + 1), dtype=torch.float32, device=device)
    pred_grad = torch.empty((2, preds + 1), dtype=torch.float32, device=device)
    if found.candidates:
        terms.pair_gradients_kernel[(triton.cdiv(found.candidates, LANES),)](
            found.pair, found.label_slope, wrong, labels, found.candidates, LANES=LANES
        )
    order = found.order if settings.center else torch.arange(found.instances, device=device)
    terms.coefficients_kernel[(triton.cdiv(found.instances, LANES),)](
        found.label_table,
        found.pred_table,
        order,
        found.covered,
        found.image,
        found.divisors,
        found.label_slope,
        found.pred_slope,
        wrong,
        upstream,
        label_grad,
        pred_grad,
        labels,
        preds,
        found.grid.images,
        settings.smooth,
        CLASSES=found.given.classes,
        EQ3=eq3,
        CENTER=settings.center,
        LANES=LANES,
    )
    grad = torch.empty_like(found.x)
    terms.gradient_kernel[(len(found.x) * found.grid.tiles,)](
        found.x,
        found.bits,
        found.parent,
        label_grad,
        pred_grad,
        grad,
        labels,
        preds,
        found.grid.images,
        **found.grid.options,
        MODE=MODES[found.given.activation],
        CLASSES=found.given.classes,
        EQ3=eq3,
    )
    return grad
