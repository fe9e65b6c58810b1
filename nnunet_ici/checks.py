"""Checks of tensors, with one wording: what is wrong, what was expected, what was got."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_case", "check_mask", "check_network_output", "check_prob", "check_same_shape"]


def check_prob(prob: Tensor) -> None:
    """Raise unless ``prob`` is a floating-point tensor (B, C, *spatial), 2D or 3D.

    Raises:
        TypeError: another dtype.
        ValueError: another number of axes.
    """
    if not prob.is_floating_point():
        raise TypeError(f"prob must be a floating-point tensor. Got: {prob.dtype}")
    if prob.ndim not in (4, 5):
        raise ValueError(f"prob must have shape (B, C, H, W) or (B, C, D, H, W). Got: {tuple(prob.shape)}")


def check_case(prob: Tensor, target: Tensor, mask: Tensor | None) -> None:
    """Raise unless ``prob`` passes :func:`check_prob`, ``target`` is bool of its shape, and ``mask`` is None or bool
    (B, 1, *spatial).

    Raises:
        TypeError: another dtype.
        ValueError: another shape.
    """
    check_prob(prob)
    check_mask("target", target, tuple(prob.shape))
    if mask is not None:
        check_mask("mask", mask, (prob.shape[0], 1, *prob.shape[2:]))


def check_network_output(net_output: Tensor, target: Tensor) -> bool:
    """Tell labels from regions by the shapes of what nnU-Net hands to a loss.

    Args:
        net_output: logits (B, C, *spatial), 2D or 3D.
        target: (B, 1, *spatial) with C > 1: labels, for a softmax over C classes with the background; (B, C, *spatial)
            or (B, C + 1, *spatial): regions, for a sigmoid each, the last channel of C + 1 marking ignored voxels.

    Returns:
        True for labels, False for regions.

    Raises:
        TypeError: net_output is not floating-point.
        ValueError: a target of neither form.
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


def check_mask(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless ``mask``, called ``name`` in the message, is a bool tensor of the given shape.

    Raises:
        TypeError: another dtype.
        ValueError: another shape.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be a bool tensor. Got: {mask.dtype}")
    check_same_shape(name, tuple(mask.shape), shape)


def check_same_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape of ``name`` is the expected one."""
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{name} has the wrong shape. Expected: {tuple(expected)}. Got: {tuple(shape)}")
