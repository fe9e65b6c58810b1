"""The history of the terms: kept in nnU-Net's logger and checkpoints, written as a CSV table and a figure."""

from __future__ import annotations

import csv
import math
import os
from typing import TYPE_CHECKING, Any

from torch import distributed as dist

from nnunet_ici.evaluation.metrics import f1_of_counts
from nnunet_ici.losses.record import COUNTS, SUMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CSV_NAME", "LESION_MEAN", "PICTURE_NAME", "TermHistory", "over_ranks"]

CSV_NAME = "terms_ici.csv"
PICTURE_NAME = "progress_ici.png"
_PREFIX = "ici_"
_DRAWS = _PREFIX + "threshold_draws"
# Scores of the validation patches at 0.5, and their exponential means.
SCORES = {"lesion_f1": "lesion F1", "lesion_dice": "lesion-wise Dice"}
_MEANS = {f"ema_{score}": f"val_{score}" for score in SCORES}
_KEPT = 0.9  # of an exponential mean, as in nnU-Net's of the pseudo Dice
LESION_MEAN = _PREFIX + "ema_lesion_dice"


class TermHistory:
    """Mean of each term, and counts and scores of validation instances, one value per epoch.

    The scores are pooled over the validation patches of an epoch: lesion F1, and lesion-wise Dice, as in
    :mod:`~nnunet_ici.evaluation.metrics`, NaN without any lesion; with nnU-Net's exponential mean over the epochs.

    nnU-Net's logger requires every key to be registered before its first use and logged exactly once per epoch, because
    progress.png is cut to the shortest list. The content of the logger is saved in each checkpoint.

    Args:
        logger: ``MetaLogger`` of the trainer.
        terms: names of the terms.
    """

    def __init__(self, logger: Any, terms: list[str]) -> None:
        self._logger = logger
        self._terms = terms
        self._columns = [f"{phase}_{term}" for phase in ("train", "val") for term in terms]
        self._columns += [*(f"val_{name}" for name in (*COUNTS, *SCORES)), *_MEANS]
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
        self._epoch |= {f"val_{name}": round(reduced.get(name, 0)) for name in COUNTS}
        self._epoch |= {f"val_{name}": value for name, value in _scores(reduced).items()}
        for mean, score in _MEANS.items():
            before, value = (self._lists[_PREFIX + mean] or [math.nan])[-1], self._epoch[score]
            known = math.isfinite(value) and math.isfinite(before)
            mixed = _KEPT * before + (1 - _KEPT) * value
            self._epoch[mean] = mixed if known else before if math.isfinite(before) else value

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
        for score, title in SCORES.items():
            value, mean = (self._epoch.get(f"{kind}_{score}", math.nan) for kind in ("val", "ema"))
            parts.append(f"{title} {value:.4f}, exponential mean {mean:.4f}")
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
        reduced[name] = sum(values) if name in SUMS else sum(values) / len(values)
    return reduced


def _scores(sums: dict[str, float]) -> dict[str, float]:
    label, missed, _, false = (sums.get(name, 0) for name in COUNTS)
    every = label + false
    if not every:
        return dict.fromkeys(SCORES, math.nan)
    f1 = f1_of_counts(int(label - missed), int(missed), int(false))
    return {"lesion_f1": f1, "lesion_dice": sums.get("lesion_dice", 0) / every}


def _plot(columns: dict[str, list[float]], terms: list[str], path: str) -> None:
    """Plot the terms in training, the terms in validation, the scores, and the percentages of missed and false lesions.

    Training and validation have axes of their own, because most losses draw their threshold in training, and have 0.5
    in validation: the same term is lower there.
    """
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

    figure = Figure(figsize=(10, 12), layout="constrained")
    training, validation, scores, lower = figure.subplots(4, 1, sharex=True)
    colors = {term: model_style(number)["color"] for number, term in enumerate(terms)}
    epochs = range(len(columns[f"train_{terms[0]}"]))
    for axis, phase in ((training, "train"), (validation, "val")):
        for name in terms:
            axis.plot(epochs, columns[f"{phase}_{name}"], color=colors[name], label=name, marker=".")
    training.set_ylabel("terms in training,\nunweighted")
    validation.set_ylabel("terms in validation,\nunweighted")
    for number, (score, title) in enumerate(SCORES.items()):
        color = model_style(number)["color"]
        scores.plot(epochs, columns[f"val_{score}"], color=color, label=title, linestyle=":", marker=".")
        scores.plot(epochs, columns[f"ema_{score}"], color=color, label=f"{title},\nexponential mean")
    scores.set_ylim(-0.02, 1.02)
    scores.set_ylabel("in validation patches,\nat 0.5")
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
    for axis in figure.axes:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
