"""Settings of the loss terms: defaults and checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "DILATION_RADIUS",
    "FIXED_THRESHOLD",
    "GLOBAL_LOSSES",
    "INNER_LOSSES",
    "RANDOM_THRESHOLD",
    "SMOOTH",
    "TERM_SETTINGS",
    "TermSettings",
    "check_radius",
    "check_size",
    "check_threshold",
    "check_weights",
    "term_settings",
]

SMOOTH = 1e-5  # eps; with 1, a missed lesion of three voxels would cost 0.75 instead of 1
FIXED_THRESHOLD = 0.5  # for single terms, and in validation
RANDOM_THRESHOLD = (0.1, 0.9)  # range of the random threshold in training
DILATION_RADIUS = 3  # voxels, for the dilated balanced cross-entropy
INNER_LOSSES = ("dice", "bce", "focal", "dice_ce")
GLOBAL_LOSSES = ("nnunet", "dice", "bce", "focal", "dice_focal", "gdice_focal")


@dataclass(frozen=True)
class TermSettings:
    """Settings of the terms over instances. :data:`TERM_SETTINGS` lists the settings of each term.

    Attributes:
        exclude_other_instances: True for Eq. 5 of Rachmadi et al., in which voxels of other label instances inside a
            predicted instance do not count as false positives; False for Eq. 3, in which they do.
        inner: loss of a single instance: "dice", "bce", "focal" (gamma 2) or "dice_ce" (Dice + BCE).
        smooth: eps in numerator and denominator.
        size: edge length of the center cubes in voxels, odd: one number for the longest axis, or one per axis.
        reference_shape: full-resolution spatial shape. At a coarser scale the cubes shrink in proportion, to no less
            than 3 voxels. None if there is a single scale.
        false_weight: weight of a false lesion relative to a missed one.
        rates: whether missed and false instances are divided by the numbers of label and predicted instances.

    Raises:
        ValueError: if the size is not odd, the inner loss is unknown, or the weight is negative or not finite.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice. In Eq. 3 a voxel can be a false
            positive for one instance and a true positive for another, but its cross-entropy has a single target.
    """

    exclude_other_instances: bool = True
    inner: str = "dice"
    smooth: float = SMOOTH
    size: int | Sequence[int] = 7  # the best of Table 5 of Rachmadi et al.
    reference_shape: Sequence[int] | None = None
    false_weight: float = 1.0
    rates: bool = True

    def __post_init__(self) -> None:
        check_size(self.size)
        check_weights({"false": self.false_weight})
        if self.inner not in INNER_LOSSES:
            raise ValueError(f"inner must be one of {', '.join(INNER_LOSSES)}. Got: {self.inner!r}")
        if self.inner != "dice" and not self.exclude_other_instances:
            raise NotImplementedError(
                "Eq. 3 (exclude_other_instances=False) is defined for Dice only, because a cross-entropy has a single "
                f"target per voxel. Got: inner={self.inner!r}"
            )

    @property
    def has_dice(self) -> bool:
        """Whether a Dice is part of the inner loss."""
        return self.inner in ("dice", "dice_ce")

    @property
    def has_entropy(self) -> bool:
        """Whether a cross-entropy is part of the inner loss."""
        return self.inner != "dice"


# Settings used by each term.
TERM_SETTINGS: dict[str, tuple[str, ...]] = {
    "instance": ("exclude_other_instances", "inner", "smooth"),
    "predicted": ("inner", "smooth"),
    "center": ("size", "reference_shape", "smooth"),
    "lesionwise": ("exclude_other_instances", "inner", "false_weight", "smooth"),
    "pq": ("exclude_other_instances", "false_weight", "smooth"),
    "blob": ("inner", "smooth"),
    "false_rate": ("false_weight", "rates"),
    "proximity": ("exclude_other_instances", "smooth"),
}


def term_settings(terms: Sequence[str], given: dict[str, Any]) -> TermSettings:
    """Settings for the given terms.

    Args:
        terms: names of the terms, keys of :data:`TERM_SETTINGS`.
        given: values of settings, by name; defaults apply to the others.

    Raises:
        TypeError: if no term uses one of the given settings.
        ValueError, NotImplementedError: see :class:`TermSettings`.
    """
    known = {name for term in terms for name in TERM_SETTINGS[term]}
    unknown = [name for name in given if name not in known]
    if unknown:
        in_order = [field.name for field in fields(TermSettings) if field.name in known]
        raise TypeError(f"unknown setting. Expected: {', '.join(in_order)}. Got: {', '.join(unknown)}")
    return TermSettings(**given)


def check_size(size: int | Sequence[int]) -> None:
    """Raise ValueError unless ``size`` is an odd positive integer, or a sequence of them."""
    sizes = list(size) if isinstance(size, Sequence) else [size]
    if not sizes or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 or s % 2 == 0 for s in sizes):
        raise ValueError(f"size must be an odd positive integer, or one for each axis. Got: {size!r}")


def check_threshold(threshold: float | Sequence[float]) -> None:
    """Raise ValueError unless ``threshold`` is a number in (0, 1], or (low, high) with 0 <= low < high <= 1."""
    if isinstance(threshold, Sequence):
        if len(threshold) != 2 or not 0 <= threshold[0] < threshold[1] <= 1:
            raise ValueError(f"threshold range must be (low, high) with 0 <= low < high <= 1. Got: {threshold!r}")
    elif not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1]. Got: {threshold!r}")


def check_radius(radius: int) -> None:
    """Raise ValueError unless ``radius`` is an integer, 0 or more."""
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise ValueError(f"radius must be an integer, 0 or more. Got: {radius!r}")


def check_weights(weights: dict[str, float]) -> None:
    """Raise ValueError unless every weight is finite and not negative."""
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight < math.inf}
    if wrong:
        raise ValueError(f"weights must be finite and not negative. Got: {wrong}")
