"""Base class of the terms over instances, and the function form of a term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nnunet_ici.instances import Source
from nnunet_ici.losses.found import FoundInstances, find
from nnunet_ici.losses.threshold import Threshold
from nnunet_ici.settings import FIXED_THRESHOLD, TermSettings, term_settings

__all__ = ["InstanceTerm", "value_of_term"]


class InstanceTerm(nn.Module):
    """A term over the instances of label and prediction, called as ``term(prob, target, mask=None)``.

    Args:
        threshold: threshold of the predicted instances: a number in (0, 1], or a (low, high) range from which each call
            in training mode draws. In evaluation mode a range is replaced by 0.5.
        seed: seed of the random thresholds.
        **settings: settings of :class:`~nnunet_ici.settings.TermSettings` that the term uses.

    Attributes:
        name: name of the term, a key of :data:`~nnunet_ici.settings.TERM_SETTINGS`.

    Raises:
        TypeError: if a setting is unknown.
        ValueError: if the threshold or a setting is invalid.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice.
    """

    name: ClassVar[str]

    @staticmethod
    def term(found: FoundInstances, settings: TermSettings) -> Tensor:
        raise NotImplementedError

    def __init__(self, threshold: float | Sequence[float] = FIXED_THRESHOLD, seed: int = 0, **settings: Any) -> None:
        super().__init__()
        self.settings = term_settings([self.name], settings)
        self.threshold = Threshold(threshold, seed)

    @torch.compiler.disable
    def forward(self, prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The value of the term, a scalar: float32, or float64 for float64 probabilities.

        Args:
            prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
            target: bool, same shape as ``prob``.
            mask: bool (B, 1, *spatial), False for ignored voxels.

        Raises:
            TypeError: if ``prob`` is not floating-point, or ``target`` or ``mask`` not bool.
            ValueError: if a shape is wrong.
        """
        found = find(Source.of_prob(prob, target, mask), self.threshold(self.training))
        return self.term(found, self.settings)

    def get_extra_state(self) -> dict[str, int]:
        return self.threshold.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.threshold.load_state_dict(state)

    def extra_repr(self) -> str:
        return f"{self.settings}, threshold={self.threshold}"


def value_of_term(
    cls: type[InstanceTerm],
    prob: Tensor,
    target: Tensor,
    mask: Tensor | None,
    threshold: float,
    settings: dict[str, Any],
) -> Tensor:
    """Function form of a term: evaluate it once, with a fixed threshold."""
    checked = term_settings([cls.name], settings)
    return cls.term(find(Source.of_prob(prob, target, mask), threshold), checked)
