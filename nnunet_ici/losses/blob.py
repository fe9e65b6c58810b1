"""Blob loss: for every label instance, a Dice loss over the whole image with the other instances masked out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances import Source
from nnunet_ici.instances.segments import segment_sum, take
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.found import FoundInstances, find
from nnunet_ici.losses.inner import entropy
from nnunet_ici.losses.ranks import divisors
from nnunet_ici.settings import LOSSES, TermSettings, term_settings

__all__ = ["BlobLoss", "blob_loss", "blob_losses"]

WEIGHTS = LOSSES["nnUNetTrainerBlob"].weights
NO_PREDICTIONS = 2.0  # threshold above every probability: only label instances are needed


def blob_losses(found: FoundInstances, settings: TermSettings) -> Tensor:
    """(Z,): inner loss of each label instance, over its image without the other label instances."""
    instances = found.instances
    source = instances.source
    counted = ~source.label if source.counted is None else ~source.label & source.counted
    background = counted.flatten(0, 1)

    def over_background(values: Tensor) -> Tensor:
        """(Z,): for each label instance, the sum over the background of its image."""
        of_image = torch.where(background, values.flatten(0, 1), 0).flatten(1).sum(1, dtype=instances.zero.dtype)
        return take(of_image, instances.label_image)

    loss = torch.zeros_like(instances.prob.label)
    if settings.has_dice:
        inside, size = instances.prob.label, instances.voxels.label
        wrong = over_background(source.prob)
        loss = loss + 1 - (2 * inside + settings.smooth) / (inside + wrong + size + settings.smooth)
    if settings.has_entropy:
        voxels = instances.voxels.label + background.flatten(1).sum(1)[instances.label_image]
        wrong = over_background(entropy(source.prob, source.label, settings.inner))
        loss = loss + (found.entropy_sums(settings.inner).label + wrong) / voxels
    return loss


def _blob_term(source: Source, settings: TermSettings, over_ranks: bool = False) -> Tensor:
    """:func:`blob_loss` for a source."""
    found = find(source, NO_PREDICTIONS, over_ranks)
    image, images = found.instances.label_image, source.images[0]
    of_image = segment_sum(torch.ones_like(image), image, images)
    means = segment_sum(blob_losses(found, settings), image, images) / of_image.clamp(min=1)
    with_instance = (of_image > 0).reshape(-1, found.classes).sum(0)
    return found.over_classes(means.reshape(-1, found.classes).sum(0) / divisors(with_instance, over_ranks))


@torch.compiler.disable
def blob_loss(prob: Tensor, target: Tensor, mask: Tensor | None = None, **settings: Any) -> Tensor:
    r"""Dice loss of each label instance G_n over the image without the other label instances.

    .. math:: L_n = 1 - \frac{2 I_n + \epsilon}{I_n + \sum_{y = 0} p + |G_n| + \epsilon}

    where I_n is the sum of p over G_n. The mean runs over the instances of an image, then over the images of the
    mini-batch that contain an instance. Each class is treated separately, then the classes are averaged.

    Source: Kofler et al., blob loss, 2022. Every false-positive voxel of an image counts against each of its instances.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        **settings: ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`. A cross-entropy as inner
            loss is averaged over the same voxels.

    Returns:
        A scalar, in [0, 1] for Dice. Without label instances it is 0 and stays attached to the graph.

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1, 1] = target[0, 0, 4:7, 4:7] = True  # one voxel, nine voxels
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 4:7, 4:7] = 1  # the small one is missed
        >>> _ = prob.requires_grad_()
        >>> loss = blob_loss(prob, target)
        >>> loss.backward()
        >>> round(loss.item(), 3), bool(prob.grad[0, 0, 1, 1] < 0)
        (0.5, True)
    """
    return _blob_term(Source.of_prob(prob, target, mask), term_settings(["blob"], settings))


class BlobLoss(CompoundLoss):
    r"""A global loss plus :func:`blob_loss`.

    .. math:: L = \alpha L_{global} + \beta L_{blob}

    Source: Kofler et al., 2022, with the paper's alpha = 2 and beta = 1.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: alpha.
        term_weight: beta.
        inner: loss of one instance, as for :func:`blob_loss`.
        smooth: eps.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = WEIGHTS["global_weight"],
        term_weight: float = WEIGHTS["term_weight"],
        *,
        inner: str = TermSettings.inner,
        smooth: float = TermSettings.smooth,
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"blob": term_weight}, **options)
        self.settings = TermSettings(inner=inner, smooth=smooth)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        return {"blob": _blob_term(source, self.settings, self.over_ranks)}, None
