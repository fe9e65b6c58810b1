"""CC-DiceCE: Dice and cross-entropy in the Voronoi region of every label instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.checks import check_case
from nnunet_ici.instances import label_components
from nnunet_ici.instances.distance import nearest_instance
from nnunet_ici.instances.table import flat_nonzero, segment_sum, widest_float
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.inner import entropy
from nnunet_ici.losses.network_output import split_classes
from nnunet_ici.losses.ranks import divisors

__all__ = ["CCDiceCELoss", "cc_dice_ce_loss"]


@torch.compiler.disable
def cc_dice_ce_loss(
    prob: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    smooth: float = 1e-5,
    over_ranks: bool = False,
) -> Tensor:
    r"""Dice + cross-entropy in each region R_n of the image, averaged.

    .. math::
        L_n = 1 - \frac{2 \sum_{R_n} p y + \epsilon}{\sum_{R_n} p + \sum_{R_n} y + \epsilon}
              + \mathrm{mean}_{R_n} CE(p, y)

    R_n holds the voxels that are nearer to label instance G_n than to any other: a Voronoi region, exactly, by
    Euclidean distance in voxels. The mean runs over the regions of the mini-batch, for each class; classes are
    averaged.

    Source: Bouteille et al., CC-DiceCE, 2025 (arXiv 2511.17146). Each class on its own, so the cross-entropy is a
    binary one of its probability: for a softmax over two classes the same as theirs. An image without an instance has
    no region and counts nothing here; that is left to the global loss.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts.
        smooth: eps.
        over_ranks: count regions over all ranks of a distributed training, each of which has to call.

    Returns:
        A scalar; without label instances 0, with a live graph.

    Raises:
        TypeError, ValueError: for a wrong dtype or shape.

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
    check_case(prob, target, mask)
    if mask is not None:
        target = target & mask
    if prob.dtype not in (torch.float32, torch.float64):
        prob = prob.float()
    classes = prob.shape[1]
    with torch.no_grad():
        ids, counts = label_components(target.flatten(0, 1))
        region = nearest_instance(ids)
        # Counted on from image to image; an image without an instance stays 0 everywhere.
        first = torch.where(counts > 0, counts.cumsum(0) - counts, 0).to(torch.int32)
        region += first.reshape(-1, *[1] * (ids.ndim - 1))
        if mask is not None:
            region = torch.where(mask, region.reshape(prob.shape), 0)
        region = region.reshape(-1)
        of_class = torch.arange(len(counts), device=counts.device).repeat_interleave(counts) % classes
    regions = len(of_class) + 1  # region 0: no instance in the image, or ignored
    wide = widest_float(prob.device)

    def by_region(values: Tensor, of: Tensor) -> Tensor:
        return segment_sum(values.to(wide), of, regions)[1:]

    flat = prob.reshape(-1)
    on_label = flat_nonzero(target)
    inside = by_region(flat.index_select(0, on_label), region[on_label])
    labelled = torch.bincount(region[on_label], minlength=regions)[1:]
    dice = 1 - (2 * inside + smooth) / (by_region(flat, region) + labelled + smooth)
    voxels = torch.bincount(region, minlength=regions)[1:].clamp(min=1)
    mean_entropy = by_region(entropy(prob, target, "bce").reshape(-1), region) / voxels
    sums = segment_sum(dice + mean_entropy, of_class, classes)
    number = divisors(torch.bincount(of_class, minlength=classes), over_ranks).to(wide)
    return ((sums / number).mean() + 0 * prob.sum()).to(prob.dtype)


class CCDiceCELoss(CompoundLoss):
    """CC-DiceCE on top of a global loss, which sees the images without lesions.

    Source: Bouteille et al., 2025; the sum with weights (1, 1) is our setting.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: its weight.
        region_weight: that of :func:`cc_dice_ce_loss`.
        smooth: eps.
        **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = 1.0,
        region_weight: float = 1.0,
        *,
        smooth: float = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"cc_dice_ce": region_weight}, **options)
        self.smooth = smooth

    def compute_terms(self, net_output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], None]:
        given = split_classes(net_output, target, self.ignore_label)
        return {"cc_dice_ce": cc_dice_ce_loss(*given, smooth=self.smooth, over_ranks=self.over_ranks)}, None
