"""The center term of the ICI loss: a Dice between maps of cubes at the centers of mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nnunet_ici.instances.cubes import Cubes, check_size, half_widths, spread
from nnunet_ici.instances.table import flat_nonzero, segment_sum
from nnunet_ici.losses.found import FoundInstances, InstanceTerm, term_of
from nnunet_ici.losses.fused import FusedSettings

__all__ = ["CenterLoss", "center_loss", "center_term"]

_LABEL, _PRED = 1, 2


def center_term(
    found: FoundInstances,
    size: int | Sequence[int] = 7,
    smooth: float = 1e-5,
    reference_shape: Sequence[int] | None = None,
) -> Tensor:
    """:func:`center_loss` on instances already found."""
    table = found.table
    halves = half_widths(size, table.shape[1:], reference_shape)
    labels = Cubes(table.label_image, table.label_center)
    preds = Cubes(table.pred_image, table.pred_center)

    # The live cubes, false predictions and missed labels, in ascending order of their value.
    false, missed = ~table.pred_is_hit, ~table.label_is_hit
    pred_mean = table.sum_by_pred(found.sums) / table.pred_size
    label_mean = table.sum_by_label(found.sums) / table.label_size
    live = torch.cat([pred_mean[false], label_mean[missed]])
    order = live.detach().argsort(stable=True)
    live, live_cubes = live[order], (preds[false] + labels[missed])[order]

    # O is the value of the highest cube over a voxel. Its rank is drawn in the place of its value, so that the map says
    # which cube that is: 1.. for the value 0 (a hit label, one rank for each image), then the live ones, then the value
    # 1 (a hit prediction, again for each image). Every rank belongs to one image.
    images = torch.arange(table.shape[0], device=live.device)
    value_of_rank = torch.cat([live.new_zeros(len(images)), live, live.new_ones(len(images))])
    image_of_rank = torch.cat([images, live_cubes.image, images])
    hit_labels, hit_preds = labels[table.label_is_hit], preds[table.pred_is_hit]
    ranks = torch.arange(1, len(value_of_rank) + 1, dtype=torch.int32, device=live.device)
    low, middle, high = ranks.split([len(images), len(live), len(images)])
    ranked = hit_labels + live_cubes + hit_preds
    rank_of_cube = torch.cat([low[hit_labels.image], middle, high[hit_preds.image]])

    bits, drawn_ranks = _draw(table.shape, labels, preds, ranked, rank_of_cube, halves)
    drawn = flat_nonzero(bits)
    key = drawn_ranks.index_select(0, drawn).to(torch.int32) * 4 + bits.index_select(0, drawn)
    voxels = torch.bincount(key, minlength=4 * (len(ranks) + 1)).reshape(-1, 4)[1:].to(live.dtype)
    in_label, elsewhere = voxels[:, _LABEL] + voxels[:, _LABEL | _PRED], voxels[:, _PRED]
    in_pred = voxels[:, _PRED] + voxels[:, _LABEL | _PRED]

    error = elsewhere * value_of_rank + in_label * (1 - value_of_rank)
    error_of_image = segment_sum(error, image_of_rank, len(images))
    total_of_image = segment_sum(in_label + in_pred, image_of_rank, len(images))
    return found.mean_over_images(error_of_image / (total_of_image + smooth))


def _draw(
    shape: torch.Size, labels: Cubes, preds: Cubes, ranked: Cubes, rank_of_cube: Tensor, halves: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Draw cubes into maps of all voxels of the images of shape (N, *spatial), flat.

    Args:
        shape: of the images.
        labels: the cubes of all label instances.
        preds: those of all predicted instances.
        ranked: cubes with a rank.
        rank_of_cube: int32, their ranks, from 1; no higher than the number of cubes and twice that of images.
        halves: half widths.

    Returns:
        uint8: bit 1 in a cube of a label instance, bit 2 in one of a predicted instance; and int16 or int32: the
        highest rank of the cubes over a voxel, or 0.
    """
    bits = torch.zeros(shape.numel(), dtype=torch.uint8, device=rank_of_cube.device)
    # Half the bytes make the moving maxima two to nine times faster on a CPU.
    small = rank_of_cube.device.type == "cpu" and len(rank_of_cube) < 2**15 - 2 * shape[0]
    rank_of_cube = rank_of_cube.to(torch.int16 if small else torch.int32)
    ranks = torch.zeros(shape.numel(), dtype=rank_of_cube.dtype, device=rank_of_cube.device)
    # A few cubes are drawn voxel by voxel; many as their centers, which are spread afterwards.
    in_cube = math.prod(2 * half + 1 for half in halves)
    few = len(ranked.image) * in_cube < bits.numel() / 8
    drawn_halves = halves if few else [0] * len(halves)
    bits[labels.voxels(shape[1:], drawn_halves).reshape(-1)] = _LABEL
    at = preds.voxels(shape[1:], drawn_halves).reshape(-1)
    bits[at] = bits[at] | _PRED
    at = ranked.voxels(shape[1:], drawn_halves)
    ranks.scatter_reduce_(0, at.reshape(-1), rank_of_cube[:, None].expand_as(at).reshape(-1), reduce="amax")
    if few:
        return bits, ranks
    return (
        spread(bits.reshape(shape), halves, torch.bitwise_or).reshape(-1),
        spread(ranks.reshape(shape), halves, torch.maximum).reshape(-1),
    )


@torch.compiler.disable
def center_loss(
    prob: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    threshold: float = 0.5,
    size: int | Sequence[int] = 7,
    smooth: float = 1e-5,
    reference_shape: Sequence[int] | None = None,
) -> Tensor:
    r"""Dice loss between maps of the centers of label and predicted instances.

    Each instance becomes a cube around ``floor(mean + 0.5)`` of its coordinates, clipped at the border. L is 1 on the
    cubes of the label instances. O is the maximum over the cubes of all predicted instances, of the mean probability of
    a false one and of 1 for one that touches a label, and over the cubes of the missed label instances, of the mean
    probability inside them.

    .. math::
        L_{center} = \mathrm{mean}_{images} \frac{\sum O (1 - L) + \sum (1 - O) L}{\sum O_{bin} + \sum L + \epsilon}

    with O_bin = 1 on the cubes of the predicted instances.

    Source: Rachmadi et al., MIDL 2023, Eq. 4 and Algorithm 2; size 7 is the best of their Table 5, and the half widths
    on unequal axes are those of the authors' code. On binary predictions this is the paper's 1 - Dice. On probabilities
    the published map is constant, so nothing is learnt from it; the values in O are ours.

    Args:
        prob: (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, the same shape.
        mask: bool (B, 1, *spatial), True = counts; cubes of instances inside may reach over its edge.
        threshold: predicted instances are the components of ``prob >= threshold``.
        size: of the cubes in voxels, odd; along the longest axis, or a sequence with one for each axis.
        smooth: eps.
        reference_shape: the full-resolution spatial shape, where ``prob`` is a smaller scale of it: the cubes shrink
            along, to 3 voxels at the least.

    Returns:
        A scalar in [0, 1]; an image without any instance counts as 0, with a live graph.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or size.

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
    check_size(size)
    settings = FusedSettings(smooth=smooth, size=size, reference_shape=reference_shape)
    term = partial(center_term, size=size, smooth=smooth, reference_shape=reference_shape)
    return term_of("center", settings, term, prob, target, mask, threshold)


class CenterLoss(InstanceTerm):
    """The module of :func:`center_loss`.

    Args:
        size: of the cubes in voxels, odd; or one for each axis.
        smooth: eps.
        threshold: a number, or a (low, high) range drawn from at each call in training mode (0.5 in evaluation mode).
        reference_shape: the full-resolution spatial shape that ``size`` is meant for.
        seed: of the draws.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 7,
        smooth: float = 1e-5,
        threshold: float | Sequence[float] = 0.5,
        reference_shape: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        check_size(size)
        super().__init__(smooth, threshold, seed)
        self.size = size if isinstance(size, int) else tuple(size)
        self.reference_shape = None if reference_shape is None else tuple(reference_shape)

    def loss(self, prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float) -> Tensor:
        return center_loss(
            prob,
            target,
            mask,
            threshold=threshold,
            size=self.size,
            smooth=self.smooth,
            reference_shape=self.reference_shape,
        )

    def extra_repr(self) -> str:
        return f"size={self.size}, {super().extra_repr()}"
