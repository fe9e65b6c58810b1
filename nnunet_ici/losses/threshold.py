"""The threshold that cuts predicted instances out of the probabilities: fixed, or drawn anew at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_ici.settings import FIXED_THRESHOLD, check_threshold

__all__ = ["Threshold"]


class Threshold:
    """A fixed number, or a range that each call draws from.

    The k-th draw depends on the seed and k alone (a counter-based generator), so it is the same on every rank of a
    distributed training, and ``draws``, one integer, is all that a checkpoint needs.

    Args:
        threshold: a number in (0, 1], or (low, high) with 0 <= low < high <= 1.
        seed: seed of the random thresholds.

    Raises:
        ValueError: if the threshold lies outside.
    """

    def __init__(self, threshold: float | Sequence[float], seed: int = 0) -> None:
        check_threshold(threshold)
        low, high = threshold if isinstance(threshold, Sequence) else (threshold, threshold)
        self.low, self.high = float(low), float(high)
        self.seed = seed
        self.draws = 0

    def __call__(self, training: bool) -> float:
        """The threshold of this call. A range gives 0.5 where ``training`` is False, and draws nothing."""
        if self.low == self.high:
            return self.low
        if not training:
            return FIXED_THRESHOLD
        generator = np.random.Generator(np.random.Philox(key=self.seed, counter=self.draws))
        self.draws += 1
        return max(float(generator.uniform(self.low, self.high)), float(np.finfo(np.float32).tiny))

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream of draws."""
        return {"draws": self.draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a position from :meth:`state_dict`."""
        self.draws = int(state["draws"])

    def __repr__(self) -> str:
        return f"{self.low}" if self.low == self.high else f"U({self.low}, {self.high})"
