"""The dual term of the DICI loss: a Dice for every predicted instance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances, InstanceTerm, term_of
from nnunet_ici.losses.fused import FusedSettings

__all__ = ["PredictedInstanceLoss", "predicted_instance_loss", "predicted_instance_term"]


def predicted_instance_term(found: FoundInstances, smooth: float = 1e-5) -> Tensor:
    """:func:`predicted_instance_loss` on instances already found."""
    table = found.table
    total = table.sum_by_pred(found.sums)
    true = table.sum_by_pred(torch.where(table.cell_label > 0, found.sums, 0))
    touched_size = table.pred_size.new_zeros(len(table.pred_image))
    touched_size = touched_size.index_add(0, table.pair_pred - 1, table.label_size[table.pair_label - 1])
    touching = 1 - (2 * true + smooth) / (total + touched_size + smooth)
    loss = torch.where(table.pred_is_hit, touching, total / table.pred_size)
    return found.mean_over_instances(loss, table.pred_image)


@torch.compiler.disable
def predicted_instance_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = 0.5, smooth: float = 1e-5
) -> Tensor:
    r"""Dice loss of each predicted instance P_m against the label instances that touch it, averaged.

    .. math::
        L_m = 1 - \frac{2 \sum_{P_m, y = 1} p + \epsilon}{\sum_{P_m} p + |\bigcup S(m)| + \epsilon}
        \quad\text{or, where no label is touched,}\quad L_m = \mathrm{mean}_{P_m}\, p

    with :math:`|\bigcup S(m)|` the size of all label instances that touch P_m, whole. The mean runs over the predicted
    instances of the mini-batch, for each class; classes are averaged.

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. The whole size of the touched instances follows the authors'
    code (0.654472 on their example blobs). A false instance is 1 there whatever its probability, which teaches nothing;
    its mean probability is 1 on a binary prediction as well, and has a gradient, in label-free images too.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts.
        threshold: P_m are the components of ``prob >= threshold``.
        smooth: eps.

    Returns:
        A scalar in [0, 1]; without predicted instances 0, with a live graph.

    Raises:
        TypeError, ValueError: for a wrong dtype or shape.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)  # nothing to find
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 2:4, 2:4] = 0.75
        >>> _ = prob.requires_grad_()
        >>> loss = predicted_instance_loss(prob, target)
        >>> loss.backward()
        >>> loss.item(), prob.grad[0, 0, 2, 2].item()
        (0.75, 0.25)
    """
    settings = FusedSettings(smooth=smooth, center=False)
    return term_of(
        "predicted", settings, partial(predicted_instance_term, smooth=smooth), prob, target, mask, threshold
    )


class PredictedInstanceLoss(InstanceTerm):
    """The module of :func:`predicted_instance_loss`.

    Args:
        smooth: eps.
        threshold: a number, or a (low, high) range drawn from at each call in training mode (0.5 in evaluation mode).
        seed: of the draws.
    """

    def __init__(self, smooth: float = 1e-5, threshold: float | Sequence[float] = 0.5, seed: int = 0) -> None:
        super().__init__(smooth, threshold, seed)

    def loss(self, prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float) -> Tensor:
        return predicted_instance_loss(prob, target, mask, threshold=threshold, smooth=self.smooth)
