"""The history of the terms: kept in nnU-Net's logger and checkpoints, written as a CSV table and a figure."""

from __future__ import annotations

import csv
import math
import os
from typing import TYPE_CHECKING, Any

from torch import distributed as dist

from nnunet_ici.losses.record import COUNTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CSV_NAME", "PICTURE_NAME", "TermHistory", "over_ranks"]

CSV_NAME = "terms_ici.csv"
PICTURE_NAME = "progress_ici.png"
_PREFIX = "ici_"
_DRAWS = _PREFIX + "threshold_draws"


class TermHistory:
    """Mean of each term, and counts of validation instances, one value per epoch.

    nnU-Net's logger requires every key to be registered before its first use and logged exactly once per epoch, because
    progress.png is cut to the shortest list. The content of the logger is saved in each checkpoint.

    Args:
        logger: ``MetaLogger`` of the trainer.
        terms: names of the terms.
    """

    def __init__(self, logger: Any, terms: list[str]) -> None:
        self._logger = logger
        self._terms = terms
        self._columns = [*(f"train_{t}" for t in terms), *(f"val_{t}" for t in terms), *(f"val_{c}" for c in COUNTS)]
        self._epoch: dict[str, float] = {}
        self.pad(0)

    @property
    def _lists(self) -> dict[str, list[Any]]:
        return self._logger.local_logger.my_fantastic_logging

    def pad(self, epochs: int) -> None:
        """Register the keys, and fill epochs that are missing in a checkpoint, with NaN for terms and 0 for draws."""
        for key, missing in [*((_PREFIX + c, math.nan) for c in self._columns), (_DRAWS, 0)]:
            values = self._lists.setdefault(key, [])
            values.extend([missing] * (epochs - len(values)))

    @property
    def draws(self) -> int:
        """Number of thresholds drawn up to the end of the last logged epoch."""
        values = self._lists[_DRAWS]
        return int(values[-1]) if values else 0

    def add_training(self, taken: dict[str, float]) -> None:
        """Add the record of an epoch's training iterations, reduced over the ranks."""
        reduced = over_ranks(taken)
        self._epoch |= {f"train_{name}": reduced.get(name, math.nan) for name in self._terms}

    def add_validation(self, taken: dict[str, float]) -> None:
        """Add the record of an epoch's validation iterations, reduced over the ranks."""
        reduced = over_ranks(taken)
        self._epoch |= {f"val_{name}": reduced.get(name, math.nan) for name in self._terms}
        self._epoch |= {f"val_{name}": reduced.get(name, 0) for name in COUNTS}

    def log_epoch(self, epoch: int, draws: int) -> str:
        """Pass the values of the epoch to nnU-Net's logger.

        Args:
            epoch: number of the epoch, from 0.
            draws: number of thresholds drawn so far.

        Returns:
            One line for the training log.
        """
        for column in self._columns:
            self._logger.log(_PREFIX + column, self._epoch.get(column, math.nan), epoch)
        self._logger.log(_DRAWS, draws, epoch)
        parts = []
        for phase in ("train", "val"):
            values = (f"{name} {self._epoch.get(f'{phase}_{name}', math.nan):.4f}" for name in self._terms)
            parts.append(f"{phase} terms: {', '.join(values)}")
        counts = {name: self._epoch.get(f"val_{name}", 0) for name in COUNTS}
        parts.append(
            f"val: {counts['missed_instances']:.0f} of {counts['label_instances']:.0f} label instances missed, "
            f"{counts['false_instances']:.0f} of {counts['predicted_instances']:.0f} predicted instances false"
        )
        self._epoch = {}
        return "; ".join(parts)

    def write(self, folder: str) -> None:
        """Write ``terms_ici.csv`` and ``progress_ici.png`` with the whole history, including that before a resume."""
        columns = {column: self._lists[_PREFIX + column] for column in self._columns}
        path = os.path.join(folder, CSV_NAME)
        with open(path + ".tmp", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *columns])
            writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*columns.values(), strict=True)))
        os.replace(path + ".tmp", path)
        _plot(columns, self._terms, os.path.join(folder, PICTURE_NAME))


def over_ranks(taken: dict[str, float]) -> dict[str, float]:
    """Sum the counts and average the terms over the ranks of a distributed training."""
    if not (dist.is_available() and dist.is_initialized()):
        return taken
    gathered: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, taken)
    reduced = {}
    for name in {name for rank in gathered for name in rank}:
        values = [rank[name] for rank in gathered if name in rank]
        reduced[name] = sum(values) if name in COUNTS else sum(values) / len(values)
    return reduced


def _plot(columns: dict[str, list[float]], terms: list[str], path: str) -> None:
    """Plot the terms in training and validation, and below them the percentages of missed and false instances."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    # nnU-Net's own plot calls seaborn.set, which changes the defaults of matplotlib.
    with matplotlib.rc_context(dict(matplotlib.rcParamsDefault)):
        figure = _draw(columns, terms)
        for axis in figure.axes:
            axis.grid(alpha=0.3)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.savefig(path, dpi=100)


def _draw(columns: dict[str, list[float]], terms: list[str]) -> Figure:
    from matplotlib.figure import Figure

    from nnunet_ici.drawing import MISSED, model_style

    figure = Figure(figsize=(10, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    colors = {term: model_style(number)["color"] for number, term in enumerate(terms)}
    epochs = range(len(columns[f"train_{terms[0]}"]))
    for name in terms:
        upper.plot(epochs, columns[f"train_{name}"], color=colors[name], label=f"{name}, training", marker=".")
        upper.plot(epochs, columns[f"val_{name}"], color=colors[name], label=f"{name}, validation", linestyle="--")
    upper.set_ylabel("term, unweighted")
    for part, whole, color in (
        ("missed_instances", "label_instances", MISSED),
        ("false_instances", "predicted_instances", model_style(0)["color"]),
    ):
        pairs = zip(columns[f"val_{part}"], columns[f"val_{whole}"], strict=True)
        shares = [100 * a / b if b else math.nan for a, b in pairs]
        label = f"{part.replace('_', ' ')},\n% of {whole.replace('_', ' ')}"
        lower.plot(epochs, shares, color=color, label=label, marker=".")
    lower.set_ylim(0, 102)
    lower.set_ylabel("in validation patches, %")
    lower.set_xlabel("epoch")
    for axis in (upper, lower):
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
