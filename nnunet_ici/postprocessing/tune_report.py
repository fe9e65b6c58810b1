"""The report on a choice: as JSON, as a table, and as remarks."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np

from nnunet_ici import __version__
from nnunet_ici.command import plural
from nnunet_ici.evaluation.families import METRICS
from nnunet_ici.evaluation.formats import to_text
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.tables import Cell, Table, format_value
from nnunet_ici.postprocessing.choice import FEW_CASES, FEW_LESIONS, Choice, Grid
from nnunet_ici.postprocessing.rule import Rule, Setting
from nnunet_ici.postprocessing.sweep import (
    DICE,
    F1,
    FALSE,
    LESION_DICE,
    LESIONS,
    MEAN,
    MISSED,
    STATISTICS,
    Scores,
    column,
)

__all__ = ["class_report", "few", "lesions", "notes", "report", "summarise", "summary_line", "table", "written_rule"]

# From here to 1, numbers of half precision are so far apart that they limit the choice of a threshold.
HALF_PRECISION_LIMIT = 0.999


def summarise(scores: Scores, metric: str = MEAN) -> dict[str, float]:
    """Means of the metrics, and totals of missed and false instances, from scores (cases, columns).

    Example:
        >>> summary = summarise(np.array([[0.5, 0.5, 1.0, 0, 2, 3], [1.0, 0.5, 1.0, 1, 2, 3]]))
        >>> summary["missed_instances"], summary["mean"]
        (1, 0.625)
    """
    summary: dict[str, float] = {}
    for name, values in zip(dict.fromkeys([*STATISTICS, metric]), scores.T, strict=False):
        total = METRICS[name].counts
        summary[name] = int(values.sum()) if total else float(np.nanmean(values))
    return summary | {MEAN: float(column(scores, MEAN).mean())}


def lesions(choice: Choice, name: str) -> int:
    """Number of lesions of a class in all cases."""
    return int(choice.sweep.scores(name, None)[:, STATISTICS.index(LESIONS)].sum())


def class_report(choice: Choice, name: str) -> dict[str, Any]:
    """The scores of one class in JSON types; folds are given by the names of their cases."""
    sweep = choice.sweep
    names = [case.name for case in sweep.cases]

    def scored(rule: Rule | None, cases: Any = slice(None)) -> dict[str, float]:
        return summarise(sweep.scores(name, rule)[cases], sweep.metric)

    return {
        "cases": len(names),
        "lesions": lesions(choice, name),
        "plain": scored(None),
        "in_sample": scored(choice.best),
        "out_of_fold": summarise(choice.out_of_fold(name), sweep.metric),
        "gain": asdict(choice.gain(name)),
        "sweep": [
            asdict(setting) | scored(choice.best.with_setting(name, setting))
            for setting in sorted(choice.tried[name], key=lambda one: one.threshold)
        ],
        "folds": [
            {"cases": [names[index] for index in fold], "setting": asdict(rule.settings[name])}
            | scored(rule, list(fold))
            for fold, rule in zip(choice.folds, choice.by_fold, strict=True)
        ],
    }


def written_rule(rule: Rule, file_ending: str | None) -> Rule:
    """The rule for predictions, which have no ignore label."""
    return Rule(LabelScheme(rule.scheme.classes, None, file_ending), rule.settings, rule.regions_class_order)


def report(choice: Choice, rule: Rule, network: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The content of a rule file or of threshold.json.

    Args:
        choice: what was chosen, and from what.
        rule: the rule to write.
        network: for each fold, the file name and the fingerprint of the checkpoint that made the probabilities.
    """
    packages = ("numpy", "connected-components-3d")
    return {
        "nnunet_ici": __version__,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **rule.to_json(),
        "thresholds": {name: setting.threshold for name, setting in rule.settings.items()},
        "network": dict(network),
        "metric": choice.sweep.metric,
        "overlap": choice.sweep.overlap,
        "scores": {name: class_report(choice, name) for name in rule.settings},
    }


def table(choice: Choice) -> str:
    """A table with the scores of nnU-Net's own label maps, and of the choice in sample and out of fold, per class."""
    rows = []
    for name in choice.best.settings:
        number = lesions(choice, name)
        for title, scores in (
            ("nnU-Net", choice.sweep.scores(name, None)),
            ("chosen, on the same cases", choice.sweep.scores(name, choice.best)),
            ("chosen, out of fold", choice.out_of_fold(name)),
        ):
            found = summarise(scores)
            values = [found[DICE], found[LESION_DICE], found[F1], number, found[MISSED], found[FALSE]]
            rows.append([Cell(text) for text in (name, title, *map(format_value, values))])
    head = ["class", "masks", "Dice", "lesion-wise Dice", "lesion F1", "lesions", "missed", "false"]
    better = ["", "", "higher", "higher", "higher", "", "lower", "lower"]
    return to_text(Table("tune", "", 2, head, rows, better=better))


def summary_line(scores: Scores) -> str:
    """The scores (cases, columns) in one line."""
    found = summarise(scores)
    return (
        f"lesion-wise Dice {found[LESION_DICE]:.3f}, lesion F1 {found[F1]:.3f}, Dice {found[DICE]:.3f}, "
        f"{found[FALSE] / len(scores):.2f} false lesions per case"
    )


def few(choice: Choice, name: str) -> str:
    """A remark if there are too few lesions or cases for a certain choice, else an empty string."""
    cases, number = len(choice.sweep.cases), lesions(choice, name)
    if number >= FEW_LESIONS and cases >= FEW_CASES:
        return ""
    return (
        f"{name}: {plural(number, 'lesion')} in {plural(cases, 'case')} are few; the gain out of fold is "
        f"{choice.gain(name)}"
    )


def notes(choice: Choice, name: str, grid: Grid) -> list[str]:
    """Remarks on the choice for a class, one sentence each: few cases, no gain, hidden by another region, a value at
    the edge of the grid, half precision."""
    found = [remark for remark in [few(choice, name)] if remark]
    hidden_by = choice.best.hidden_regions().get(name)
    if hidden_by is not None:
        found.append(
            f"{name}: hidden by {hidden_by}, which contains it and is written later; regions_class_order must end with "
            "the smallest region"
        )
    if not choice.gains(name):
        return [*found, f"{name}: no gain out of fold ({choice.gain(name)}); 0.5 stays"]
    setting: Setting = choice.best.settings[name]
    if len(grid.thresholds) > 1 and setting.threshold in (min(grid.thresholds), max(grid.thresholds)):
        found.append(f"{name}: threshold {setting.threshold:g} is at the edge of the grid; widen it with --thresholds")
    if setting.minimum_volume_mm3 > 0 and setting.minimum_volume_mm3 == max(grid.volumes_mm3):
        found.append(
            f"{name}: {setting.minimum_volume_mm3:g} mm³ is at the edge of the grid; widen it with --volumes-mm3"
        )
    halves = sum(case.half_precision for case in choice.sweep.cases)
    if halves and setting.threshold > HALF_PRECISION_LIMIT:
        found.append(
            f"{name}: the probabilities of {plural(halves, 'case')} were stored in half precision, which has no number "
            f"between 0.9995 and 1, so the threshold {setting.threshold:g} is no better known than that"
        )
    return found
