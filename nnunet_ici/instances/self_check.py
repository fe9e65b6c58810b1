"""Comparison of the Triton kernels with plain torch on a few small cases, before their first use on a device.

The kernels number instances by blocks, plain torch in raster order. The comparison therefore does not depend on the
order: labelings are compared by the first voxel of each component, and instances by their properties.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from nnunet_ici.instances import distance
from nnunet_ici.instances.labelling_torch import label_union_find
from nnunet_ici.instances.pairs import pair_sum
from nnunet_ici.instances.segments import segment_sum
from nnunet_ici.instances.source import Source
from nnunet_ici.instances.table import Side, Table, is_hit

__all__ = ["find_difference"]

SHAPES = {2: (9, 130), 3: (3, 5, 66)}  # odd, with more blocks than a tile
CASES = (  # axes, dtype, classes: 2 also has ignored voxels, None is a single region
    (2, torch.float16, 2),
    (2, torch.float32, None),
    (3, torch.float32, 2),
    (3, torch.float16, 1),
)
THRESHOLD = 0.3  # far from every probability in the cases
HALF_WIDTH = 2  # of the center cubes, in voxels


def find_difference(device: torch.device) -> str | None:
    """Find the first difference between the kernels and plain torch in labeling, measurements, sums and gradients.

    Args:
        device: CUDA device, or any device with Triton's interpreter.

    Returns:
        The quantity that differs and the case, or None if there is no difference.

    Raises:
        Exception: any exception from the kernels or from Triton.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        return _find_difference(device)


def _find_difference(device: torch.device) -> str | None:
    generator = torch.Generator().manual_seed(0)
    for axes, dtype, classes in CASES:
        source = _make_source(axes, dtype, classes, generator, device)
        name = f"{axes}D, {str(dtype).removeprefix('torch.')}, {classes or 'no'} classes"
        for what, equal in _comparisons(source):
            if not equal:
                return f"{what} ({name})"
    return None


def _make_masks(axes: int, generator: torch.Generator) -> Tensor:
    """bool (5, *spatial): noise at three densities, a snake, and the image corners."""
    shape = SHAPES[axes]
    masks = torch.rand((5, *shape), generator=generator) < torch.tensor([0.1, 0.4, 0.7, 0, 0]).reshape(5, *[1] * axes)
    snake, corners = masks[3], masks[4]
    snake[..., ::2, :] = True
    snake[..., 1::4, -1] = True
    snake[..., 3::4, 0] = True
    if axes == 3:
        snake[1::2] = False
    for corner in product((0, -1), repeat=axes):
        corners[corner] = True
    return masks


def _make_source(
    axes: int, dtype: torch.dtype, classes: int | None, generator: torch.Generator, device: torch.device
) -> Source:
    """Logits of a batch of 5 that require a gradient, with a target."""
    label, predicted, ignored = (_make_masks(axes, generator) for _ in range(3))
    channels = classes or 1
    of_class = torch.stack([predicted.roll(1 + c, 0) for c in range(channels)], 1)
    logits = (2 + torch.rand(of_class.shape, generator=generator) / 2) * (2 * of_class.float() - 1)
    if classes is None:
        target, ignore_label = label[:, None], None
    else:
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)
        target = torch.zeros_like(label[:, None], dtype=torch.int16)
        for c in range(classes):
            target[label.roll(c, 0)[:, None]] = c + 1
        ignore_label = None if classes == 1 else classes + 1
        if ignore_label is not None:
            target[ignored.roll(2, 0)[:, None]] = ignore_label
    return Source.of_network(logits.to(device, dtype).requires_grad_(), target.to(device), ignore_label)


def _comparisons(source: Source) -> Iterator[tuple[str, bool]]:
    """Name of each compared quantity, and whether it is equal."""
    from nnunet_ici.instances._triton_distance import along_lines
    from nnunet_ici.instances._triton_find import find_by_kernels
    from nnunet_ici.instances._triton_label import label_triton
    from nnunet_ici.instances._triton_pairs import pair_sum_by_kernel
    from nnunet_ici.instances.cells import find_in_torch

    mask = source.label.flatten(0, 1)
    (ids, counts), (expected_ids, expected_counts) = label_triton(mask), label_union_find(mask)
    yield "labeling", torch.equal(counts, expected_counts)
    yield "labeling", torch.equal(ids.flatten(1).amax(1), counts)
    yield "labeling", torch.equal(_first_voxels(ids, mask), _first_voxels(expected_ids, mask))
    lines = torch.where(mask.flatten(2), distance.NOTHING, expected_ids.flatten(2).to(torch.int64))
    yield "distances", torch.equal(along_lines(lines), distance.along_lines_in_torch(lines))

    values, at = torch.rand(50, device=mask.device), torch.arange(99, device=mask.device)
    pairs = (values, at % 50, at // 9, at % 2 == 0, 20)
    yield "sums over pairs", _is_close(pair_sum_by_kernel(*pairs), pair_sum(*pairs))

    halves = [HALF_WIDTH] * mask[0].ndim
    found, expected = (
        # Each gets its own source, and therefore its own graph.
        _describe(find(replace(source), THRESHOLD, "bce", halves), source.x)
        for find in (find_by_kernels, find_in_torch)
    )
    for what, value in expected.items():
        yield what, found[what].shape == value.shape and _is_close(found[what], value)


def _first_voxels(ids: Tensor, mask: Tensor) -> Tensor:
    """int64 (voxels,): flat index of the first voxel of each voxel's component, -1 on background; ids (N, *spatial)."""
    at = torch.arange(ids.numel(), device=ids.device)
    # Ids are at most the number of voxels of an image, so keys of different images differ.
    key = torch.div(at, ids[0].numel(), rounding_mode="floor") * (ids[0].numel() + 1) + ids.flatten()
    first = torch.full((len(ids) * (ids[0].numel() + 1),), ids.numel(), device=ids.device)
    first.scatter_reduce_(0, key.clamp(0, len(first) - 1), at, reduce="amin")
    return torch.where(mask.flatten(), first.take(key.clamp(0, len(first) - 1)), -1)


def _describe(table: Table, x: Tensor) -> dict[str, Tensor]:
    """Measurements, sums, a value and its gradient, all independent of the order of the instances."""
    label, pred, cover, (label_is_hit, pred_is_hit) = table.label, table.pred, table.cover, is_hit(table)
    assert cover is not None
    labels, of_label = _describe_side(label, table.over_preds(pred.voxels.to(torch.float32)))
    preds, of_pred = _describe_side(pred, table.over_labels(label.voxels.to(torch.float32)))
    label_value, pred_value = (
        torch.where(hit, fixed, side.prob.detach().double() / side.voxels.clamp(min=1))
        for side, hit, fixed in ((label, label_is_hit, 0.0), (pred, pred_is_hit, 1.0))
    )
    error = cover.label_elsewhere * label_value + cover.label_inside * (1 - label_value)
    error_of_pred = cover.pred_elsewhere * pred_value + cover.pred_inside * (1 - pred_value)

    sums = torch.cat([part.square().flatten() for side in (label, pred) for part in _sums(side)])
    touching = (table.over_preds(pred.part) * label.part).sum()
    total = table.zero + (sums.sum() + touching) / x.numel()
    (gradient,) = torch.autograd.grad(total, x)
    return {
        "label instances": labels,
        "predicted instances": preds,
        "sums over label instances": of_label,
        "sums over predicted instances": of_pred,
        "voxels of center cubes": cover.size.to(torch.int64),
        "center cubes": error.sum(2) + error_of_pred.sum(2),
        "value": total.detach(),
        "gradient": gradient,
    }


def _describe_side(side: Side, touched: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct integer properties of the instances, ascending, and the sums over the instances that share them."""
    image = torch.arange(side.voxels[..., 0].numel(), device=touched.device).reshape(*side.voxels.shape[:2], 1)
    used = side.voxels > 0
    facts = [image.expand_as(used), side.voxels, side.part_voxels, touched]
    distinct, group = torch.stack([fact[used].long() for fact in facts], 1).unique(dim=0, return_inverse=True)
    sums = torch.stack([part[used].double() for part in _sums(side)], 1)
    return distinct, segment_sum(sums.detach(), group, len(distinct))


def _sums(side: Side) -> list[Tensor]:
    return [part for part in side[2:] if part is not None]


def _is_close(found: Tensor, expected: Tensor) -> bool:
    """Whether integers are equal, or floating-point numbers equal within a rounding error of the largest one."""
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    rounding = 1e-5 + (2 * torch.finfo(expected.dtype).eps if expected.dtype == torch.float16 else 0)
    off = (found.double() - expected.double()).abs().max()
    return bool(off <= rounding * expected.double().abs().max())  # False for a NaN
