"""A single term: evaluated once, or as a module with a threshold of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nnunet_ici.instances import Source
from nnunet_ici.losses.compute import compute_terms
from nnunet_ici.losses.threshold import Threshold
from nnunet_ici.settings import FIXED_THRESHOLD, term_settings

__all__ = [
    "CenterLoss",
    "InstanceLoss",
    "LesionWiseTerm",
    "PQTerm",
    "PredictedInstanceLoss",
    "Term",
    "value_of",
]


def value_of(
    name: str, prob: Tensor, target: Tensor, mask: Tensor | None, threshold: float, settings: dict[str, Any]
) -> Tensor:
    """The value of a term with a fixed threshold."""
    source = Source.of_prob(prob, target, mask, name)
    return compute_terms(source, [name], term_settings([name], settings), threshold)[0][name]


class Term(nn.Module):
    """A term as a module, called as ``term(prob, target, mask=None)``.

    Args:
        threshold: threshold of the predicted instances: a number in (0, 1], or a (low, high) range from which each call
            in training mode draws. In evaluation mode a range is replaced by 0.5.
        seed: seed of the random thresholds.
        **settings: as for the function.

    Raises:
        TypeError, ValueError, NotImplementedError: as :func:`~nnunet_ici.losses.instance_loss`.
    """

    name: ClassVar[str]

    def __init__(self, threshold: float | Sequence[float] = FIXED_THRESHOLD, seed: int = 0, **settings: Any) -> None:
        super().__init__()
        self.settings = term_settings([self.name], settings)
        self.threshold = Threshold(threshold, seed)
        self._caller = object()

    @torch.compiler.disable
    def forward(self, prob: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The value of the term, a scalar: float32, or float64 for float64 probabilities."""
        source = Source.of_prob(prob, target, mask, self._caller)
        return compute_terms(source, [self.name], self.settings, self.threshold(self.training))[0][self.name]

    def get_extra_state(self) -> dict[str, int]:
        return self.threshold.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.threshold.load_state_dict(state)

    def extra_repr(self) -> str:
        return f"{self.settings}, threshold={self.threshold}"


class InstanceLoss(Term):
    """As :func:`~nnunet_ici.losses.instance_loss`."""

    name = "instance"


class PredictedInstanceLoss(Term):
    """As :func:`~nnunet_ici.losses.predicted_instance_loss`."""

    name = "predicted"


class CenterLoss(Term):
    """As :func:`~nnunet_ici.losses.center_loss`."""

    name = "center"


class LesionWiseTerm(Term):
    """As :func:`~nnunet_ici.losses.lesionwise_loss`."""

    name = "lesionwise"


class PQTerm(Term):
    """As :func:`~nnunet_ici.losses.pq_loss`."""

    name = "pq"
