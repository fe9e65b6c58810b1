"""The instances of a mini-batch, found once for all terms, and means over instances, images and classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nnunet_ici.instances import Instances, PartSums, Source, find_instances
from nnunet_ici.instances.segments import segment_sum
from nnunet_ici.losses.inner import entropy
from nnunet_ici.losses.ranks import divisors, sum_over_ranks

__all__ = ["FoundInstances", "find"]


@dataclass(frozen=True, eq=False)
class FoundInstances:
    """Instances, and the means from which terms are computed: per class over the mini-batch, then over the classes.

    Attributes:
        instances: instances of all images; image b * C + c is class c of sample b.
        over_ranks: whether means run over all ranks of a distributed training. Every rank must then make the same
            calls.
    """

    instances: Instances
    over_ranks: bool = False
    _entropies: dict[str, PartSums] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> int:
        """C, the number of classes without the background."""
        return self.instances.source.classes

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the loss: float64 for float64 network outputs or probabilities, otherwise float32."""
        return torch.float64 if self.instances.source.x.dtype == torch.float64 else torch.float32

    def sum_by_class(self, values: Tensor, image: Tensor) -> Tensor:
        """Sum values over each class.

        Args:
            values: (I,), one value per instance or image.
            image: int64 (I,), image index of each value.

        Returns:
            (C,), dtype of ``values``.
        """
        if self.classes == 1:
            return values.sum()[None]
        return segment_sum(values, image % self.classes, self.classes)

    def count_by_class(self, image: Tensor) -> Tensor:
        """int64 (C,): number of entries of each class, for image indices int64 (I,)."""
        return self.sum_by_class(torch.ones_like(image), image)

    @cached_property
    def _divisors(self) -> Tensor:
        """float (3, C): divisors for means over the label instances, predicted instances and images of each class."""
        found = self.instances
        images = torch.arange(found.source.images[0], device=found.label_image.device)
        counts = [self.count_by_class(image) for image in (found.label_image, found.pred_image, images)]
        return divisors(torch.stack(counts), self.over_ranks)

    def mean_over_labels(self, values: Tensor) -> Tensor:
        """Mean of values (Z,) over the label instances, a scalar."""
        return self.over_classes(self.sum_by_class(values, self.instances.label_image) / self._divisors[0])

    def mean_over_preds(self, values: Tensor) -> Tensor:
        """Mean of values (M,) over the predicted instances, a scalar."""
        return self.over_classes(self.sum_by_class(values, self.instances.pred_image) / self._divisors[1])

    def mean_over_images(self, values: Tensor) -> Tensor:
        """Mean of values (N,) over the images, a scalar."""
        sums = values.reshape(-1, self.classes).sum(0)
        return self.over_classes(sums / self._divisors[2])

    def total_by_class(self, values: Tensor, image: Tensor) -> Tensor:
        """:meth:`sum_by_class`, summed over all ranks if ``over_ranks`` is set; differentiable."""
        sums = self.sum_by_class(values, image)
        return sum_over_ranks(sums) if self.over_ranks else sums

    def over_classes(self, values: Tensor) -> Tensor:
        """Mean of values (C,) over the classes: a scalar in the dtype of the loss, attached to the graph."""
        return (values.mean() + self.instances.zero).to(self.dtype)

    def entropy_sums(self, inner: str) -> PartSums:
        """Sums of :func:`~nnunet_ici.losses.inner.entropy` over the instances, cached for other terms."""
        if inner not in self._entropies:
            source = self.instances.source
            self._entropies[inner] = self.instances.sums(entropy(source.prob, source.label, inner))
        return self._entropies[inner]


def find(source: Source, threshold: float, over_ranks: bool = False) -> FoundInstances:
    """Find the instances of label and prediction, with differentiable sums of the probability over them.

    Args:
        source: probabilities or logits, and a target.
        threshold: threshold of the predicted instances, the components of ``p >= threshold``; above 1 there are none.
        over_ranks: see :class:`FoundInstances`.
    """
    return FoundInstances(find_instances(source, threshold), over_ranks)
