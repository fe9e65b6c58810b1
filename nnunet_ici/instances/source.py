"""What instances are found in: network outputs or probabilities, and a target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_ici.checks import check_case, check_network_output

__all__ = ["Source"]


@dataclass(frozen=True, eq=False)
class Source:
    """Probabilities or logits with their target, as they are; :meth:`of_network` and :meth:`of_prob` make one.

    Attributes:
        x: floating point: probabilities or logits of regions (B, F, *spatial), or logits (B, F + 1, *spatial) for a
            softmax with the background as channel 0; 2D or 3D.
        target: labels (B, 1, *spatial), 1..F, of any integer or floating-point dtype; or, with ``by_class``, bool or
            0/1 (B, F, *spatial), or (B, F + 1, *spatial) with the ignored voxels last.
        activation: "none", "sigmoid" or "softmax".
        by_class: whether the target has a channel for each class.
        mask: bool (B, 1, *spatial), True = counts, or None.
        ignore_label: label of ignored voxels in label targets, or None.
    """

    x: Tensor
    target: Tensor
    activation: str
    by_class: bool
    mask: Tensor | None = None
    ignore_label: int | None = None

    @classmethod
    def of_network(cls, net_output: Tensor, target: Tensor, ignore_label: int | None) -> Source:
        """What nnU-Net hands to a loss.

        Args:
            net_output: logits (B, C, *spatial), 2D or 3D.
            target: (B, 1, *spatial) with C > 1: labels, for a softmax over C classes with the background; or
                (B, C, *spatial) or (B, C + 1, *spatial): regions, for a sigmoid each, the last channel of C + 1 marking
                ignored voxels.
            ignore_label: label of ignored voxels in label targets, or None.

        Raises:
            TypeError: ``net_output`` not floating-point.
            ValueError: a target of neither form.
        """
        if check_network_output(net_output, target):
            return cls(net_output, target, "softmax", by_class=False, ignore_label=ignore_label)
        return cls(net_output, target, "sigmoid", by_class=True)

    @classmethod
    def of_prob(cls, prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Source:
        """Probabilities.

        Args:
            prob: (B, F, *spatial), 2D or 3D, in [0, 1].
            target: bool, the same shape.
            mask: bool (B, 1, *spatial), True = counts.

        Raises:
            TypeError, ValueError: another dtype or shape.
        """
        check_case(prob, target, mask)
        return cls(prob, target, "none", by_class=True, mask=mask)

    @property
    def classes(self) -> int:
        """F, without the background."""
        return self.x.shape[1] - (self.activation == "softmax")

    @property
    def images(self) -> tuple[int, ...]:
        """(N, *spatial), with N = B * F: image b * F + f is class f of sample b."""
        return (self.x.shape[0] * self.classes, *self.x.shape[2:])

    @cached_property
    def prob(self) -> Tensor:
        """(B, F, *spatial), differentiable: the probability of each class, float32, or float64 for float64 ``x``."""
        with torch.enable_grad():  # it is kept, whoever asks first
            x = self.x if self.x.dtype in (torch.float32, torch.float64) else self.x.float()
            if self.activation == "none":
                return x
            if self.activation == "sigmoid":
                return torch.sigmoid(x)
            prob: Tensor = _BinarySoftmax.apply(x) if self.classes == 1 else torch.softmax(x, 1)[:, 1:]
            return prob

    @cached_property
    def counted(self) -> Tensor | None:
        """bool (B, 1, *spatial), True = counts, or None where every voxel does."""
        if self.mask is not None or self.by_class:
            has_ignored = self.target.shape[1] > self.classes
            return self.target[:, self.classes :] == 0 if has_ignored else self.mask
        return None if self.ignore_label is None else self.target != self.ignore_label

    @cached_property
    def label(self) -> Tensor:
        """bool (B, F, *spatial): the voxels of each class, without those that do not count."""
        if self.by_class:
            label = self.target[:, : self.classes]
            label = label if label.dtype == torch.bool else label > 0
        elif self.classes == 1:
            label = self.target == 1
        else:
            label = self.target == torch.arange(1, self.classes + 1, device=self.target.device).reshape(
                -1, *[1] * (self.target.ndim - 2)
            )
        return label if self.counted is None else label & self.counted


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
