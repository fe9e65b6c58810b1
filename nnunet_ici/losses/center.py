"""The center term of the ICI loss: a Dice loss between maps of cubes at the centers of mass of the instances."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.cubes import half_widths
from nnunet_ici.instances.segments import segment_sum, take
from nnunet_ici.losses.found import FoundInstances
from nnunet_ici.losses.term import InstanceTerm, value_of_term
from nnunet_ici.settings import FIXED_THRESHOLD, TermSettings

__all__ = ["CenterLoss", "center_loss", "center_term", "values_of_cubes"]


def center_term(found: FoundInstances, settings: TermSettings) -> Tensor:
    """:func:`center_loss`, for instances that were found before."""
    instances = found.instances
    images, *spatial = instances.source.images
    value, order = values_of_cubes(found)
    halves = half_widths(settings.size, spatial, settings.reference_shape)
    elsewhere, in_label, in_pred = instances.cover_counts(order, halves)
    value = take(value, order)
    image = torch.cat([instances.label_image, instances.pred_image])[order]
    error = elsewhere * value + in_label * (1 - value)
    total = (in_label + in_pred).to(error.dtype)
    error_of_image, total_of_image = (segment_sum(sums, image, images) for sums in (error, total))
    return found.mean_over_images(error_of_image / (total_of_image + settings.smooth))


def values_of_cubes(found: FoundInstances) -> tuple[Tensor, Tensor]:
    """Value of each cube in the map O, and the order of the cubes by ascending value.

    Returns:
        Values (Z + M,), label instances first: the mean probability of a missed or false instance, 0 for a label
        instance that is hit, 1 for a predicted instance that touches a label. And the order of the cubes, int64
        (Z + M,).
    """
    instances = found.instances
    label_mean = instances.prob.label / instances.voxels.label
    pred_mean = instances.prob.pred / instances.voxels.pred
    live = torch.cat([label_mean, pred_mean])
    hit = torch.cat([instances.label_is_hit, instances.pred_is_hit])
    fixed = torch.cat([torch.zeros_like(label_mean), torch.ones_like(pred_mean)]).detach()
    # Fixed values of 0 and 1 rank below and above all others.
    order = torch.where(hit, 3 * fixed - 1, live.detach()).argsort(stable=True)
    return torch.where(hit, fixed, live), order


@torch.compiler.disable
def center_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Dice loss between two maps of the centers of the label and predicted instances.

    Each instance is drawn as a cube (a square in 2D) around ``floor(mean + 0.5)`` of its voxel coordinates, clipped at
    the image border. The map L is 1 on the cubes of the label instances. The map O takes the maximum of these values
    over the cubes that contain a voxel:

    - 1 for a predicted instance that touches a label,
    - its mean probability for a false predicted instance,
    - its mean probability for a missed label instance.

    .. math::
        L_{center} = \mathrm{mean}_{images} \frac{\sum O (1 - L) + \sum (1 - O) L}{\sum O_{bin} + \sum L + \epsilon}

    where O_bin is 1 on the cubes of the predicted instances.

    Source: Rachmadi et al., MIDL 2023, Eq. 4 and Algorithm 2. Size 7 is the best in their Table 5; the half widths on
    axes of different lengths follow the authors' code. On binary predictions this equals the paper's 1 - Dice. On
    probabilities, the map in the published code is constant and gives no gradient; the values in O are ours.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels; cubes may extend into them.
        threshold: threshold of the predicted instances, the components of ``prob >= threshold``.
        **settings: ``size``, ``reference_shape`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`.

    Returns:
        A scalar in [0, 1]. An image without any instance counts as 0. Without any instance the loss is 0 and stays
        attached to the graph.

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
        >>> target[0, 0, 3, 3] = True
        >>> prob = torch.zeros(1, 1, 16, 16)
        >>> prob[0, 0, 11, 11] = 0.75  # missed there, false here
        >>> _ = prob.requires_grad_()
        >>> loss = center_loss(prob, target)
        >>> loss.backward()
        >>> round(loss.item(), 4), bool(prob.grad[0, 0, 3, 3] < 0), bool(prob.grad[0, 0, 11, 11] > 0)
        (0.875, True, True)
    """
    return value_of_term(CenterLoss, prob, target, mask, threshold, settings)


class CenterLoss(InstanceTerm):
    """Module form of :func:`center_loss`; same arguments as :class:`~nnunet_ici.losses.term.InstanceTerm`."""

    name = "center"
    term = staticmethod(center_term)
