"""Compound losses whose terms share the instances of label and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from nnunet_ici.instances import Source
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.found import find
from nnunet_ici.losses.term import InstanceTerm
from nnunet_ici.losses.threshold import Threshold
from nnunet_ici.settings import RANDOM_THRESHOLD, term_settings

__all__ = ["InstanceCompoundLoss"]


class InstanceCompoundLoss(CompoundLoss):
    """A global loss plus terms over the instances of label and prediction.

    Args:
        global_loss, global_weight, weights: see :class:`~nnunet_ici.losses.compound.CompoundLoss`.
        threshold, seed: see :class:`~nnunet_ici.losses.term.InstanceTerm`.
        ignore_label, reference_shape, finest_only, over_ranks: see
            :class:`~nnunet_ici.losses.compound.CompoundLoss`.
        **settings: settings of :class:`~nnunet_ici.settings.TermSettings` that the terms use.

    Attributes:
        TERMS: terms of the loss; those of weight 0 are not computed.

    Raises:
        TypeError: if a setting is unknown.
        ValueError: if a weight, the threshold or a setting is invalid.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice.
    """

    TERMS: ClassVar[tuple[type[InstanceTerm], ...]]

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float,
        weights: dict[str, float],
        *,
        threshold: float | Sequence[float] = RANDOM_THRESHOLD,
        seed: int = 0,
        ignore_label: int | None = None,
        reference_shape: Sequence[int] | None = None,
        finest_only: bool = False,
        over_ranks: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            global_loss,
            global_weight,
            weights,
            ignore_label=ignore_label,
            reference_shape=reference_shape,
            finest_only=finest_only,
            over_ranks=over_ranks,
        )
        names = [term.name for term in self.TERMS]
        if "center" in names:
            settings["reference_shape"] = self.reference_shape
        self.settings = term_settings(names, settings)
        self.threshold = Threshold(threshold, seed)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], Tensor]:
        found = find(source, self.threshold(self.training), self.over_ranks)
        terms = {term.name: term.term for term in self.TERMS if self.weights[term.name]}
        return {name: term(found, self.settings) for name, term in terms.items()}, found.instances.counts

    @property
    def draws(self) -> int:
        return self.threshold.draws

    @draws.setter
    def draws(self, draws: int) -> None:
        self.threshold.draws = draws

    def get_extra_state(self) -> dict[str, int]:
        return self.threshold.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.threshold.load_state_dict(state)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}, {self.settings}"
