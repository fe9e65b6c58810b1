"""Bounding boxes of instances, and the distance between boxes: the input of the instance proximity loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnunet_ici.instances.segments import widest_float

__all__ = ["Boxes", "distance_iou", "middle_box", "nearest", "nearest_tables", "widen"]

SMALLEST = 1e-7  # added to the squared diagonal, as in the published code
PAIRS_AT_ONCE = 2**20  # bounds the memory


class Boxes(NamedTuple):
    """Boxes in an image, each from corner ``low`` to corner ``high``, in voxels, float (N, axes)."""

    low: Tensor
    high: Tensor

    @property
    def center(self) -> Tensor:
        """(N, axes), rounded up from the low corner."""
        return self.low + ((self.high - self.low) / 2).ceil()


def widen(low: Tensor, high: Tensor, shape: Sequence[int]) -> Boxes:
    """Boxes around instances, widened on each side by their own extent and clipped to the image.

    As in the code of Rachmadi et al. (2024), the extent of an axis is its last minus its first voxel, at least 1, and
    voxel i reaches from i - 1 to i.

    Args:
        low, high: first and last voxel of each instance along each axis, (N, axes).
        shape: spatial shape of the image.
    """
    extent = (high - low).clamp(min=1)
    return Boxes((low - extent - 1).clamp(min=0), torch.minimum(high + extent, high.new_tensor(shape)))


def middle_box(shape: Sequence[int], like: Tensor) -> Boxes:
    """The box of two voxels per axis that stands for the instances of an image without any."""
    middle = like.new_tensor([[size // 2 for size in shape]])
    return Boxes(middle - 1, middle + 1)


def distance_iou(a: Boxes, b: Boxes) -> Tensor:
    """Distance-IoU loss (Zheng et al., 2020) of all pairs of boxes.

    It is 1 - IoU + (distance of the centers)^2 / (diagonal of the smallest box that contains both)^2.

    Args:
        a: N boxes.
        b: M boxes.

    Returns:
        (N, M), in [0, 2].
    """
    low, high = a.low[:, None], a.high[:, None]
    shared = (torch.minimum(high, b.high) - torch.maximum(low, b.low)).clamp(min=0).prod(2)
    union = (a.high - a.low).prod(1)[:, None] + (b.high - b.low).prod(1) - shared
    apart = (a.center[:, None] - b.center).square().sum(2)
    diagonal = (torch.maximum(high, b.high) - torch.minimum(low, b.low)).square().sum(2)
    return 1 - shared / union + apart / (diagonal + SMALLEST)


def nearest(labels: Boxes, preds: Boxes, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The smallest :func:`distance_iou` of each box to a box of the other side.

    Args:
        labels: Z boxes.
        preds: M boxes.
        shape: spatial shape of the image. If one side has no box, the other is compared with :func:`middle_box`.

    Returns:
        (Z,) and (M,).
    """
    middle = middle_box(shape, labels.low)
    others = [side if len(side.low) else middle for side in (labels, preds)]
    of_label = labels.low.new_full((len(labels.low),), torch.inf)
    of_pred = []
    at_once = max(PAIRS_AT_ONCE // len(others[0].low), 1)
    for low, high in zip(*(corner.split(at_once) for corner in others[1]), strict=True):
        distances = distance_iou(others[0], Boxes(low, high))
        of_pred.append(distances.amin(0))
        if len(labels.low):
            of_label = torch.minimum(of_label, distances.amin(1))
    return of_label, torch.cat(of_pred)[: len(preds.low)]


def nearest_tables(labels: Tensor, preds: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """:func:`nearest` for the tables of a mini-batch.

    Args:
        labels: first and last voxel of each label instance along each axis, integer (B, C, K, 2, axes); in an unused
            row the first exceeds the last.
        preds: the same of the predicted instances, (B, C, K', 2, axes).
        shape: spatial shape of the images.

    Returns:
        (B, C, K) and (B, C, K'), float64 (float32 on MPS), 0 in unused rows.
    """
    sides = [side.flatten(0, 1) for side in (labels, preds)]
    dtype = widest_float(labels.device)
    tables = [torch.zeros(side.shape[:2], dtype=dtype, device=side.device) for side in sides]
    for image in range(len(sides[0])):
        used = [side[image, :, 0, 0] <= side[image, :, 1, 0] for side in sides]
        corners = [side[image][rows].to(dtype).unbind(1) for side, rows in zip(sides, used, strict=True)]
        boxes = [widen(low, high, shape) for low, high in corners]
        for table, rows, distances in zip(tables, used, nearest(boxes[0], boxes[1], shape), strict=True):
            table[image, rows] = distances
    return tables[0].reshape(labels.shape[:3]), tables[1].reshape(preds.shape[:3])
