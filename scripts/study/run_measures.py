"""The measures of a run: from how often each test case is drawn to a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scripts.study.free_response import recall_at
from scripts.study.stored_runs import Run

__all__ = ["AT_BEST", "AT_HALF", "Measure", "curve", "free_response", "mean_free_response", "measures_at", "pr_auc"]

FloatArray = npt.NDArray[np.float64]
AT_HALF, AT_BEST = "at_half", "at_best"


@dataclass(frozen=True)
class Measure:
    """A measure of a run on the test cases.

    Attributes:
        title: for the tables.
        of: from a run and weights (B, C), how often each case counts, to the values (B,); NaN where the run lacks them.
        digits: decimals in the tables.
        better: 1 if higher is better, -1 if lower is.
    """

    title: str
    of: Callable[[Run, FloatArray], FloatArray]
    digits: int
    better: int

    def value(self, run: Run) -> float:
        """The value over all test cases, each once."""
        return float(self.of(run, np.ones((1, len(run["test_cases"]["case"]))))[0])


def _mean(at: str, plus: str, minus: str | None = None) -> Callable[[Run, FloatArray], FloatArray]:
    """The mean of a column over the cases, or of the difference of two."""

    def of(run: Run, weights: FloatArray) -> FloatArray:
        columns = run["test_cases"][at]
        if plus not in columns:
            return np.full(len(weights), np.nan)
        values = np.array(columns[plus], float) - (np.array(columns[minus], float) if minus else 0)
        return weights @ values / weights.sum(axis=1)

    return of


def _small_recall(at: str) -> Callable[[Run, FloatArray], FloatArray]:
    def of(run: Run, weights: FloatArray) -> FloatArray:
        columns = run["test_cases"][at]
        small = weights @ np.array(columns["small"], float)
        found = weights @ np.array(columns["small_found"], float)
        return np.divide(found, small, out=np.full(len(weights), np.nan), where=small > 0)

    return of


def measures_at(at: str) -> tuple[Measure, ...]:
    """The measures at a threshold: :data:`AT_HALF`, or :data:`AT_BEST`, the one chosen on validation cases."""
    return (
        Measure("Dice", _mean(at, "dice"), 3, 1),
        Measure("F1", _mean(at, "f1"), 3, 1),
        Measure("F1 at IoU 0.5", _mean(at, "f1_iou50"), 3, 1),
        Measure("lesion-wise Dice", _mean(at, "lesion_dice"), 3, 1),
        Measure("recall, smallest third", _small_recall(at), 3, 1),
        Measure("missed per case", _mean(at, "lesions", "found"), 2, -1),
        Measure("false per case", _mean(at, "false"), 2, -1),
        Measure("merged per case", _mean(at, "merged"), 2, -1),
    )


def _pr_auc(run: Run, weights: FloatArray) -> FloatArray:
    values = np.array([np.nan if value is None else value for value in run["test_cases"]["pr_auc"]], float)
    known = np.isfinite(values)
    total = weights @ known
    return np.divide(weights @ np.where(known, values, 0), total, out=np.full(len(weights), np.nan), where=total > 0)


pr_auc = Measure("PR-AUC", _pr_auc, 3, 1)


def curve(run: Run) -> tuple[FloatArray, FloatArray]:
    """The false lesions per case and the recall at each threshold, over all test cases."""
    totals = run["curves"]["test"]
    cases, lesions = len(run["test_cases"]["case"]), max(totals["lesions"][0], 1)
    return np.array(totals["false"]) / cases, np.array(totals["found"]) / lesions


def free_response(rate: float) -> Measure:
    """The recall at a number of false lesions per case."""
    return Measure(f"recall at {rate:g}", lambda run, weights: _recalls(run, weights, [rate])[:, 0], 3, 1)


def mean_free_response(rates: Sequence[float]) -> Measure:
    """The mean recall over several numbers of false lesions per case; NaN for none."""

    def of(run: Run, weights: FloatArray) -> FloatArray:
        return _recalls(run, weights, rates).mean(axis=1) if rates else np.full(len(weights), np.nan)

    return Measure("mean of the free-response curve", of, 3, 1)


def _recalls(run: Run, weights: FloatArray, rates: Sequence[float]) -> FloatArray:
    """(B, R). Runs of an earlier machine have no counts of single cases along the curve: NaN unless all count once."""
    cases = run["test_cases"]
    if "found" not in cases:
        once = np.all(weights == 1, axis=1)
        return np.where(once[:, None], recall_at(rates, *curve(run)), np.nan)
    lesions = np.maximum(weights @ np.array(cases["at_half"]["lesions"], float), 1)
    recall = weights @ np.array(cases["found"], float).T / lesions[:, None]
    false = weights @ np.array(cases["false"], float).T / weights.sum(axis=1, keepdims=True)
    return np.stack([recall_at(rates, *point) for point in zip(false, recall, strict=True)])
