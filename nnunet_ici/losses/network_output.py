"""From what nnU-Net hands to a loss to probabilities and binary labels, one channel for each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_ici.checks import check_same_shape
from nnunet_ici.losses.fused import FusedInput

__all__ = ["fused_input", "has_labels", "split_classes"]


def has_labels(net_output: Tensor, target: Tensor) -> bool:
    """Tell labels from regions by the shapes.

    Args:
        net_output: logits (B, C, *spatial), 2D or 3D.
        target: (B, 1, *spatial) with C > 1: labels, for a softmax over C classes with the background; (B, C, *spatial)
            or (B, C + 1, *spatial): regions, for a sigmoid each, the last channel of C + 1 marking ignored voxels.

    Returns:
        True for labels, False for regions.

    Raises:
        TypeError: if net_output is not floating-point.
        ValueError: if the target is of neither form.
    """
    if not net_output.is_floating_point():
        raise TypeError(f"net_output must be a floating-point tensor. Got: {net_output.dtype}")
    if net_output.ndim not in (4, 5):
        raise ValueError(f"net_output must have shape (B, C, H, W) or (B, C, D, H, W). Got: {tuple(net_output.shape)}")
    classes, channels = net_output.shape[1], target.shape[1] if target.ndim > 1 else 0
    check_same_shape("target", tuple(target.shape), (net_output.shape[0], channels, *net_output.shape[2:]))
    if channels == 1 and classes > 1:
        return True
    if channels in (classes, classes + 1):
        return False
    raise ValueError(
        f"target must have 1 channel (labels), {classes} (regions) or {classes + 1} (regions and ignored voxels) for "
        f"{classes} logits. Got: {channels}"
    )


def split_classes(net_output: Tensor, target: Tensor, ignore_label: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Give each foreground class its probability and label.

    Args:
        net_output: logits, as for :func:`has_labels`; computed in float32 at the least.
        target: labels or regions, likewise.
        ignore_label: the label of ignored voxels in label targets, or None.

    Returns:
        prob (B, F, *spatial), target bool (B, F, *spatial) and mask bool (B, 1, *spatial) or None, with F = C - 1 for
        labels and C for regions.

    Raises:
        TypeError, ValueError: as :func:`has_labels`.
    """
    labels, classes = has_labels(net_output, target), net_output.shape[1]
    if net_output.dtype not in (torch.float32, torch.float64):
        net_output = net_output.float()
    if not labels:
        mask = target[:, classes:] == 0 if target.shape[1] > classes else None
        return torch.sigmoid(net_output), target[:, :classes] > 0, mask
    foreground = torch.arange(1, classes, device=target.device).reshape(-1, *[1] * (target.ndim - 2))
    mask = None if ignore_label is None else target != ignore_label
    if classes == 2:
        return _BinarySoftmax.apply(net_output), target == 1, mask
    return torch.softmax(net_output, 1)[:, 1:], target == foreground, mask


class _BinarySoftmax(torch.autograd.Function):
    """The second of two classes of a softmax: a sigmoid of the difference. Written out, because autograd would make a
    gradient for each class and then join them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        prob = (logits[:, 1:] - logits[:, :1]).sigmoid_()
        ctx.save_for_backward(prob)
        return prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (prob,) = ctx.saved_tensors
        both = grad.new_empty((grad.shape[0], 2, *grad.shape[2:]))
        background, lesion = both[:, :1], both[:, 1:]
        torch.mul(grad, prob, out=background)
        torch.addcmul(background, background, prob, value=-1, out=lesion)
        torch.neg(lesion, out=background)
        return both


def fused_input(net_output: Tensor, target: Tensor, ignore_label: int | None) -> FusedInput:
    """The same for the fused terms, which read logits and targets as they are; arguments and errors as
    :func:`split_classes`."""
    if has_labels(net_output, target):
        return FusedInput(net_output, target, "softmax", by_class=False, ignore_label=ignore_label)
    return FusedInput(net_output, target, "sigmoid", by_class=True)
