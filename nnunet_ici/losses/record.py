"""What a training log wants of a compound loss: the mean of every term, and how many instances were missed or false."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_ici.losses.found import FoundInstances

__all__ = ["COUNTS", "TermRecord"]

COUNTS = ("label_instances", "missed_instances", "predicted_instances", "false_instances")


class TermRecord:
    """Sums over calls, kept on the device: nothing is read back before :meth:`take`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._calls = 0

    def add(self, values: dict[str, Tensor], found: FoundInstances | None) -> None:
        """Add the terms' values of one call, scalars, and the instances it found, if it did."""
        self._calls += 1
        for name, value in values.items():
            self._add(name, value.detach().double() if value.device.type != "mps" else value.detach().float())
        if found is not None:
            table = found.table
            for name, count in zip(
                COUNTS,
                (
                    table.label_is_hit.new_ones(len(table.label_is_hit)),
                    ~table.label_is_hit,
                    table.pred_is_hit.new_ones(len(table.pred_is_hit)),
                    ~table.pred_is_hit,
                ),
                strict=True,
            ):
                self._add(name, count.sum())

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def take(self) -> dict[str, float]:
        """Return and forget: the mean of each term over the calls, and the sum of each of :data:`COUNTS`.

        Without a call, nothing: an empty dict.
        """
        with torch.no_grad():
            taken = {
                name: total.item() if name in COUNTS else total.item() / self._calls
                for name, total in self._sums.items()
            }
        self._sums, self._calls = {}, 0
        return taken
