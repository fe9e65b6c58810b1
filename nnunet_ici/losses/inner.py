"""The loss of a single instance: Dice, or cross-entropies over the same voxels, all from sums over the parts of
instances."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["INNER", "check_inner", "entropy", "has_dice", "has_entropy"]

INNER = ("dice", "bce", "focal", "dice_ce")
FOCAL_GAMMA = 2.0  # Lin et al., 2017


def check_inner(inner: str, exclude_other_instances: bool = True) -> None:
    """Raise ValueError for an unknown inner loss; NotImplementedError for Eq. 3 with another than Dice.

    With Eq. 3 a voxel on another label instance is wrong for one instance and right for the other; a cross-entropy has
    one value a voxel.
    """
    if inner not in INNER:
        raise ValueError(f"inner must be one of {', '.join(INNER)}. Got: {inner!r}")
    if inner != "dice" and not exclude_other_instances:
        raise NotImplementedError(
            f"Eq. 3 (exclude_other_instances=False) is there for the Dice only, as a cross-entropy knows one truth for "
            f"every voxel. Got: inner={inner!r}"
        )


def has_dice(inner: str) -> bool:
    """Whether a Dice is part of it."""
    return inner in ("dice", "dice_ce")


def has_entropy(inner: str) -> bool:
    """Whether a cross-entropy is part of it."""
    return inner != "dice"


def entropy(prob: Tensor, target: Tensor, inner: str) -> Tensor:
    """The cross-entropy of every voxel.

    Args:
        prob: floating point, in [0, 1].
        target: bool, the same shape.
        inner: "focal" for (1 - p_t)^2 * CE, else the plain one.

    Returns:
        The shape and dtype of ``prob``; at most 100, as torch clamps the logarithm.
    """
    plain = F.binary_cross_entropy(prob, target.to(prob.dtype), reduction="none")
    if inner != "focal":
        return plain
    return torch.where(target, 1 - prob, prob) ** FOCAL_GAMMA * plain
