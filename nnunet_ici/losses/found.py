"""What every term reads: the instances of a mini-batch and the probabilities summed over their parts, found once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from nnunet_ici.checks import check_case
from nnunet_ici.instances import InstanceTable, cell_sums, find_instances
from nnunet_ici.losses.fused import TERMS, FusedInput, FusedSettings, fused_terms, is_fused
from nnunet_ici.losses.inner import entropy
from nnunet_ici.losses.ranks import divisors
from nnunet_ici.losses.threshold import Threshold

__all__ = ["FoundInstances", "InstanceTerm", "find", "term_of"]


@dataclass(frozen=True)
class FoundInstances:
    """The instances of prob (B, C, *spatial) and its target.

    Attributes:
        table: the instances of the B * C images; image b * C + c is class c of sample b.
        classes: C.
        sums: (L,), differentiable: the sum of p in each cell of the table.
        zero: scalar, differentiable: ``0 * sum(p)``, the value of a term without instances.
        prob, target: what was searched; the target without ignored voxels.
        mask: bool (B, 1, *spatial), True = counts, or None.
        over_ranks: whether Z, M and the number of images are those of all ranks of a distributed training.
    """

    table: InstanceTable
    classes: int
    sums: Tensor
    zero: Tensor
    prob: Tensor
    target: Tensor
    mask: Tensor | None = None
    over_ranks: bool = False
    _entropies: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the loss."""
        return self.prob.dtype

    @cached_property
    def _divisors(self) -> Tensor:
        """float64 (3, C): label instances, predicted instances and images of each class, at least 1.

        Over ranks: the sums of all, shared among the ranks, as the mean of their losses and gradients is what counts.
        """
        images = torch.arange(self.table.shape[0], device=self.table.label_image.device)
        of_images = (self.table.label_image, self.table.pred_image, images)
        counts = torch.stack([torch.bincount(image % self.classes, minlength=self.classes) for image in of_images])
        return divisors(counts, self.over_ranks)

    @property
    def counts(self) -> Tensor:
        """int64 (4,): label, missed, predicted and false instances of the batch."""
        label, pred = self.table.label_is_hit, self.table.pred_is_hit
        missed, false = (~label).sum(), (~pred).sum()
        return torch.stack([missed.new_tensor(len(label)), missed, false.new_tensor(len(pred)), false])

    def entropy_sums(self, inner: str) -> Tensor:
        """(L,), differentiable: the sum in each cell of :func:`~nnunet_ici.losses.inner.entropy`."""
        return cell_sums(self.entropy(inner), self.table)[0]

    def entropy(self, inner: str) -> Tensor:
        """(B, C, *spatial), differentiable: :func:`~nnunet_ici.losses.inner.entropy`, once for all terms that ask."""
        if inner not in self._entropies:
            self._entropies[inner] = entropy(self.prob, self.target, inner)
        return self._entropies[inner]

    def mean_over_instances(self, per_instance: Tensor, image: Tensor) -> Tensor:
        """Mean of values (I,) over the instances of each class in the mini-batch, then over the classes.

        Args:
            per_instance: (I,), one value an instance.
            image: int64 (I,), the image each lies in: ``table.label_image`` or ``table.pred_image``.

        Returns:
            A scalar of the loss's dtype; a class without an instance counts as 0.
        """
        sums = per_instance.new_zeros(self.classes).index_add(0, image % self.classes, per_instance)
        counts = self._divisors[1 if image is self.table.pred_image else 0].to(sums.dtype)
        return ((sums / counts).mean() + self.zero).to(self.dtype)

    def mean_over_images(self, per_image: Tensor) -> Tensor:
        """Mean of values (N,) over the images of each class, then over the classes: a scalar of the loss's dtype."""
        if len(per_image) == 0:
            return (per_image.sum() + self.zero).to(self.dtype)
        sums = per_image.reshape(-1, self.classes).sum(0)
        return ((sums / self._divisors[2].to(sums.dtype)).mean() + self.zero).to(self.dtype)


def find(
    prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float, over_ranks: bool = False
) -> FoundInstances:
    """Find the instances of label and prediction, and sum p over their parts.

    Args:
        prob: (B, C, *spatial), 2D or 3D, foreground probabilities in [0, 1], each class on its own; half precision is
            read as float32, float64 stays.
        target: bool, the shape of ``prob``.
        mask: bool (B, 1, *spatial), True = counts; voxels outside belong to no instance, of label or prediction.
        threshold: predicted instances are the components of ``prob >= threshold``; above 1 there are none.
        over_ranks: count instances over all ranks of a distributed training, each of which has to call.

    Raises:
        TypeError, ValueError: for another dtype or shape.
    """
    check_case(prob, target, mask)
    if prob.dtype not in (torch.float32, torch.float64):
        prob = prob.float()
    predicted = prob.detach() >= threshold
    if mask is not None:
        target, predicted = target & mask, predicted & mask
    table = find_instances(target.flatten(0, 1), predicted.flatten(0, 1))
    sums, zero = cell_sums(prob, table)
    return FoundInstances(table, prob.shape[1], sums, zero, prob, target, mask, over_ranks)


def term_of(
    name: str,
    settings: FusedSettings | None,
    term: Callable[[FoundInstances], Tensor],
    prob: Tensor,
    target: Tensor,
    mask: Tensor | None,
    threshold: float,
) -> Tensor:
    """A single term: on CUDA by the fused kernels, elsewhere from the table of instances.

    Args:
        name: of the term, one of :data:`~nnunet_ici.losses.fused.TERMS`.
        settings: for the kernels, or None where they do not have it.
        term: the same, from instances already found.
        prob, target, mask, threshold: as for :func:`find`.

    Raises:
        TypeError, ValueError: as :func:`find`.
    """
    check_case(prob, target, mask)
    if settings is not None and is_fused(prob, settings):
        return fused_terms(FusedInput(prob, target, "none", True, mask), threshold, settings)[0][TERMS.index(name)]
    return term(find(prob, target, mask, threshold))


class InstanceTerm(nn.Module):
    """A term of the loss over instances: ``term(prob, target, mask=None)``.

    Subclasses give :meth:`loss`, the function they are the module of.

    Args:
        smooth: eps in numerator and denominator.
        threshold: a number, or a (low, high) range drawn from at each call in training mode (0.5 in evaluation mode).
        seed: of the draws.
    """

    def __init__(self, smooth: float, threshold: float | Sequence[float], seed: int) -> None:
        super().__init__()
        self.smooth = smooth
        self.threshold = Threshold(threshold, seed)

    @torch.compiler.disable
    def forward(self, prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The term's value, a scalar: float32, or float64 for float64 probabilities.

        Args:
            prob: (B, C, *spatial), 2D or 3D, in [0, 1].
            target: bool, the same shape.
            mask: bool (B, 1, *spatial), True = counts.

        Raises:
            TypeError: ``prob`` not floating-point, ``target`` or ``mask`` not bool.
            ValueError: a wrong shape.
        """
        return self.loss(prob, target, mask, self.threshold(self.training))

    def loss(self, prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float) -> Tensor:
        """The function, with the settings of the module."""
        raise NotImplementedError

    def get_extra_state(self) -> dict[str, int]:
        return self.threshold.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.threshold.load_state_dict(state)

    def extra_repr(self) -> str:
        return f"smooth={self.smooth}, threshold={self.threshold}"
