"""Training curves from nnU-Net's text logs and from the tables of loss terms written by this package's trainers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ici.evaluation.folders import Case

__all__ = ["Curves", "Series", "find_fold_folders", "parse_trainings", "read_curves"]

TERMS_FILE = "terms_ici.csv"
LOG_FILES = "training_log_*.txt"
PHASES = ("train", "val")
# columns of the numerator and the denominator of each share
SHARES = {"missed": ("missed_instances", "label_instances"), "false": ("false_instances", "predicted_instances")}
COUNTS = {name for pair in SHARES.values() for name in pair}

# value by epoch; the first epoch is 0
Series = dict[int, float]

_LINE = re.compile(r"^[\d-]+ [\d:.]+: (Epoch|train_loss|val_loss|Pseudo dice) (.*)$")
# The lookbehind skips the digits of "float32" in np.float32(0.5).
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf)")


@dataclass
class Curves:
    """Curves of one training.

    Attributes:
        name: name of the model.
        folder: folder of the fold.
        terms: training and validation curve of each loss term; empty for nnU-Net's own trainers.
        loss: training and validation curve of the loss.
        dice: curve of nnU-Net's pseudo Dice for each class.
        shares: curves of the shares of missed lesions and false predictions in the validation patches; empty for
            nnU-Net's own trainers.
    """

    name: str
    folder: Path
    terms: dict[str, tuple[Series, Series]] = field(default_factory=dict)
    loss: tuple[Series, Series] = field(default_factory=lambda: ({}, {}))
    dice: list[Series] = field(default_factory=list)
    shares: dict[str, Series] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of the last epoch plus one; 0 if no epoch was finished."""
        series = [*self.loss, *self.dice, *(one for pair in self.terms.values() for one in pair)]
        return max((max(one) + 1 for one in series if one), default=0)


def parse_trainings(arguments: Iterable[str], models: Sequence[str] | None) -> tuple[list[tuple[str, Path]], list[str]]:
    """Parse NAME=FOLDER arguments into names and fold folders, and collect the problems.

    The folder of a trainer includes all its fold_X folders. A name may be given several times, with different folds.

    Args:
        arguments: arguments as given.
        models: names of the models of the evaluation; None if they are not known, and then names are not checked.

    Returns:
        The names and fold folders, and the problems, one sentence each.
    """
    trainings = []
    problems = []
    for argument in arguments:
        name, _, text = argument.partition("=")
        folder = Path(text)
        if not name or not text:
            problems.append(f"--training is malformed. Expected: NAME=FOLDER. Got: {argument}")
        elif models is not None and name not in models:
            problems.append(
                f"--training {argument} names no model of the evaluation. Expected: one of {', '.join(models)}. "
                f"Got: {name}"
            )
        elif not folder.is_dir():
            problems.append(f"--training {argument} cannot be read. Expected: a folder. Got: no such folder")
        elif _is_fold(folder):
            trainings.append((name, folder))
        elif folds := [fold for fold in sorted(folder.glob("fold_*")) if _is_fold(fold)]:
            trainings += [(name, fold) for fold in folds]
        else:
            problems.append(
                f"--training {argument} holds no training. Expected: {TERMS_FILE} or {LOG_FILES}, in this folder "
                "or in its fold_X folders. Got: neither"
            )
    return trainings, problems


def find_fold_folders(cases: Iterable[Case]) -> list[tuple[str, Path]]:
    """Models and fold folders whose validation predictions were evaluated, if the folders contain training curves."""
    found: dict[tuple[str, Path], None] = {}
    for case in cases:
        for model, path in case.predictions.items():
            if path is not None and path.parent.name == "validation" and path.parents[1].name.startswith("fold_"):
                found[model, path.parents[1]] = None
    return sorted((model, folder) for model, folder in found if _is_fold(folder))


def _is_fold(folder: Path) -> bool:
    return (folder / TERMS_FILE).is_file() or any(folder.glob(LOG_FILES))


def read_curves(name: str, folder: Path) -> Curves:
    """Read the curves of a fold.

    Args:
        name: name of the model.
        folder: folder of the fold, with ``training_log_*.txt`` (one file per start of the training) or
            ``terms_ici.csv``.

    Raises:
        ValueError: if a file cannot be read, or no epoch was finished.
    """
    curves = Curves(name, folder)
    if (folder / TERMS_FILE).is_file():
        _read_terms(folder / TERMS_FILE, curves)
    for path in sorted(folder.glob(LOG_FILES), key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)]):
        try:
            _add_log(path.read_text(encoding="utf-8", errors="replace").splitlines(), curves)
        except OSError as error:
            raise ValueError(f"{path} cannot be read. Expected: a training log of nnU-Net. Got: {error}") from error
    if not curves.epochs:
        raise ValueError(f"{folder} holds no curve. Expected: at least one epoch in the logs. Got: none")
    return curves


def _read_terms(path: Path, curves: Curves) -> None:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns: dict[str, Series] = {}
            for row in csv.DictReader(file):
                epoch = int(row.pop("epoch"))
                for column, text in row.items():
                    columns.setdefault(column, {})[epoch] = float(text)
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read. Expected: a column epoch, and numbers. Got: {error}") from error
    for column in columns:
        phase, _, term = column.partition("_")
        if phase == "train" and term not in COUNTS:
            curves.terms[term] = (columns[column], columns.get(f"val_{term}", {}))
    for title, (part, whole) in SHARES.items():
        parts, wholes = columns.get(f"val_{part}", {}), columns.get(f"val_{whole}", {})
        if parts:
            curves.shares[title] = {
                epoch: value / wholes[epoch] if wholes.get(epoch) else math.nan for epoch, value in parts.items()
            }


def _add_log(lines: Sequence[str], curves: Curves) -> None:
    """Add the epochs of one log. They replace all epochs of earlier logs from its first epoch on."""
    epoch: int | None = None
    for line in lines:
        match = _LINE.match(line.rstrip())
        numbers = [float(number) for number in _NUMBER.findall(match[2])] if match else []
        if match is None or not numbers:
            continue
        if match[1] == "Epoch":
            if epoch is None:
                for series in (*curves.loss, *curves.dice):
                    for later in [known for known in series if known >= numbers[0]]:
                        del series[later]
            epoch = int(numbers[0])
        elif epoch is not None and match[1] == "Pseudo dice":
            curves.dice += [{} for _ in range(len(numbers) - len(curves.dice))]
            for series, number in zip(curves.dice, numbers, strict=False):
                series[epoch] = number
        elif epoch is not None:
            curves.loss[PHASES.index(match[1].removesuffix("_loss"))][epoch] = numbers[0]
