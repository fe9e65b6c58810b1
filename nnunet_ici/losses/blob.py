"""Blob loss: a Dice over the whole image for every label instance, the others masked out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.table import segment_sum
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.found import FoundInstances, find
from nnunet_ici.losses.inner import check_inner, has_dice, has_entropy
from nnunet_ici.losses.network_output import split_classes
from nnunet_ici.losses.ranks import divisors

__all__ = ["BlobLoss", "blob_loss"]

NO_PREDICTIONS = 2.0  # a threshold that nothing reaches: only label instances are wanted


def _blob_term(found: FoundInstances, smooth: float, inner: str) -> Tensor:
    """:func:`blob_loss` on the label instances."""
    table = found.table
    counted = ~found.target if found.mask is None else ~found.target & found.mask
    background = counted.flatten(0, 1)

    def over_background(values: Tensor) -> Tensor:
        """(Z,): the sum over the background of the image each label instance lies in."""
        of_image = torch.where(background, values.flatten(0, 1), 0).flatten(1).sum(1, dtype=found.sums.dtype)
        return of_image.index_select(0, table.label_image)

    loss = torch.zeros_like(table.label_size, dtype=found.sums.dtype)
    if has_dice(inner):
        inside = table.sum_by_label(found.sums)
        top = 2 * inside + smooth
        loss = loss + 1 - top / (inside + over_background(found.prob) + table.label_size + smooth)
    if has_entropy(inner):
        wrong = over_background(found.entropy(inner))
        voxels = table.label_size + background.flatten(1).sum(1).index_select(0, table.label_image)
        loss = loss + (table.sum_by_label(found.entropy_sums(inner)) + wrong) / voxels

    images = table.shape[0]
    of_image = torch.bincount(table.label_image, minlength=images)
    means = segment_sum(loss, table.label_image, images) / of_image.clamp(min=1)
    with_instance = (of_image > 0).reshape(-1, found.classes).sum(0)
    of_class = means.reshape(-1, found.classes).sum(0) / divisors(with_instance, found.over_ranks).to(means.dtype)
    return (of_class.mean() + found.zero).to(found.dtype)


@torch.compiler.disable
def blob_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, smooth: float = 1e-5, inner: str = "dice"
) -> Tensor:
    r"""Dice loss of each label instance G_n over the image without the other label instances.

    .. math:: L_n = 1 - \frac{2 I_n + \epsilon}{I_n + \sum_{y = 0} p + |G_n| + \epsilon}

    with I_n the sum of p over G_n. The mean runs over the instances of an image, then over the images of the mini-batch
    that have one, for each class; classes are averaged.

    Source: Kofler et al., blob loss, 2022. Every false voxel counts against every instance, wherever it lies.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts.
        smooth: eps.
        inner: "dice"; or "bce", "focal" (gamma 2) or "dice_ce" (their sum, with the plain one), of which the
            cross-entropy is a mean over the same voxels.

    Returns:
        A scalar, in [0, 1] for the Dice; without label instances 0, with a live graph.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or inner loss.

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
    check_inner(inner)
    return _blob_term(find(prob, target, mask, NO_PREDICTIONS), smooth, inner)


class BlobLoss(CompoundLoss):
    r"""Blob loss on top of a global loss.

    .. math:: L = \alpha L_{global} + \beta L_{blob}

    Source: Kofler et al., 2022, with their alpha = 2, beta = 1.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: alpha.
        blob_weight: beta.
        smooth: eps.
        inner: the loss of one instance, as for :func:`blob_loss`.
        **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = 2.0,
        blob_weight: float = 1.0,
        *,
        smooth: float = 1e-5,
        inner: str = "dice",
        **options: Any,
    ) -> None:
        check_inner(inner)
        super().__init__(global_loss, global_weight, {"blob": blob_weight}, **options)
        self.smooth, self.inner = smooth, inner

    def compute_terms(self, net_output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], None]:
        given = split_classes(net_output, target, self.ignore_label)
        return {"blob": _blob_term(find(*given, NO_PREDICTIONS, self.over_ranks), self.smooth, self.inner)}, None
