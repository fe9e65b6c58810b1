"""What losses over all classes read: a softmax over labels, or each region as a softmax over two classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nnunet_ici.losses.network_output import has_labels

__all__ = ["check_problem", "class_masks", "mean_over_problems"]


def _problems(
    net_output: Tensor, target: Tensor, ignore_label: int | None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Logits (B, C, *spatial), float32 at the least; labels int64 (B, *spatial); mask bool (B, *spatial) or None."""
    labels, classes = has_labels(net_output, target), net_output.shape[1]
    if net_output.dtype not in (torch.float32, torch.float64):
        net_output = net_output.float()
    if labels:
        label = target[:, 0].to(torch.int64)
        mask = None if ignore_label is None else label != ignore_label
        yield net_output, label if mask is None else torch.where(mask, label, 0), mask
        return
    mask = target[:, classes] == 0 if target.shape[1] > classes else None
    for region in range(classes):
        logit = net_output[:, region]
        # A sigmoid is a softmax against a logit of 0.
        yield torch.stack([torch.zeros_like(logit), logit], 1), (target[:, region] > 0).to(torch.int64), mask


def mean_over_problems(
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    net_output: Tensor,
    target: Tensor,
    ignore_label: int | None,
) -> Tensor:
    """The loss of a softmax over labels, or the mean of those of the regions.

    Args:
        loss: called with logits (B, C, *spatial), labels int64 (B, *spatial), and a mask bool (B, *spatial) or None.
        net_output, target, ignore_label: as for :func:`~nnunet_ici.losses.network_output.has_labels`.
    """
    losses = [loss(*problem) for problem in _problems(net_output, target, ignore_label)]
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def check_problem(logits: Tensor, label: Tensor, mask: Tensor | None) -> None:
    """Raise unless logits are floating-point (B, C, *spatial), 2D or 3D, labels int64 and mask bool (B, *spatial).

    Raises:
        TypeError: another dtype.
        ValueError: another shape.
    """
    if not logits.is_floating_point():
        raise TypeError(f"logits must be a floating-point tensor. Got: {logits.dtype}")
    if logits.ndim not in (4, 5):
        raise ValueError(f"logits must have shape (B, C, H, W) or (B, C, D, H, W). Got: {tuple(logits.shape)}")
    expected = (logits.shape[0], *logits.shape[2:])
    for name, tensor, dtype in (("label", label, torch.int64), ("mask", mask, torch.bool)):
        if tensor is None:
            continue
        if tensor.dtype != dtype:
            raise TypeError(f"{name} must be of {dtype}. Got: {tensor.dtype}")
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} has the wrong shape. Expected: {expected}. Got: {tuple(tensor.shape)}")


def class_masks(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """bool (B, C, *spatial): the voxels of each class, background included, without the ignored ones."""
    numbers = torch.arange(classes, device=label.device).reshape(-1, *[1] * (label.ndim - 1))
    masks = label[:, None] == numbers
    return masks if mask is None else masks & mask[:, None]
