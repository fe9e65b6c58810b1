"""The instances of a mini-batch, found once for all terms, and means over them."""

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
    """Instances with the means that terms are made of: over the mini-batch, for each class; then over the classes.

    Attributes:
        instances: the instances of all images; image b * C + c is class c of sample b.
        over_ranks: whether instances and images are counted over all ranks of a distributed training; every rank has
            to call then.
    """

    instances: Instances
    over_ranks: bool = False
    _entropies: dict[str, PartSums] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> int:
        """C."""
        return self.instances.source.classes

    @property
    def dtype(self) -> torch.dtype:
        """The loss's dtype: float64 for float64 outputs, else float32."""
        return torch.float64 if self.instances.source.x.dtype == torch.float64 else torch.float32

    def sum_by_class(self, values: Tensor, image: Tensor) -> Tensor:
        """Sums (C,) of values (I,) of instances, or images, that belong to the images ``image`` int64 (I,)."""
        if self.classes == 1:
            return values.sum()[None]
        return segment_sum(values, image % self.classes, self.classes)

    def count_by_class(self, image: Tensor) -> Tensor:
        """int64 (C,): how many of the images ``image`` int64 (I,) belong to each class."""
        return self.sum_by_class(torch.ones_like(image), image)

    @cached_property
    def _divisors(self) -> Tensor:
        """float (3, C): label instances, predicted instances and images of each class, at least 1."""
        found = self.instances
        images = torch.arange(found.source.images[0], device=found.label_image.device)
        counts = [self.count_by_class(image) for image in (found.label_image, found.pred_image, images)]
        return divisors(torch.stack(counts), self.over_ranks)

    def mean_over_labels(self, values: Tensor) -> Tensor:
        """The mean of values (Z,) over the label instances."""
        return self.over_classes(self.sum_by_class(values, self.instances.label_image) / self._divisors[0])

    def mean_over_preds(self, values: Tensor) -> Tensor:
        """The mean of values (M,) over the predicted instances."""
        return self.over_classes(self.sum_by_class(values, self.instances.pred_image) / self._divisors[1])

    def mean_over_images(self, values: Tensor) -> Tensor:
        """The mean of values (N,) over the images."""
        sums = values.reshape(-1, self.classes).sum(0)
        return self.over_classes(sums / self._divisors[2])

    def total_by_class(self, values: Tensor, image: Tensor) -> Tensor:
        """:meth:`sum_by_class`, over all ranks where instances are counted over them; differentiable."""
        sums = self.sum_by_class(values, image)
        return sum_over_ranks(sums) if self.over_ranks else sums

    def over_classes(self, values: Tensor) -> Tensor:
        """The mean of values (C,) over the classes: a scalar of the loss's dtype, with a live graph."""
        return (values.mean() + self.instances.zero).to(self.dtype)

    def entropy_sums(self, inner: str) -> PartSums:
        """Sums of :func:`~nnunet_ici.losses.inner.entropy`, computed once for all terms that ask."""
        if inner not in self._entropies:
            source = self.instances.source
            self._entropies[inner] = self.instances.sums(entropy(source.prob, source.label, inner))
        return self._entropies[inner]


def find(source: Source, threshold: float, over_ranks: bool = False) -> FoundInstances:
    """Find the instances of label and prediction, and sum the probabilities over their parts.

    Args:
        source: probabilities or logits, and a target.
        threshold: predicted instances are the components of ``p >= threshold``; above 1 there are none.
        over_ranks: count instances over all ranks of a distributed training; every rank has to call then.
    """
    return FoundInstances(find_instances(source, threshold), over_ranks)
