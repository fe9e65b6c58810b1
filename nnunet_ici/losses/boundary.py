"""Boundary loss: wrong probability costs its distance to the border of the class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances.distance import distance_to
from nnunet_ici.losses.compound import GlobalLoss
from nnunet_ici.losses.over_classes import OverClassesLoss, check_logits, class_masks
from nnunet_ici.losses.region_wise import map_loss

__all__ = ["BoundaryLoss", "boundary_loss", "signed_distance_map"]


@torch.no_grad()
def signed_distance_map(label: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """The signed distance to the border of each class: below 0 inside, above 0 outside.

    Args:
        label: int64 (B, *spatial).
        mask: bool (B, *spatial), True = counts; other voxels lie outside of every class.
        classes: C.

    Returns:
        float32 (B, C, *spatial), in voxels. Outside: the distance to the nearest voxel of the class. Inside: 1 minus
        the distance to the nearest voxel outside, so that a voxel at the border has 0. A class that is absent from its
        image, or fills it, has no border: 0 everywhere.
    """
    masks = class_masks(label, mask, classes)
    to_class = distance_to(masks.flatten(0, 1)).reshape(masks.shape)
    # With two classes, each is the complement of the other.
    complements = classes == 2 and mask is None
    to_rest = to_class.flip(1) if complements else distance_to(~masks.flatten(0, 1)).reshape(masks.shape)
    signed = torch.where(masks, 1 - to_rest, to_class)
    return torch.where(signed.isinf(), 0.0, signed)


@torch.compiler.disable
def boundary_loss(logits: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Boundary loss.

    .. math:: L = \mathrm{mean}_{v, c}\; \mathrm{softmax}_c(v)\, \phi_c(v)

    with :math:`\phi_c` the signed Euclidean distance, in voxels, to the border of class c in its image, below 0 inside.
    All classes count, background included, as for the region-wise loss.

    Source: Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019.

    Args:
        logits: (B, C, *spatial), 2D or 3D, for a softmax.
        label: int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), True = counts.

    Returns:
        A scalar, of any sign; 0 where no class has a border.

    Raises:
        TypeError, ValueError: a wrong dtype or shape.

    Example:
        >>> import torch
        >>> label = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> label[0, 2:5, 2:5] = 1
        >>> logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
        >>> boundary_loss(logits, label).backward()
        >>> bool(logits.grad[0, 1, 7, 7] > logits.grad[0, 1, 5, 5] > 0), bool(logits.grad[0, 1, 3, 3] < 0)
        (True, True)
    """
    check_logits(logits, label, mask)
    return map_loss(logits, signed_distance_map(label, mask, logits.shape[1]), mask)


class BoundaryLoss(OverClassesLoss):
    r"""Boundary loss with a falling weight of the global loss.

    .. math:: L = \alpha L_{global} + (1 - \alpha) L_{boundary}

    alpha begins at 1 and falls in proportion to the training's progress, to 0.01: the schedule of Kervadec et al.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    LOWEST = 0.01
    name, function = "boundary", staticmethod(boundary_loss)

    def __init__(self, global_loss: GlobalLoss, **options: Any) -> None:
        super().__init__(global_loss, 1.0, 0.0, **options)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.set_progress(min(epoch / max(epochs - 1, 1), 1))

    def set_progress(self, progress: float) -> None:
        """Set alpha from the share of the training that is done, 0 to 1.

        Raises:
            ValueError: a share outside of this range.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must lie in [0, 1]. Got: {progress}")
        alpha = max(1 - progress, self.LOWEST)
        self.weights = {"global": alpha, "boundary": 1 - alpha}

    @property
    def has_terms(self) -> bool:
        return True  # also at the start, where its weight is 0: it is logged all the same
