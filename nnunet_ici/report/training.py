"""Training curves from nnU-Net's text logs and from the tables of loss terms written by this package's trainers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_ici.evaluation.folders import Case

__all__ = ["Curves", "find_fold_folders", "parse_trainings", "read_curves"]

TERMS_FILE = "terms_ici.csv"
LOG_FILES = "training_log_*.txt"
COLUMNS = ["chart", "curve", "phase", "epoch", "value"]
PHASES = {"train": "training", "val": "validation"}
# columns of the numerator and the denominator of each share
SHARES = {
    "missed lesions": ("missed_instances", "label_instances"),
    "false predictions": ("false_instances", "predicted_instances"),
}
SCORES = {"lesion_f1": "lesion F1", "lesion_dice": "lesion-wise Dice"}
COUNTS = {name for pair in SHARES.values() for name in pair}

_LINE = re.compile(r"^[\d-]+ [\d:.]+: (Epoch|train_loss|val_loss|Pseudo dice) (.*)$")
# The lookbehind skips the digits of "float32" in np.float32(0.5).
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf)")


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves of one training.

    Attributes:
        name: name of the model.
        folder: folder of the fold.
        points: a row per point with the columns "chart" ("terms", "validation terms", "scores", "loss" or "mistakes";
            "dice" for nnU-Net's pseudo Dice), "curve" (such as the term or the class), "phase" ("training" or
            "validation"), "epoch", the first of which is 0, and "value". Stock trainers of nnU-Net have only loss and
            Dice. Mistakes are the shares of missed lesions and false predictions in the validation patches, scores
            their lesion F1 and lesion-wise Dice.
    """

    name: str
    folder: Path
    points: pd.DataFrame

    @property
    def title(self) -> str:
        """Name of the model and of the fold."""
        return f"{self.name}, {self.folder.resolve().name}"

    @property
    def epochs(self) -> int:
        """Number of the last epoch plus one."""
        return int(self.points["epoch"].max()) + 1


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
        elif folds := [fold for fold in (folder, *sorted(folder.glob("fold_*"))) if _is_fold(fold)]:
            trainings += [(name, fold) for fold in ([folder] if folder in folds else folds)]
        else:
            problems.append(
                f"--training {argument} holds no training. Expected: {TERMS_FILE} or {LOG_FILES}, in this folder "
                "or in its fold_X folders. Got: neither"
            )
    return trainings, problems


def find_fold_folders(cases: Iterable[Case]) -> list[tuple[str, Path]]:
    """Models and fold folders whose validation predictions were evaluated, if the folders contain training curves."""
    found = {
        (model, path.parents[1])
        for case in cases
        for model, path in case.predictions.items()
        if path is not None and path.parent.name == "validation" and path.parents[1].name.startswith("fold_")
    }
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
    terms = _read_terms(folder / TERMS_FILE) if (folder / TERMS_FILE).is_file() else pd.DataFrame(columns=COLUMNS)
    logs = pd.DataFrame(columns=COLUMNS)
    for path in sorted(folder.glob(LOG_FILES), key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)]):
        try:
            first, points = _read_log(path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise ValueError(f"{path} cannot be read. Expected: a training log of nnU-Net. Got: {error}") from error
        # a training that was taken up again replaces all later epochs
        logs = pd.DataFrame([*logs[logs["epoch"] < first].values.tolist(), *points], columns=COLUMNS)
    if terms.empty and logs.empty:
        raise ValueError(f"{folder} holds no curve. Expected: at least one epoch in the logs. Got: none")
    return Curves(name, folder, pd.DataFrame([*terms.values.tolist(), *logs.values.tolist()], columns=COLUMNS))


def _read_terms(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=float, index_col="epoch")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a column epoch, and numbers. Got: {error}") from error
    series = {}
    for column in table:
        phase, _, term = str(column).partition("_")
        if term in SCORES:
            mean = ", exponential mean" if phase == "ema" else ""
            series["scores", SCORES[term] + mean, "validation"] = table[column]
        elif phase in PHASES and term not in COUNTS:
            chart = "terms" if phase == "train" else "validation terms"
            series[chart, term.replace("_", " "), PHASES[phase]] = table[column]
    for title, (part, whole) in SHARES.items():
        if f"val_{part}" in table:
            counts = table[f"val_{whole}"]
            series["mistakes", title, "validation"] = table[f"val_{part}"] / counts.where(counts > 0)
    rows = [[*key, int(epoch), value] for key, one in series.items() for epoch, value in one.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _read_log(text: str) -> tuple[float, list[list[object]]]:
    """The first epoch of a log, infinity if there is none, and its points."""
    first, epoch = np.inf, None
    points: list[list[object]] = []
    for line in text.splitlines():
        match = _LINE.match(line.rstrip())
        numbers = [float(number) for number in _NUMBER.findall(match[2])] if match else []
        if match is None or not numbers:
            continue
        if match[1] == "Epoch":
            epoch = int(numbers[0])
            first = min(first, epoch)
        elif epoch is not None and match[1] == "Pseudo dice":
            points += [["dice", f"class {one}", "validation", epoch, dice] for one, dice in enumerate(numbers, 1)]
        elif epoch is not None:
            points.append(["loss", "loss", PHASES[match[1].removesuffix("_loss")], epoch, numbers[0]])
    return first, points
