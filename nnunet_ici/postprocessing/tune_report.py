"""The report of ``nnunet_ici tune``, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.formats import to_text
from nnunet_ici.evaluation.tables import Cell, Table, format_value
from nnunet_ici.postprocessing.choice import Choice, metric_values
from nnunet_ici.postprocessing.rule import Setting
from nnunet_ici.postprocessing.sweep import STATISTICS, Grid

__all__ = ["Tuned", "class_report", "notes", "summarise", "table"]

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of the grid search for one class; the last axis of all scores has the columns ``STATISTICS``.

    Attributes:
        lesions: number of instances in the ground truth of all cases.
        plain: float64 (cases, 4), scores of nnU-Net's own masks.
        scores: float64 (cases, settings, 4), scores of all settings.
        settings: settings that were tried.
        choice: settings that were chosen.
        folds: indices of the cases in each fold.
    """

    lesions: int
    plain: Scores
    scores: Scores
    settings: Sequence[Setting]
    choice: Choice
    folds: Sequence[Sequence[int]]

    @property
    def setting(self) -> Setting:
        """The best setting on all cases."""
        return self.settings[self.choice.setting]

    @property
    def in_sample(self) -> Scores:
        """Scores (cases, 4) with the setting chosen on the same cases."""
        return self.scores[:, self.choice.setting]

    @property
    def out_of_fold(self) -> Scores:
        """Scores (cases, 4), each case with the setting chosen on the other folds."""
        return self.scores[np.arange(len(self.scores)), list(self.choice.by_case)]


def summarise(scores: Scores) -> dict[str, float]:
    """Means of Dice and lesion F1, and totals of missed and false instances, from scores (cases, 4).

    Example:
        >>> summarise(np.array([[0.5, 1.0, 0, 2], [1.0, 1.0, 1, 2]]))["missed_instances"]
        1
    """
    summary: dict[str, float] = {}
    for statistic, values in zip(STATISTICS, scores.T, strict=True):
        summary[statistic] = int(values.sum()) if statistic.endswith("_instances") else float(values.mean())
    return summary | {"mean": float(metric_values(scores, "mean").mean())}


def class_report(tuned: Tuned, cases: Sequence[str]) -> dict[str, Any]:
    """The scores of one class in JSON types; folds are given by the names of their cases."""
    folds = [
        {
            "cases": [cases[index] for index in fold],
            "setting": asdict(tuned.settings[chosen]),
            **summarise(tuned.scores[list(fold), chosen]),
        }
        for fold, chosen in zip(tuned.folds, tuned.choice.by_fold, strict=True)
    ]
    return {
        "cases": len(cases),
        "lesions": tuned.lesions,
        "plain": summarise(tuned.plain),
        "in_sample": summarise(tuned.in_sample),
        "out_of_fold": summarise(tuned.out_of_fold),
        "folds": folds,
    }


def table(tuned: dict[str, Tuned]) -> str:
    """A table with the scores of nnU-Net's own masks, and of the choice in sample and out of fold, per class."""
    rows = []
    for name, one in tuned.items():
        for title, scores in (
            ("nnU-Net", one.plain),
            ("chosen, on the same cases", one.in_sample),
            ("chosen, out of fold", one.out_of_fold),
        ):
            dsc, f1, missed, false = (summarise(scores)[statistic] for statistic in STATISTICS)
            cells = [name, title, *(format_value(value) for value in (dsc, f1, one.lesions, missed, false))]
            rows.append([Cell(text) for text in cells])
    head = ["class", "masks", "Dice", "lesion F1", "lesions", "missed", "false"]
    return to_text(Table("tune", "", 2, head, rows, better=["", "", "higher", "higher", "", "lower", "lower"]))


def notes(name: str, tuned: Tuned, grid: Grid, metric: str) -> list[str]:
    """Remarks on a choice, one sentence each: no gain out of fold, or a value at the edge of the grid."""
    found = []
    plain, chosen = (float(metric_values(scores, metric).mean()) for scores in (tuned.plain, tuned.out_of_fold))
    if chosen <= plain:
        found.append(
            f"{name}: no gain out of fold ({chosen:.3f}, nnU-Net's own {plain:.3f}); better to leave it unchanged"
        )
    setting = tuned.setting
    if len(grid.thresholds) > 1 and setting.threshold in (min(grid.thresholds), max(grid.thresholds)):
        found.append(f"{name}: threshold {setting.threshold:g} is at the edge of the grid; widen it with --thresholds")
    if setting.minimum_volume_mm3 > 0 and setting.minimum_volume_mm3 == max(grid.volumes_mm3):
        found.append(
            f"{name}: {setting.minimum_volume_mm3:g} mm³ is at the edge of the grid; widen it with --volumes-mm3"
        )
    return found
