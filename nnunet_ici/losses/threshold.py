"""The threshold that binarizes the probabilities to find predicted instances: fixed, or random at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_ici.settings import FIXED_THRESHOLD, check_threshold

__all__ = ["Threshold"]


class Threshold:
    """A fixed threshold, or a range from which each call draws uniformly.

    The k-th draw depends on the seed and k only (counter-based generator). It is therefore the same on every rank of a
    distributed training, and the number of draws is all that a checkpoint stores.

    Args:
        threshold: number in (0, 1], or (low, high) with 0 <= low < high <= 1.
        seed: seed of the random thresholds.

    Attributes:
        draws: number of thresholds drawn so far.

    Raises:
        ValueError: if the threshold or the range is invalid.
    """

    def __init__(self, threshold: float | Sequence[float], seed: int = 0) -> None:
        check_threshold(threshold)
        low, high = threshold if isinstance(threshold, Sequence) else (threshold, threshold)
        self.low, self.high = float(low), float(high)
        self.seed = seed
        self.draws = 0

    def __call__(self, training: bool) -> float:
        """The threshold for this call; with a range and ``training`` False it is 0.5, and nothing is drawn."""
        if self.low == self.high:
            return self.low
        if not training:
            return FIXED_THRESHOLD
        generator = np.random.Generator(np.random.Philox(key=self.seed, counter=self.draws))
        self.draws += 1
        return max(float(generator.uniform(self.low, self.high)), float(np.finfo(np.float32).tiny))

    def state_dict(self) -> dict[str, Any]:
        """The number of draws, for a checkpoint."""
        return {"draws": self.draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the random sequence after the number of draws in ``state``, from :meth:`state_dict`."""
        self.draws = int(state["draws"])

    def __repr__(self) -> str:
        return f"{self.low}" if self.low == self.high else f"U({self.low}, {self.high})"
