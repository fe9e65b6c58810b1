"""Boundary loss: the cost of probability outside a class grows with the distance to its border."""

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
    """Signed distance to the border of each class: negative inside, positive outside.

    Args:
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels, which lie outside every class.
        classes: number of classes C, with the background.

    Returns:
        float32 (B, C, *spatial), in voxels. Outside: distance to the nearest voxel of the class. Inside: 1 minus the
        distance to the nearest voxel outside, which is 0 for a voxel at the border. The map of a class that is absent
        from its image, or fills it, is 0 everywhere.
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

    where :math:`\phi_c` is the signed Euclidean distance, in voxels, to the border of class c in the image, negative
    inside. The mean includes the background class, as in the region-wise loss.

    Source: Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019. The authors' code
    (LIVIAETS/boundary-loss) truncates the distances to integers and leaves out the background class; neither is done
    here.

    Args:
        logits: softmax logits, floating point (B, C, *spatial), 2D or 3D.
        label: label map, int64 (B, *spatial), 0..C - 1.
        mask: bool (B, *spatial), False for ignored voxels.

    Returns:
        A scalar of either sign; 0 if no class has a border in its image.

    Raises:
        TypeError: if a dtype is wrong.
        ValueError: if a shape is wrong.

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
    r"""Boundary loss, with a global loss whose weight decreases during training.

    .. math:: L = \alpha L_{global} + (1 - \alpha) L_{boundary}

    alpha decreases linearly from 1 to 0.01, as in the paper, over the training. In the authors' ``scheduler.py`` it
    decreases by 0.01 per epoch to 0.1, and the weight of the boundary loss increases without limit.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    LOWEST = 0.01
    name, function = "boundary", staticmethod(boundary_loss)

    def __init__(self, global_loss: GlobalLoss | None = None, **options: Any) -> None:
        super().__init__(global_loss, 1.0, 0.0, **options)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.set_progress(min(epoch / max(epochs - 1, 1), 1))

    def set_progress(self, progress: float) -> None:
        """Set alpha from the fraction of the training that is completed, in [0, 1].

        Raises:
            ValueError: if the fraction is outside this range.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must lie in [0, 1]. Got: {progress}")
        alpha = max(1 - progress, self.LOWEST)
        self.weights = {"global": alpha, "boundary": 1 - alpha}

    @property
    def has_terms(self) -> bool:
        return True  # the term is logged even at the start, when its weight is 0
