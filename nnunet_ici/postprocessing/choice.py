"""The choice of a rule, and its scores on cases that were not used for the choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.comparison import Comparison, compare
from nnunet_ici.postprocessing.rule import Rule, Setting
from nnunet_ici.postprocessing.sweep import THRESHOLDS, Scores, Sweep, logit, refined

__all__ = ["Choice", "Grid", "choose", "draw_folds", "match_folds"]

# Means of the same numbers summed in another order differ by less than this.
ROUNDING = 1e-12
# With fewer, the gain is uncertain enough to say so.
FEW_LESIONS, FEW_CASES = 30, 5


@dataclass(frozen=True)
class Grid:
    """The values to try, in this order: thresholds, then minimum volumes, then peaks.

    Attributes:
        thresholds: thresholds of the probability.
        refine: whether to try thresholds between the best one and its neighbors.
        volumes_mm3: minimum volumes below which lesions are removed; none removed is always tried.
        peaks: peak probabilities that exempt a component from removal; None exempts none.
    """

    thresholds: tuple[float, ...] = THRESHOLDS
    refine: bool = True
    volumes_mm3: tuple[float, ...] = ()
    peaks: tuple[float | None, ...] = (None,)

    def stage(self, number: int, best: Setting) -> list[Setting]:
        """The settings of a stage, 0 to 3, given the best setting so far, in the order of preference in a tie: near
        0.5 first, then what removes least."""
        if number < 2:
            between = refined(best.threshold, self.thresholds) if self.refine and number else []
            thresholds = between if number else self.thresholds
            settings = [*([best] if number else []), *(Setting(threshold) for threshold in thresholds)]
            return sorted(settings, key=lambda one: (round(abs(logit(one.threshold)), 6), one.threshold))
        if number == 2:
            return [best, *(Setting(best.threshold, volume) for volume in sorted(self.volumes_mm3) if volume > 0)]
        above = sorted(peak for peak in self.peaks if peak is not None and peak > best.threshold)
        tried: list[float | None] = [*above, *([None] if None in self.peaks or not above else [])]
        removes = best.minimum_volume_mm3 > 0
        return [Setting(best.threshold, best.minimum_volume_mm3, peak) for peak in tried] if removes else [best]


STAGES = 4


@dataclass(frozen=True, eq=False)
class Choice:
    """A rule that was chosen on all cases, and what it gains.

    Attributes:
        sweep: the scores.
        best: best rule on all cases.
        by_fold: for each fold, the best rule on the other folds.
        folds: indices of the cases in each fold.
        tried: settings of each class that were tried, with the settings of the other classes in ``best``.
    """

    sweep: Sweep
    best: Rule
    by_fold: tuple[Rule, ...]
    folds: Sequence[Sequence[int]]
    tried: dict[str, list[Setting]]

    def out_of_fold(self, name: str) -> Scores:
        """Scores (cases, columns) of a class, each case with the rule chosen on the other folds."""
        scores = np.empty_like(self.sweep.scores(name, None))
        for fold, rule in zip(self.folds, self.by_fold, strict=True):
            scores[list(fold)] = self.sweep.scores(name, rule)[list(fold)]
        return scores

    def gain(self, name: str) -> Comparison:
        """The comparison with nnU-Net's own label maps for one class, out of fold, in the metric to maximize."""
        values = np.empty(len(self.sweep.cases))
        for fold, rule in zip(self.folds, self.by_fold, strict=True):
            values[list(fold)] = self.sweep.values(name, rule)[list(fold)]
        return compare(values, self.sweep.values(name, None))

    def gains(self, name: str) -> bool:
        """Whether a class gains out of fold."""
        return self.gain(name).difference > ROUNDING

    @property
    def rule(self) -> Rule:
        """The best rule, with 0.5 and no removal for classes without a gain out of fold."""
        rule = self.best
        for name in rule.settings:
            if not self.gains(name):
                rule = rule.with_setting(name, Setting())
        return rule


def choose(sweep: Sweep, folds: Sequence[Sequence[int]], grid: Grid) -> Choice:
    """Choose the best rule on all cases, and for each fold the best rule on the other folds.

    The classes are chosen one after the other, beginning with the region that is written last, because it overwrites
    the others. Each is scored on the label map that is written with the settings chosen so far.

    Args:
        sweep: scores of the cases.
        folds: indices of the cases in each fold; two or more folds, each case in exactly one.
        grid: values to try.

    Raises:
        ValueError: if the metric has no value in any case.
    """
    every = np.arange(len(sweep.cases))
    subsets = [every, *(np.setdiff1d(every, list(fold)) for fold in folds)]
    plain = replace(sweep.rule, settings={name: Setting() for name in sweep.rule.scheme.classes})
    rules = [plain] * len(subsets)
    sweep.compute((name, None) for name in plain.settings)
    tried: dict[str, list[Setting]] = {}
    for name in reversed(plain.settings):
        for stage in range(STAGES):
            options = [
                [rule.with_setting(name, one) for one in grid.stage(stage, rule.settings[name])] for rule in rules
            ]
            sweep.compute((name, rule) for of_subset in options for rule in of_subset)
            rules = [_best(sweep, name, of_subset, cases) for of_subset, cases in zip(options, subsets, strict=True)]
            tried.setdefault(name, []).extend(rule.settings[name] for rule in options[0])
    return Choice(sweep, rules[0], tuple(rules[1:]), folds, {name: list(dict.fromkeys(tried[name])) for name in tried})


def _best(sweep: Sweep, name: str, options: Sequence[Rule], cases: npt.NDArray[np.int64]) -> Rule:
    """The rule with the highest mean over the cases; the first one in a tie."""
    values = np.array([sweep.values(name, rule)[cases] for rule in options])
    known = np.isfinite(values)
    if not known.any(axis=1).all():
        raise ValueError(
            f"--metric {sweep.metric} has no value for {name}. Expected: a metric with a value in a case of every "
            "fold. Got: none"
        )
    means = np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
    return options[int(np.flatnonzero(means >= means.max() - ROUNDING)[0])]


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
