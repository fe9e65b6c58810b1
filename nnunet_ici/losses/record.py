"""The record of a compound loss for the training log: the mean of every term, and counts of instances."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_ici.instances.segments import widest_float

__all__ = ["COUNTS", "SUMS", "TermRecord"]

COUNTS = ("label_instances", "missed_instances", "predicted_instances", "false_instances")
# In evaluation mode, also the sum of the Dice of the label instances.
SUMS = (*COUNTS, "lesion_dice")


class TermRecord:
    """Sums over calls, accumulated on the device, without host synchronization before :meth:`take`."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._calls = 0

    @torch.compiler.disable  # it counts calls
    def add(self, values: dict[str, Tensor], counts: Tensor | None) -> None:
        """Add one call.

        Args:
            values: value of each term, a scalar, by name.
            counts: (4,) or (5,), in the order of :data:`SUMS`, or None.
        """
        self._calls += 1
        if values:
            stacked = torch.stack([value.detach().float() for value in values.values()])
            self._add(tuple(values), stacked.to(widest_float(stacked.device)))
        if counts is not None:
            self._add(SUMS[: len(counts)], counts)

    def _add(self, names: tuple[str, ...], values: Tensor) -> None:
        self._sums[names] = self._sums[names] + values if names in self._sums else values

    def take(self) -> dict[str, float]:
        """Return the mean of each term over the calls and the sum of each of :data:`SUMS`, then reset them.

        Returns:
            Values by name; empty if there was no call.
        """
        taken: dict[str, float] = {}
        for names, sums in self._sums.items():
            totals = dict(zip(names, sums.tolist(), strict=True))
            taken |= totals if names[0] in SUMS else {name: total / self._calls for name, total in totals.items()}
        self._sums, self._calls = {}, 0
        return taken
