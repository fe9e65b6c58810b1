"""Checks of tensors, with uniform error messages that state what was expected and what was received."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

__all__ = [
    "Once",
    "check_binary",
    "check_case",
    "check_labels",
    "check_mask",
    "check_network_output",
    "check_prob",
    "check_range",
    "check_same_shape",
]


def check_prob(prob: Tensor) -> None:
    """Check that ``prob`` is a floating-point tensor (B, C, *spatial), 2D or 3D.

    Raises:
        TypeError: if the dtype is wrong.
        ValueError: if the number of axes is wrong.
    """
    if not prob.is_floating_point():
        raise TypeError(f"prob must be a floating-point tensor. Got: {prob.dtype}")
    if prob.ndim not in (4, 5):
        raise ValueError(f"prob must have shape (B, C, H, W) or (B, C, D, H, W). Got: {tuple(prob.shape)}")


def check_case(prob: Tensor, target: Tensor, mask: Tensor | None) -> None:
    """Check the tensors that are passed to a term.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D.
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), or None.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.
    """
    check_prob(prob)
    check_mask("target", target, tuple(prob.shape))
    if mask is not None:
        check_mask("mask", mask, (prob.shape[0], 1, *prob.shape[2:]))


def check_network_output(net_output: Tensor, target: Tensor) -> bool:
    """Check the tensors that nnU-Net passes to a loss, and tell label maps from regions by their shapes.

    Args:
        net_output: logits, floating point (B, C, *spatial), 2D or 3D.
        target: label map (B, 1, *spatial), for a softmax over C > 1 classes including background; or regions
            (B, C, *spatial), for sigmoids. Regions may have an additional last channel that marks ignored voxels.

    Returns:
        True for a label map, False for regions.

    Raises:
        TypeError: if ``net_output`` is not floating-point.
        ValueError: if ``net_output`` is neither 2D nor 3D, or the target has neither form.
    """
    if not net_output.is_floating_point():
        raise TypeError(f"net_output must be a floating-point tensor. Got: {net_output.dtype}")
    if net_output.ndim not in (4, 5):
        raise ValueError(f"net_output must have shape (B, C, H, W) or (B, C, D, H, W). Got: {tuple(net_output.shape)}")
    if target.ndim == net_output.ndim - 1:
        raise ValueError(f"target must have a channel axis: use target[:, None]. Got: {tuple(target.shape)}")
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
    """Check that ``mask``, called ``name`` in messages, is a bool tensor of the given shape.

    Raises:
        TypeError: if the dtype is wrong.
        ValueError: if the shape is wrong.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be a bool tensor. Got: {mask.dtype}")
    check_same_shape(name, tuple(mask.shape), shape)


def check_same_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError if the shape of the tensor called ``name`` is not the expected shape."""
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{name} has the wrong shape. Expected: {tuple(expected)}. Got: {tuple(shape)}")


class Once:
    """Run a check for tensors whose shapes, dtypes or devices have not passed it before."""

    def __init__(self) -> None:
        self._passed: set[Hashable] = set()

    def __call__(self, check: Callable[[], None], *tensors: Tensor, caller: Hashable = None) -> None:
        key = (caller, *((tuple(x.shape), x.dtype, x.device) for x in tensors))
        if key not in self._passed:
            check()
            self._passed.add(key)


def check_labels(target: Tensor, classes: int, ignore_label: int | None) -> None:
    """Check that a label map holds the labels 0..classes - 1 and the ignore label only; waits for the device.

    Raises:
        ValueError: if there are other values; the message names some of them and the likely remedy.
    """
    wrong = (target < 0) | (target > classes - 1)
    if target.is_floating_point():
        wrong |= target != target.round()
    if ignore_label is not None:
        wrong &= target != ignore_label
    if not wrong.any():
        return
    values = target[wrong].unique().tolist()
    if set(values) <= {127, 128, 255}:
        remedy = "an image? Divide 0 and 255 by 255"
    elif any(value != round(value) for value in values):
        remedy = "soft labels? Round them, or take the argmax"
    elif min(values) < 0:
        remedy = f"voxels to ignore? Pass ignore_label={min(values):.0f}"
    else:
        remedy = "labels must be consecutive, and the network needs a channel for each and the background"
    ignored = "" if ignore_label is None else f" or {ignore_label} (ignored)"
    raise ValueError(f"target must hold the labels 0 to {classes - 1}{ignored}. Got: {_some(values)} ({remedy})")


def check_binary(name: str, target: Tensor) -> None:
    """Check that a target, called ``name`` in messages, holds 0 and 1 only; waits for the device unless it is bool.

    Raises:
        ValueError: if there are other values; the message names some of them and the likely remedy.
    """
    if target.dtype == torch.bool:
        return
    wrong = (target != 0) & (target != 1)
    if wrong.any():
        values = target[wrong].unique().tolist()
        remedy = "divide by 255" if set(values) == {255} else "round soft labels"
        raise ValueError(f"{name} must hold 0 and 1 in its channels. Got: {_some(values)} ({remedy})")


def check_range(prob: Tensor) -> None:
    """Check that probabilities lie in [0, 1], apart from NaN; waits for the device.

    Raises:
        ValueError: if there are other values.
    """
    wrong = (prob < 0) | (prob > 1)
    if wrong.any():
        values = prob[wrong]
        raise ValueError(
            f"prob must lie in [0, 1]. Got: {values.min().item():.4g} to {values.max().item():.4g} (logits? Apply a "
            "softmax or sigmoid first)"
        )


def _some(values: list[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return f"{shown}, ..." if len(values) > 5 else shown
