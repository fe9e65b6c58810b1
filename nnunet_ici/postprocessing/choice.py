"""The choice of a setting, and its score on cases that were not used for the choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_ici.postprocessing.sweep import STATISTICS

__all__ = ["METRICS", "Choice", "best_setting", "choose", "draw_folds", "match_folds", "metric_values"]

Scores = npt.NDArray[np.float64]

METRICS = ("mean", "dice", "lesion_f1")
# Means of the same numbers summed in another order differ by less than this.
ROUNDING = 1e-12


def metric_values(scores: Scores, metric: str) -> Scores:
    """The values to maximize, (...), from scores (..., 4) of the grid search; "mean" averages Dice and lesion F1."""
    if metric == "mean":
        return (scores[..., 0] + scores[..., 1]) / 2
    return scores[..., STATISTICS.index(metric)]


def best_setting(values: Scores) -> int:
    """The index of the setting with the highest mean over the cases; the first one in a tie.

    Args:
        values: float64 (cases, settings), at least one case.

    Example:
        >>> best_setting(np.array([[0.0, 0.75, 0.5], [0.0, 0.25, 0.5]]))
        1
    """
    means = values.mean(axis=0)
    return int(np.flatnonzero(means >= means.max() - ROUNDING)[0])


@dataclass(frozen=True)
class Choice:
    """The chosen settings, as indices.

    Attributes:
        setting: best setting on all cases.
        by_fold: for each fold, the best setting on the other folds.
        by_case: for each case, the setting of its fold.
    """

    setting: int
    by_fold: tuple[int, ...]
    by_case: tuple[int, ...]


def choose(values: Scores, folds: Sequence[Sequence[int]]) -> Choice:
    """Choose the best setting on all cases, and for each fold the best setting on the other folds.

    Args:
        values: float64 (cases, settings), values of the metric to maximize.
        folds: indices of the cases in each fold; two or more folds, each case in exactly one.

    Example:
        Three cases, two settings. Only the third case prefers the second setting:

        >>> values = np.array([[0.5, 0.4], [0.5, 0.4], [0.1, 0.9]])
        >>> choose(values, [[0, 1], [2]])
        Choice(setting=1, by_fold=(1, 0), by_case=(1, 1, 0))
    """
    by_fold, by_case = [], [0] * len(values)
    for fold in folds:
        by_fold.append(best_setting(np.delete(values, list(fold), axis=0)))
        for case in fold:
            by_case[case] = by_fold[-1]
    return Choice(best_setting(values), tuple(by_fold), tuple(by_case))


def draw_folds(cases: Sequence[str], k: int, seed: int) -> list[list[str]]:
    """Distribute the cases randomly over k folds whose sizes differ by at most one.

    Returns:
        The sorted names of the cases in each fold.

    Raises:
        ValueError: if there are fewer cases than folds, or fewer than two folds.
    """
    if not 2 <= k <= len(cases):
        raise ValueError(f"--k does not fit the cases. Expected: 2 to {len(cases)}, the number of cases. Got: {k}")
    drawn = random.Random(seed).sample(sorted(cases), len(cases))
    return [sorted(drawn[fold::k]) for fold in range(k)]


def match_folds(folds: Sequence[Sequence[str]], cases: Sequence[str], source: str) -> tuple[list[list[int]], list[str]]:
    """Convert folds from case names to indices of the given cases; folds without any of these cases are dropped.

    Args:
        folds: names of the cases in each fold.
        cases: names of the cases with probabilities.
        source: origin of the folds, for messages.

    Returns:
        The indices of the cases in each fold, and the problems, one sentence each: a case in no fold or in several, a
        fold with missing cases, fewer than two folds.
    """
    problems = []
    number = {case: index for index, case in enumerate(cases)}
    times = {case: sum(case in fold for fold in folds) for case in cases}
    problems += [
        f"{source}: case {case} is in {count or 'no'} folds. Expected: in val of exactly one. Got: {count}"
        for case, count in times.items()
        if count != 1
    ]
    present = [fold for fold in folds if any(case in number for case in fold)]
    for fold in present:
        missing = [case for case in fold if case not in number]
        if missing:
            problems.append(
                f"{source}: a fold is incomplete. Expected: probabilities of all its {len(fold)} cases. "
                f"Got: none for {', '.join(missing[:8])}"
                + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
            )
    if len(present) < 2:
        problems.append(
            f"{source}: too few folds. Expected: two or more with probabilities (--k makes folds of the available "
            f"cases). Got: {len(present)}"
        )
    return [[number[case] for case in fold if case in number] for fold in present], problems
