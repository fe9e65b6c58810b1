"""CC-DiceCE: Dice and cross-entropy in the Voronoi region of each label instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances import Source, label_components
from nnunet_ici.instances.cells import sum_by_region
from nnunet_ici.instances.distance import nearest_instance
from nnunet_ici.instances.entropy import entropy
from nnunet_ici.instances.segments import flat_nonzero, segment_sum
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.ranks import divisors
from nnunet_ici.settings import LOSSES, SMOOTH

__all__ = ["CCDiceCELoss", "cc_dice_ce_loss"]

WEIGHTS = LOSSES["nnUNetTrainerCCDiceCE"].weights


def _cc_dice_ce_term(source: Source, smooth: float, over_ranks: bool = False) -> Tensor:
    """:func:`cc_dice_ce_loss` for a source."""
    prob, label, counted = source.prob, source.label, source.counted
    with torch.no_grad():
        ids, counts = label_components(label.flatten(0, 1))
        region = nearest_instance(ids)
        # Regions are numbered over all images; an image without an instance stays 0 everywhere.
        first = torch.where(counts > 0, counts.cumsum(0) - counts, 0).to(torch.int32)
        region += first.reshape(-1, *[1] * (ids.ndim - 1))
        if counted is not None:
            region = torch.where(counted, region.reshape(prob.shape), 0)
        region = region.reshape(-1)
        of_class = torch.arange(len(counts), device=counts.device).repeat_interleave(counts) % source.classes
        regions = len(of_class) + 1  # region 0: no instance in the image, or ignored
        on_label = flat_nonzero(label)
        of_label = region.index_select(0, on_label)
        labelled, voxels = (torch.bincount(of, minlength=regions)[1:] for of in (of_label, region))

    inside = sum_by_region(prob, of_label, regions, on_label)[1:]
    dice = 1 - (2 * inside + smooth) / (sum_by_region(prob, region, regions)[1:] + labelled + smooth)
    mean_entropy = sum_by_region(entropy(prob, label, "bce"), region, regions)[1:] / voxels.clamp(min=1)
    sums = segment_sum(dice + mean_entropy, of_class, source.classes)
    number = divisors(torch.bincount(of_class, minlength=source.classes), over_ranks)
    return ((sums / number).mean() + 0 * prob.sum()).to(prob.dtype)


@torch.compiler.disable
def cc_dice_ce_loss(prob: Tensor, target: Tensor, mask: Tensor | None = None, *, smooth: float = SMOOTH) -> Tensor:
    r"""Sum of Dice loss and cross-entropy in the Voronoi region R_n of each label instance, averaged.

    .. math::
        L_n = 1 - \frac{2 \sum_{R_n} p y + \epsilon}{\sum_{R_n} p + \sum_{R_n} y + \epsilon}
              + \mathrm{mean}_{R_n} CE(p, y)

    R_n contains the voxels that are nearer to label instance G_n than to any other instance, by exact Euclidean
    distance in voxels. The mean runs over the regions of the mini-batch. Each class is treated separately, then the
    classes are averaged.

    Source: Bouteille et al., CC-DiceCE, 2025 (arXiv 2511.17146). Here the cross-entropy is binary for each class; for a
    two-class softmax it equals the paper's. An image without an instance has no region and contributes to the global
    loss only.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        smooth: eps.

    Returns:
        A scalar. Without label instances it is 0 and stays attached to the graph.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
        >>> target[0, 0, 0, 0] = target[0, 0, 5, 5] = True
        >>> prob = torch.full((1, 1, 6, 6), 0.5, requires_grad=True)
        >>> loss = cc_dice_ce_loss(prob, target)
        >>> loss.backward()
        >>> bool(prob.grad[0, 0, 0, 0] < 0), bool(prob.grad[0, 0, 2, 2] > 0)
        (True, True)
    """
    return _cc_dice_ce_term(Source.of_prob(prob, target, mask), smooth)


class CCDiceCELoss(CompoundLoss):
    """A global loss plus :func:`cc_dice_ce_loss`.

    Source: Bouteille et al., 2025. The weights (1, 1) are our choice.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: weight of the global loss.
        term_weight: weight of :func:`cc_dice_ce_loss`.
        smooth: eps.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = WEIGHTS["global_weight"],
        term_weight: float = WEIGHTS["term_weight"],
        *,
        smooth: float = SMOOTH,
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"cc_dice_ce": term_weight}, **options)
        self.smooth = smooth

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        return {"cc_dice_ce": _cc_dice_ce_term(source, self.smooth, self.over_ranks)}, None
