"""Validation predictions at the tuned thresholds, each case at the setting that was chosen without this case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from nnunet_ici.command import InputError
from nnunet_ici.compare.trained import Trained
from nnunet_ici.parallel import in_parallel
from nnunet_ici.postprocessing.checkpoints import rule_after_shift
from nnunet_ici.postprocessing.network import THRESHOLD_FILE, TUNED, outdated, read_choice
from nnunet_ici.postprocessing.postprocess import Prediction, postprocess_files
from nnunet_ici.postprocessing.rule import Rule, Setting, read_rule
from nnunet_ici.postprocessing.sweep import LESION_DICE

__all__ = ["Tuned", "read_tuned", "write_predictions"]


@dataclass(frozen=True)
class Tuned:
    """The tuned variant of a model.

    Attributes:
        model: the model.
        rules: rule of each fold, for its probabilities.
        by_case: rule of each validation case, chosen without this case; 0.5 where nothing was gained.
        lesion_dice: lesion-wise Dice at 0.5 and, out of fold, at the tuned thresholds, as the rules report them.
    """

    model: Trained
    rules: dict[str, Rule]
    by_case: dict[str, Rule]
    lesion_dice: tuple[float, float]

    @property
    def removal(self) -> Rule | None:
        """The rule for predictions of the tuned checkpoints if it removes small lesions and all folds agree on it."""
        first, *others = (rule_after_shift(rule) for rule in self.rules.values())
        removes = any(setting.minimum_volume_mm3 > 0 for setting in first.settings.values())
        return first if removes and all(other == first for other in others) else None


def read_tuned(model: Trained, folds: Sequence[str]) -> Tuned | None:
    """Read the rules that ``nnunet_ici tune --checkpoint`` or the end of a training wrote into the folds of a model.

    Returns:
        The tuned variant; None if a fold has no rule or no tuned checkpoint, or if all thresholds are 0.5 and nothing
        is removed.

    Raises:
        ValueError: if a rule cannot be read, lacks a validation case, or belongs to an earlier network of its fold.
    """
    paths = {fold: model.fold(fold) / THRESHOLD_FILE for fold in folds}
    if not all(path.is_file() and path.with_name(TUNED).is_file() for path in paths.values()):
        return None
    rules = {fold: read_rule(path) for fold, path in paths.items()}
    if all(setting == Setting() for rule in rules.values() for setting in rule.settings.values()):
        return None
    by_case: dict[str, Rule] = {}
    reported = []
    for fold, path in paths.items():
        if problem := outdated(path.parent):
            raise ValueError(problem)
        scores = read_choice(path.parent).get("scores", {})
        reported += scores.values()
        for case in model.predictions(fold):
            settings = {name: setting for name, setting in rules[fold].settings.items() if setting == Setting()}
            for name in set(rules[fold].settings) - set(settings):
                for of_fold in scores.get(name, {}).get("folds", []):
                    if case in of_fold["cases"]:
                        settings[name] = Setting(**of_fold["setting"])
            if len(settings) < len(rules[fold].settings):
                raise ValueError(
                    f"{path} does not fit the validation. Expected: a setting chosen without case {case}. Got: none. "
                    f"Try: {model.make(fold)}"
                )
            by_case[case] = replace(rules[fold], settings=settings)
    plain, out_of_fold = (fmean(one[key][LESION_DICE] for one in reported) for key in ("plain", "out_of_fold"))
    return Tuned(model, rules, by_case, (plain, out_of_fold))


def write_predictions(tuned: Tuned, folder: Path, processes: int) -> None:
    """Write the label map of every validation case at its own setting into a new folder.

    Raises:
        InputError: if probabilities cannot be read, or do not fit their label map.
    """
    folder.mkdir(parents=True)
    jobs = []
    for fold in tuned.rules:
        probabilities = tuned.model.probabilities(fold)
        jobs += [
            (Prediction(path, probabilities[case]), tuned.by_case[case])
            for case, path in tuned.model.predictions(fold).items()
        ]
    results = in_parallel(partial(_predict, folder=folder), jobs, processes, f"{tuned.model.trainer}, tuned")
    if problems := [result for result in results if isinstance(result, str)]:
        raise InputError(problems)


def _predict(job: tuple[Prediction, Rule], folder: Path) -> tuple[int, int] | str:
    return postprocess_files(*job, folder)
