"""The threshold that ``nnunet_ici tune`` would have chosen by default in the stored runs, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scripts.study.sets import BASELINE
from scripts.study.stored_runs import HALF, Run
from scripts.study.tables import Runs, markdown

__all__ = ["chosen_threshold", "threshold_section"]

FloatArray = npt.NDArray[np.float64]
ROUNDING = 6  # decimals; equal scores go to the threshold nearest to 0.5, as in tune
SHOWN = (BASELINE, "nnUNetTrainerPQ")


def _score(run: Run, part: str) -> FloatArray:
    """The mean of Dice and lesion-wise Dice at each threshold."""
    curves = run["curves"][part]
    return (np.array(curves["dice"]) + np.array(curves["lesion_dice"])) / 2


def chosen_threshold(run: Run) -> int:
    """The index of the threshold that is best on the validation cases."""
    odds = [abs(np.log(one / (1 - one))) for one in run["thresholds"]]
    score = _score(run, "val").round(ROUNDING)
    return min(range(len(odds)), key=lambda index: (-score[index], odds[index]))


def _row(title: str, group: Sequence[Run]) -> list[str]:
    chosen = [chosen_threshold(run) for run in group]
    thresholds = sorted(run["thresholds"][index] for run, index in zip(group, chosen, strict=True))
    scores = [_score(run, "test") for run in group]
    half = np.mean([score[HALF] for score in scores])
    at_chosen = np.mean([score[index] for score, index in zip(scores, chosen, strict=True)])
    best = np.mean([score.max() for score in scores])
    false = [
        np.mean([run["curves"]["test"]["false"][index] / len(run["test_cases"]["case"]) for run, index in pairs])
        for pairs in (((run, HALF) for run in group), zip(group, chosen, strict=True))
    ]
    edges = f"{np.median(thresholds):g} ({thresholds[0]:g}-{thresholds[-1]:g})"
    values = [f"{one:.3f}" for one in (half, at_chosen, best, best - at_chosen)]
    return [title, str(len(group)), edges, *values, *(f"{one:.1f}" for one in false)]


def threshold_section(found: Sequence[tuple[str, Runs]], notes: str) -> str:
    """The section with the table: rows for the baseline, PQ, and all runs of each comparison.

    Args:
        found: title and runs of each comparison. Runs without lesion-wise Dice at each threshold are left out.
        notes: what the table shows, written by hand.
    """
    rows = []
    for title, runs in found:
        every = [run for group in runs.values() for run in group if "lesion_dice" in run["curves"]["val"]]
        groups = [(f"`{name}`", runs.get(name, [])) for name in SHOWN] + [("all runs", every)]
        rows += [_row(f"{title}, {name}", group) for name, group in groups if group and every]
    head = ["runs", "number", "threshold: median (lowest-highest)", "mean of Dice and lesion-wise Dice at 0.5"]
    head += ["at the chosen threshold", "at the best one on the test cases", "cost"]
    head += ["false lesions per case at 0.5", "at the chosen threshold"]
    return "\n".join(
        [
            "## The threshold that tune would have chosen\n",
            "By default, `tune` and the end of a training choose the threshold with the highest mean of Dice and "
            "lesion-wise Dice on the validation cases. The table shows this choice among the 21 thresholds of the "
            "study, the score on the test cases, and the cost: what is lost against the threshold that is best on the "
            "test cases themselves, which no rule can know. Not part of it: the refinement around the best "
            "threshold, and the check for a gain out of fold, for which the runs store no scores of single validation "
            "cases.\n",
            notes,
            markdown(head, rows),
        ]
    )
