"""Losses over all classes at once: over a softmax for label maps, over a two-class softmax per region otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from nnunet_ici.instances import Source
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.settings import LOSSES

__all__ = ["OverClassesLoss", "check_logits", "class_masks"]

WEIGHTS = LOSSES["nnUNetTrainerRRW"].weights  # the other losses without a global loss have the same weights


class OverClassesLoss(CompoundLoss):
    """A loss over all classes. By default the weight of the global loss is 0.

    Each region is treated as a two-class softmax, then the regions are averaged. Subclasses define :attr:`name` and
    :attr:`function`.

    Args:
        global_loss: called as ``global_loss(net_output, target)``, or None.
        global_weight: weight of the global loss.
        term_weight: weight of :attr:`function`.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.

    Attributes:
        name: name of the term in records and logs.
        function: called with logits (B, C, *spatial), a label map int64 (B, *spatial), and a mask bool (B, *spatial),
            False for ignored voxels, or None.
    """

    name: ClassVar[str]
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = WEIGHTS["global_weight"],
        term_weight: float = WEIGHTS["term_weight"],
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {self.name: term_weight}, **options)

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of :attr:`function`."""
        return {}

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        function = type(self).function
        losses = [function(*softmax, **self.settings) for softmax in _softmaxes(source)]
        return {self.name: losses[0] if len(losses) == 1 else torch.stack(losses).mean()}, None


def _softmaxes(source: Source) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """The arguments of :attr:`OverClassesLoss.function`, once for a label map, or for each region.

    Logits are at least float32.
    """
    logits = source.x if source.x.dtype in (torch.float32, torch.float64) else source.x.float()
    mask = None if source.counted is None else source.counted[:, 0]
    if not source.by_class:
        label = source.target[:, 0].to(torch.int64)
        yield logits, label if mask is None else torch.where(mask, label, 0), mask
        return
    for region in range(source.classes):
        logit = logits[:, region]
        # A sigmoid is a softmax with a background logit of 0.
        yield torch.stack([torch.zeros_like(logit), logit], 1), (source.target[:, region] > 0).to(torch.int64), mask


def check_logits(logits: Tensor, label: Tensor, mask: Tensor | None) -> None:
    """Check logits, floating point (B, C, *spatial), 2D or 3D; label map, int64 (B, *spatial); and mask, bool
    (B, *spatial) or None.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.
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
            raise TypeError(f"{name} must have dtype {dtype}. Got: {tensor.dtype}")
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} has the wrong shape. Expected: {expected}. Got: {tuple(tensor.shape)}")


def class_masks(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """bool (B, C, *spatial): the voxels of each class, including background, without ignored voxels."""
    numbers = torch.arange(classes, device=label.device).reshape(-1, *[1] * (label.ndim - 1))
    masks = label[:, None] == numbers
    return masks if mask is None else masks & mask[:, None]
