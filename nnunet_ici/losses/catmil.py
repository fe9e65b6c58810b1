"""CATMIL: a Tversky loss weighted by lesion size, and a loss on the most probable voxel of every lesion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances import Source, label_components
from nnunet_ici.instances.segments import flat_nonzero, segment_sum, take
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.ranks import divisors, sum_over_ranks
from nnunet_ici.settings import LOSSES, SMOOTH

__all__ = ["CATMILLoss", "cat_loss", "mil_loss"]

WEIGHTS = LOSSES["nnUNetTrainerCATMIL"].weights
FALSE_COST, MISSED_COST = 0.3, 0.7  # weights of false and missed voxels in the Tversky index
SIZE_OFFSET, BACKGROUND_WEIGHT = 5, 0.01  # voxel weights are 1 / (|G_n| + 5) in a lesion
LOWEST_PROB = 1e-6
WARM_UP = 50  # epochs over which the weight of the Tversky loss increases


class _Lesions:
    """The face-connected lesions of a source.

    Attributes:
        at: int64 (K,), flat indices of the lesion voxels in images (N, *spatial).
        lesion: int64 (K,), lesion 0..L - 1 of each of these voxels.
        of_class: int64 (L,), class of each lesion.
        lesions, images: (C,), divisors for means over the lesions and the images of each class.
        present: bool (C,), whether the mini-batch contains a lesion of the class.
    """

    def __init__(self, source: Source, over_ranks: bool = False) -> None:
        with torch.no_grad():
            ids, counts = label_components(source.label.flatten(0, 1), faces=True)
            self.of_class = torch.arange(len(counts), device=ids.device).repeat_interleave(counts) % source.classes
            self.at = flat_nonzero(ids)
            of_image = torch.div(self.at, max(ids[:1].numel(), 1), rounding_mode="floor")
            first = counts.cumsum(0) - counts
            self.lesion = ids.reshape(-1)[self.at].to(torch.int64) - 1 + first[of_image]
            by_class = counts.reshape(-1, source.classes).sum(0)
            self.lesions = divisors(by_class, over_ranks)
            self.images = divisors(torch.full_like(by_class, len(source.x)), over_ranks)
            self.present = (sum_over_ranks(by_class) if over_ranks else by_class) > 0


def _over_present(by_class: Tensor, source: Source, lesions: _Lesions) -> Tensor:
    """Mean over the classes with a lesion; stays attached to the graph and propagates a NaN from any voxel."""
    mean = torch.where(lesions.present, by_class, 0).sum() / lesions.present.sum().clamp(min=1)
    return mean.to(source.prob.dtype) + 0 * source.prob.sum()


def _cat_term(source: Source, lesions: _Lesions) -> Tensor:
    """:func:`cat_loss` for a source."""
    prob, label = source.prob.flatten(0, 1).flatten(1), source.label.flatten(0, 1).flatten(1)
    with torch.no_grad():
        size = torch.bincount(lesions.lesion, minlength=len(lesions.of_class))
        weight = torch.full(label.shape, BACKGROUND_WEIGHT, dtype=prob.dtype, device=prob.device)
        weight.view(-1)[lesions.at] = 1 / (size + SIZE_OFFSET).to(prob.dtype)[lesions.lesion]
        if source.counted is not None:
            weight *= source.counted.expand(source.label.shape).flatten(0, 1).flatten(1)
    weighted = weight * prob
    true = torch.where(label, weighted, 0).sum(1)
    false, missed = weighted.sum(1) - true, torch.where(label, weight, 0).sum(1) - true
    index = (true + SMOOTH) / (true + FALSE_COST * false + MISSED_COST * missed + SMOOTH)
    return _over_present((1 - index).reshape(-1, source.classes).sum(0) / lesions.images, source, lesions)


def _mil_term(source: Source, lesions: _Lesions) -> Tensor:
    """:func:`mil_loss` for a source."""
    best = source.prob.new_zeros(len(lesions.of_class))
    best = best.scatter_reduce(0, lesions.lesion, take(source.prob.reshape(-1), lesions.at), "amax")
    costs = segment_sum(-best.clamp(min=LOWEST_PROB).log(), lesions.of_class, source.classes)
    return _over_present(costs / lesions.lesions, source, lesions)


@torch.compiler.disable
def cat_loss(prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Tversky loss with voxel weights that depend on lesion size.

    .. math::
        L = 1 - \frac{TP + \epsilon}{TP + 0.3\, FP + 0.7\, FN + \epsilon}, \quad TP = \sum_v w\, p\, y,\quad
        FP = \sum_v w\, p\, (1 - y),\quad FN = \sum_v w\, (1 - p)\, y

    where w = 1 / (\|G_n\| + 5) in lesion G_n and 0.01 outside all lesions, and eps = 1e-5. Lesions are face-connected:
    4-connected in 2D, 6-connected in 3D.

    Source: Luu, CATMIL, 2026 (arXiv 2604.08015), and the trainers published with the paper (luumsk/SmallLesionMRI).
    ``nnUNetTrainerCATMIL`` merges all foreground classes; here each class is treated separately, as in the authors'
    ``nnUNetTrainerCAT`` for several classes.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.

    Returns:
        A scalar in [0, 1]: the mean over the images, then over the classes with a lesion in the mini-batch. For these
        classes an image without a lesion counts like any other: its loss is about 1, whatever is predicted. Without any
        lesion the loss is 0 and stays attached to the graph.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.
    """
    source = Source.of_prob(prob, target, mask, "cat_loss")
    return _cat_term(source, _Lesions(source))


@torch.compiler.disable
def mil_loss(prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Cross-entropy of the most probable voxel of each lesion (multiple-instance learning).

    .. math:: L = \mathrm{mean}_n \left[ -\log \max_{v \in G_n} p \right]

    The mean runs over the face-connected lesions of the mini-batch, and p is clamped to at least 1e-6. Source and
    arguments are those of :func:`cat_loss`.

    Returns:
        A scalar: the mean over the lesions, then over the classes with a lesion in the mini-batch. Without any lesion
        the loss is 0 and stays attached to the graph.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> target[0, 0, 0, 0] = target[0, 0, 1, 1] = True  # two lesions, as they share no face
        >>> prob = torch.full((1, 1, 4, 4), 0.5)
        >>> prob[0, 0, 1, 1] = 1
        >>> round(mil_loss(prob, target).item(), 3)  # (log 2 + 0) / 2
        0.347
    """
    source = Source.of_prob(prob, target, mask, "mil_loss")
    return _mil_term(source, _Lesions(source))


class CATMILLoss(CompoundLoss):
    r"""A global loss plus :func:`cat_loss` and :func:`mil_loss`.

    .. math:: L = L_{global} + \lambda(t) L_{cat} + 0.2 L_{mil}

    lambda increases linearly from 0 to 0.1 over the first 50 epochs. It is set by :meth:`start_epoch`; before the first
    call it equals ``cat_weight``.

    Source: Luu, CATMIL, 2026 (arXiv 2604.08015). There the terms are computed at the finest scale only
    (``finest_only=True``) and added outside the weights of deep supervision, see :meth:`set_finest_weight`.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: weight of the global loss.
        cat_weight: weight of :func:`cat_loss` from epoch 50 on.
        mil_weight: weight of :func:`mil_loss`.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = WEIGHTS["global_weight"],
        cat_weight: float = WEIGHTS["cat_weight"],
        mil_weight: float = WEIGHTS["mil_weight"],
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"cat": cat_weight, "mil": mil_weight}, **options)
        self.cat_weight = cat_weight

    def set_finest_weight(self, weight: float) -> None:
        if self.finest_only:
            self.term_factor = 1 / weight

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.weights["cat"] = self.cat_weight * min(epoch / WARM_UP, 1)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        lesions = _Lesions(source, self.over_ranks)
        return {"cat": _cat_term(source, lesions), "mil": _mil_term(source, lesions)}, None
