"""A term of the loss over instances, as a function and as a module."""

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
    """A term over the instances of label and prediction: ``term(prob, target, mask=None)``.

    Args:
        threshold: where predicted instances are cut out: a number, or a (low, high) range that each call in training
            mode draws from (0.5 in evaluation mode).
        seed: seed of the random thresholds.
        **settings: those settings of :class:`~nnunet_ici.settings.TermSettings` that the term reads.

    Attributes:
        name: name of the term, one of :data:`~nnunet_ici.settings.TERM_SETTINGS`.
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
        """The term's value, a scalar: float32, or float64 for float64 probabilities.

        Args:
            prob: (B, C, *spatial), 2D or 3D, in [0, 1].
            target: bool, the same shape.
            mask: bool (B, 1, *spatial), True = counts.

        Raises:
            TypeError: ``prob`` not floating-point, ``target`` or ``mask`` not bool.
            ValueError: a wrong shape.
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
    """The function of a module: arguments as of its ``forward``, with a fixed threshold."""
    checked = term_settings([cls.name], settings)
    return cls.term(find(Source.of_prob(prob, target, mask), threshold), checked)
