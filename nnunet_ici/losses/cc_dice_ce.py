"""CC-DiceCE: Dice and cross-entropy in the Voronoi region of each label instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_ici.instances import Source, label_components
from nnunet_ici.instances.distance import nearest_instance
from nnunet_ici.instances.entropy import entropy
from nnunet_ici.instances.segments import flat_nonzero, segment_sum, take, widest_float
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.ranks import divisors
from nnunet_ici.settings import LOSSES

__all__ = ["CCDiceCELoss", "cc_dice_ce_loss"]

WEIGHTS = LOSSES["nnUNetTrainerCCDiceCE"].weights
SMALLEST = 1e-7  # of a denominator of the Dice


def _cc_dice_ce_term(source: Source, over_ranks: bool = False) -> Tensor:
    """:func:`cc_dice_ce_loss` for a source."""
    prob, label, counted = source.prob, source.label, source.counted
    with torch.no_grad():
        ids, instances = label_components(label.flatten(0, 1))
        in_image = instances.clamp(min=1)  # regions of each image
        # Regions are numbered from 1 over all images; 0: ignored.
        first = (in_image.cumsum(0) - in_image).to(torch.int32).reshape(-1, *[1] * (ids.ndim - 1))
        region = (nearest_instance(ids).clamp(min=1) + first).reshape(prob.shape)
        if counted is not None:
            region = torch.where(counted, region, 0)
        region, count = region.reshape(-1), int(in_image.sum()) + 1
        on_label = flat_nonzero(label)
        of_label = region[on_label]
        size, voxels = (torch.bincount(of, minlength=count)[1:] for of in (of_label, region))
        images = divisors(in_image.new_full((), len(in_image)), over_ranks)
        share = 1 / (in_image.repeat_interleave(in_image) * images)  # of each region in the loss

    def over_regions(values: Tensor, of: Tensor = region) -> Tensor:
        return segment_sum(values.reshape(-1).to(widest_float(values.device)), of, count)[1:]

    inside = over_regions(take(prob.reshape(-1), on_label), of_label)
    dice = 1 - 2 * inside / (over_regions(prob) + size).clamp(min=SMALLEST)
    mean_entropy = over_regions(_cross_entropy(source)) / voxels.clamp(min=1)
    return (((dice + mean_entropy) * share).sum() + 0 * prob.sum()).to(prob.dtype)


def _cross_entropy(source: Source) -> Tensor:
    """Binary cross-entropy of every voxel, (B, C, *spatial), from the logits if there are any: the float32 probability
    of a logit above 17 is 1."""
    label, x = source.label, source.x.to(source.prob.dtype)
    if source.activation == "none":
        return entropy(x, label, "bce")
    if source.activation == "softmax" and x.shape[1] == 2:
        x = x[:, 1:] - x[:, :1]
    elif source.activation == "softmax":
        others = [torch.cat([x[:, :c], x[:, c + 1 :]], 1).logsumexp(1) for c in range(1, x.shape[1])]
        x = x[:, 1:] - torch.stack(others, 1)
    return F.binary_cross_entropy_with_logits(x, label.to(x.dtype), reduction="none")


@torch.compiler.disable
def cc_dice_ce_loss(prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Sum of Dice loss and cross-entropy in the Voronoi region R_n of each label instance, averaged.

    .. math::
        L_n = 1 - \frac{2 \sum_{R_n} p y}{\sum_{R_n} p + \sum_{R_n} y} + \mathrm{mean}_{R_n} CE(p, y)

    R_n contains the voxels that are nearer to label instance G_n than to any other instance, by exact Euclidean
    distance in voxels. The mean runs over the regions of an image, then over the images. An image without an instance
    is a single region. Each class is treated separately, as such a binary problem, then the classes are averaged.

    Source: Bouteille et al., CC-DiceCE, 2025 (arXiv 2511.17146), and the authors' code
    (ossner/Learning-to-Look-Closer), which is binary and 3D, and clamps p at 1e-7 in the cross-entropy.
    :class:`CCDiceCELoss` computes the cross-entropy from logits, without a limit.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.

    Returns:
        A scalar. Without label instances it is 1 (the Dice loss) plus the mean cross-entropy.

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
    return _cc_dice_ce_term(Source.of_prob(prob, target, mask, "cc_dice_ce_loss"))


class CCDiceCELoss(CompoundLoss):
    """A global loss plus :func:`cc_dice_ce_loss`.

    Source: Bouteille et al., 2025. The weights (1, 1) are those of the published ``nnUNetTrainerGlobalCCDiceCE``.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: weight of the global loss.
        term_weight: weight of :func:`cc_dice_ce_loss`.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = WEIGHTS["global_weight"],
        term_weight: float = WEIGHTS["term_weight"],
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"cc_dice_ce": term_weight}, **options)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        return {"cc_dice_ce": _cc_dice_ce_term(source, self.over_ranks)}, None
