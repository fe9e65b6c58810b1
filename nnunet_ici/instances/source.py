"""The input of the instance search: network outputs or probabilities, and a target."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_ici.checks import Once, check_case, check_network_output, check_range

__all__ = ["Source", "activate", "plain"]


@dataclass(frozen=True, eq=False)
class Source:
    """Probabilities or logits with their target, unprocessed.

    :meth:`of_network` and :meth:`of_prob` check their arguments and construct a source.

    Attributes:
        x: floating point, 2D or 3D: probabilities or region logits (B, F, *spatial), or softmax logits
            (B, F + 1, *spatial) with the background as channel 0.
        target: label map (B, 1, *spatial) with the classes 1..F, of any integer or floating-point dtype; or, with
            ``by_class``, bool or 0/1 (B, F, *spatial), or (B, F + 1, *spatial) with the ignored voxels as last channel.
        activation: "none", "sigmoid" or "softmax".
        by_class: whether the target has one channel per class.
        mask: bool (B, 1, *spatial), False for ignored voxels, or None.
        ignore_label: label of ignored voxels in a label map, or None.
    """

    x: Tensor
    target: Tensor
    activation: str
    by_class: bool
    mask: Tensor | None = None
    ignore_label: int | None = None

    @classmethod
    def of_network(cls, net_output: Tensor, target: Tensor, ignore_label: int | None) -> Source:
        """A source from the arguments that nnU-Net passes to a loss.

        Args:
            net_output: logits (B, C, *spatial), 2D or 3D, floating point.
            target: label map or regions, see :func:`~nnunet_ici.checks.check_network_output`.
            ignore_label: label of ignored voxels in a label map, or None.

        Raises:
            TypeError: if ``net_output`` is not floating-point.
            ValueError: if ``net_output`` is neither 2D nor 3D, or the target has neither form.
        """
        if check_network_output(net_output, target):
            return cls(net_output, target, "softmax", by_class=False, ignore_label=ignore_label)
        return cls(net_output, target, "sigmoid", by_class=True)

    @classmethod
    def of_prob(cls, prob: Tensor, target: Tensor, mask: Tensor | None = None, caller: Hashable = None) -> Source:
        """A source from probabilities.

        Args:
            prob: floating point (B, F, *spatial), 2D or 3D, in [0, 1].
            target: bool, same shape as ``prob``.
            mask: bool (B, 1, *spatial), False for ignored voxels.
            caller: the values of ``prob`` are checked once for each caller, shape, dtype and device.

        Raises:
            TypeError: if a dtype is wrong.
            ValueError: if a shape is wrong, or a probability lies outside [0, 1].
        """
        check_case(prob, target, mask)
        prob, target = plain(prob), plain(target)
        _once(lambda: check_range(prob.detach()), prob, caller=caller)
        return cls(prob, target, "none", by_class=True, mask=mask)

    @property
    def classes(self) -> int:
        """F, the number of classes without the background."""
        return self.x.shape[1] - (self.activation == "softmax")

    @property
    def images(self) -> tuple[int, ...]:
        """(N, *spatial), with N = B * F: image b * F + f is class f of sample b."""
        return (self.x.shape[0] * self.classes, *self.x.shape[2:])

    @cached_property
    def prob(self) -> Tensor:
        """Probability of each class, (B, F, *spatial), differentiable; float32, or float64 for float64 ``x``."""
        with torch.enable_grad():  # the cached value needs its graph even if the first access is under no_grad
            return activate(self.x, self.activation)

    @cached_property
    def counted(self) -> Tensor | None:
        """bool (B, 1, *spatial), False for ignored voxels; None if no voxel is ignored."""
        if self.mask is not None or self.by_class:
            has_ignored = self.target.shape[1] > self.classes
            return self.target[:, self.classes :] == 0 if has_ignored else self.mask
        return None if self.ignore_label is None else self.target != self.ignore_label

    @cached_property
    def label(self) -> Tensor:
        """bool (B, F, *spatial): the voxels of each class, without ignored ones."""
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


_once = Once()


def plain(x: Tensor) -> Tensor:
    """The tensor without its subclass, such as MONAI's MetaTensor; differentiable."""
    return x if type(x) is Tensor else x.as_subclass(Tensor)


def activate(x: Tensor, activation: str) -> Tensor:
    """Probability of each class (B, F, *spatial), see the attributes of :class:`Source`; float32, or float64 for
    float64 ``x``."""
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    if activation == "none":
        return x
    if activation == "sigmoid":
        return torch.sigmoid(x)
    prob: Tensor = _BinarySoftmax.apply(x) if x.shape[1] == 2 else torch.softmax(x, 1)[:, 1:]
    return prob


class _BinarySoftmax(torch.autograd.Function):
    """Foreground probability of a two-class softmax: the sigmoid of the logit difference.

    Autograd would allocate one gradient per channel and then concatenate them; this backward writes both in place.
    """

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
