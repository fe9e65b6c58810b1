"""The measures of a run: functions of the run and of the number of times that each test case is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.average_precision import free_response_recall, lesion_average_precision
from scripts.study.free_response import recall_at
from scripts.study.stored_runs import Run

__all__ = ["AT_BEST", "AT_HALF", "Measure", "average_precision", "curve", "free_response", "froc"]
__all__ += ["mean_free_response", "measures_at", "pr_auc"]

FloatArray = npt.NDArray[np.float64]
AT_HALF, AT_BEST = "at_half", "at_best"


@dataclass(frozen=True)
class Measure:
    """A measure of a run on the test cases.

    Attributes:
        title: column title in the tables.
        of: function from a run and weights (B, C), the number of times that each case counts, to values (B,). The
            values are NaN if the run does not store the measure.
        digits: number of decimals in the tables.
        better: 1 if higher is better, -1 if lower is better.
    """

    title: str
    of: Callable[[Run, FloatArray], FloatArray]
    digits: int
    better: int

    def value(self, run: Run) -> float:
        """The value over all test cases, each counted once."""
        return float(self.of(run, np.ones((1, len(run["test_cases"]["case"]))))[0])


def _mean(at: str, plus: str, minus: str | None = None) -> Callable[[Run, FloatArray], FloatArray]:
    """The mean over the cases of a column, or of the difference between two columns."""

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
    """The measures at a threshold: :data:`AT_HALF`, or :data:`AT_BEST`, the threshold chosen on validation cases."""
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


def _average_precision(run: Run, weights: FloatArray) -> FloatArray:
    cases = run["test_cases"]
    if "matched" not in cases:
        return np.full(len(weights), np.nan)
    matched, predicted = (weights @ np.array(cases[name], float).T for name in ("matched", "predicted"))
    return lesion_average_precision(matched, predicted, weights @ np.array(cases["at_half"]["lesions"], float))


average_precision = Measure("AP (IoU 0.1)", _average_precision, 3, 1)


def curve(run: Run) -> tuple[FloatArray, FloatArray]:
    """The false lesions per case and the recall at each threshold, over all test cases."""
    totals = run["curves"]["test"]
    cases, lesions = len(run["test_cases"]["case"]), max(totals["lesions"][0], 1)
    return np.array(totals["false"]) / cases, np.array(totals["found"]) / lesions


def _froc(run: Run, weights: FloatArray) -> FloatArray:
    return _along_curve(run, weights, free_response_recall).mean(axis=-1)


froc = Measure("FROC", _froc, 3, 1)


def free_response(rate: float) -> Measure:
    """The recall at a number of false lesions per case."""
    return Measure(f"recall at {rate:g}", lambda run, weights: _recalls(run, weights, [rate])[:, 0], 3, 1)


def mean_free_response(rates: Sequence[float]) -> Measure:
    """The mean recall at several numbers of false lesions per case; NaN if there are none."""

    def of(run: Run, weights: FloatArray) -> FloatArray:
        return _recalls(run, weights, rates).mean(axis=1) if rates else np.full(len(weights), np.nan)

    return Measure("mean of the free-response curve", of, 3, 1)


def _recalls(run: Run, weights: FloatArray, rates: Sequence[float]) -> FloatArray:
    """The recall (B, R) at each rate, between the thresholds interpolated."""
    return _along_curve(run, weights, lambda false, recall: recall_at(rates, false, recall))


def _along_curve(run: Run, weights: FloatArray, of: Callable[[FloatArray, FloatArray], FloatArray]) -> FloatArray:
    """A function of the false lesions per case (T,) and the recall (T,), for each row of weights. Runs of an earlier
    machine store no counts of single cases along the curve, so it is NaN unless every case counts once."""
    cases = run["test_cases"]
    if "found" not in cases:
        once = np.all(weights == 1, axis=1)
        return np.where(once[:, None], of(*curve(run)), np.nan)
    lesions = np.maximum(weights @ np.array(cases["at_half"]["lesions"], float), 1)
    recall = weights @ np.array(cases["found"], float).T / lesions[:, None]
    false = weights @ np.array(cases["false"], float).T / weights.sum(axis=1, keepdims=True)
    return np.stack([of(*points) for points in zip(false, recall, strict=True)])
