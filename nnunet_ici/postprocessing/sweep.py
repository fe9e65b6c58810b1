"""The scores of rules on cases: every rule is scored on the label map that it writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.families import METRICS, Pair
from nnunet_ici.evaluation.probabilities import probability_of
from nnunet_ici.parallel import in_parallel
from nnunet_ici.postprocessing.cases import Case
from nnunet_ici.postprocessing.rule import Rule, Setting

__all__ = [
    "CHOICES",
    "MEAN",
    "STATISTICS",
    "THRESHOLDS",
    "Scores",
    "Sweep",
    "column",
    "refined",
    "score_case",
]

Scores = npt.NDArray[np.float64]

DICE, LESION_DICE, F1 = "dice", "lesion_dice", "lesion_f1"
MISSED, FALSE, LESIONS = "missed_instances", "false_instances", "label_instances"
# The columns of every array of scores; the metric to maximize follows if it is another one.
STATISTICS = (DICE, LESION_DICE, F1, MISSED, FALSE, LESIONS)
MEAN = "mean"
# The metrics by which a rule can be chosen.
CHOICES = (MEAN, *(name for name, metric in METRICS.items() if metric.better and not metric.needs_probability))

# Logits from -3.9 to 11.7: probabilities from 0.02 to 0.99999.
STEP, LOWEST_STEP, HIGHEST_STEP = 0.65, -6, 18
PARTS = 4  # between two thresholds


def probability(logit: float) -> float:
    """The probability of a logit, rounded to nine decimals."""
    return round(1 / (1 + math.exp(-logit)), 9)


def logit(probability: float) -> float:
    """The logit of a probability; infinite for 0 and 1."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability) - math.log1p(-probability)


THRESHOLDS = tuple(probability(STEP * step) for step in range(LOWEST_STEP, HIGHEST_STEP + 1))


def refined(threshold: float, thresholds: Sequence[float]) -> list[float]:
    """Thresholds between one and its neighbors, even in the logit.

    Example:
        >>> refined(0.5, [0.5, 0.9])
        [0.633974596, 0.75, 0.838609522]
    """
    logits = sorted(logit(one) for one in thresholds)
    at = logits.index(logit(threshold))
    pairs = zip(logits[max(at - 1, 0) : at + 1], logits[max(at, 1) : at + 2], strict=False)
    return [probability(low + (high - low) * part / PARTS) for low, high in pairs for part in range(1, PARTS)]


def column(scores: Scores, metric: str) -> Scores:
    """The values of a metric, (...), higher is better, from scores (..., columns); "mean" averages Dice and
    lesion-wise Dice."""
    if metric == MEAN:
        return (scores[..., STATISTICS.index(DICE)] + scores[..., STATISTICS.index(LESION_DICE)]) / 2
    values = scores[..., STATISTICS.index(metric) if metric in STATISTICS else len(STATISTICS)]
    return -values if METRICS[metric].better == "lower" else values


def score_case(
    case: Case, jobs: Sequence[tuple[str, Rule | None]], metrics: Sequence[str], rule: Rule, overlap: float = 0.0
) -> Scores:
    """Score label maps on one case.

    Args:
        case: the case.
        jobs: a class, and the rule whose label map is scored for this class; None for nnU-Net's own label map.
        metrics: names of the metrics to compute.
        rule: the classes, with the ignore label.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel.

    Returns:
        float64 (jobs, metrics). Components are kept or removed as a whole, but voxels that are ignored in the ground
        truth are not scored.
    """
    # All but removal and metrics works voxel by voxel, on the V voxels of the case.
    scheme = rule.scheme
    masks: dict[tuple[str, Setting], npt.NDArray[np.bool_]] = {}

    def mask(name: str, setting: Setting) -> npt.NDArray[np.bool_]:
        if (name, setting) not in masks:
            probability = probability_of(case.probabilities, scheme, name)
            if setting.minimum_volume_mm3 > 0:
                whole = setting.mask(case.spread(probability), case.voxel_mm3)
                masks[name, setting] = whole.reshape(-1)[case.at]
            else:
                masks[name, setting] = setting.mask(probability, case.voxel_mm3)
        return masks[name, setting]

    scores = np.empty((len(jobs), len(metrics)))
    for row, (name, tried) in zip(scores, jobs, strict=True):
        written = case.plain
        if tried is not None:
            written = tried.write({one: mask(one, tried.settings[one]) for one in scheme.classes}, case.probabilities)
        label, predicted = (case.spread(one) for one in scheme.masks(name, case.label, written))
        pair = Pair(label, predicted, case.spacing_mm, case.voxel_mm3, overlap=overlap)
        row[:] = [METRICS[metric].compute(pair) for metric in metrics]
    return scores


@dataclass
class Sweep:
    """The scores of rules on all cases; each is computed once.

    Attributes:
        cases: the cases.
        rule: the classes, with the ignore label; the settings do not matter.
        metric: metric to maximize, a key of :data:`METRICS` or :data:`MEAN`.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel.
        processes: number of processes.
        description: text of the progress bars.
    """

    cases: Sequence[Case]
    rule: Rule
    metric: str = MEAN
    overlap: float = 0.0
    processes: int = 1
    description: str = "sweep"
    _known: dict[tuple[object, ...], Scores] = field(default_factory=dict, repr=False)

    def compute(self, jobs: Iterable[tuple[str, Rule | None]]) -> None:
        """Score the label maps of all jobs, see :func:`score_case`, that were not scored before."""
        new = {_key(*job): job for job in jobs if _key(*job) not in self._known}
        names = dict.fromkeys((*STATISTICS, *([] if self.metric == MEAN else [self.metric])))
        score = partial(score_case, jobs=list(new.values()), metrics=list(names), rule=self.rule, overlap=self.overlap)
        if new:
            of_cases = np.stack(in_parallel(score, self.cases, self.processes, self.description))
            self._known.update(zip(new, of_cases.swapaxes(0, 1), strict=True))

    def scores(self, name: str, rule: Rule | None) -> Scores:
        """Scores (cases, columns) of a class in the label maps of a rule; None for nnU-Net's own."""
        self.compute([(name, rule)])
        return self._known[_key(name, rule)]

    def values(self, name: str, rule: Rule | None) -> Scores:
        """Values (cases,) of the metric, higher is better."""
        return column(self.scores(name, rule), self.metric)


def _key(name: str, rule: Rule | None) -> tuple[object, ...]:
    return (name, rule and tuple(rule.settings.values()))
