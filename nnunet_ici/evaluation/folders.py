"""Folders of label maps in nnU-Net's layout, and the pairing of their files by case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.images import visible

__all__ = [
    "FILE_ENDINGS",
    "Case",
    "Predictions",
    "find_above",
    "find_cases",
    "find_file_ending",
    "list_cases",
    "pair_cases",
]

# File endings that nnU-Net reads. No file name ends in two of them.
FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl", ".png", ".bmp", ".tif", ".tiff")


def find_file_ending(folder: Path, declared: str | None) -> str:
    """The file ending of a folder's label maps: the declared one, or the single one of :data:`FILE_ENDINGS` in use.

    Raises:
        ValueError: if no ending is declared and the folder's visible files have none of these endings, or several.
    """
    if declared is not None:
        return declared
    names = [file.name for file in visible(folder, "*")]
    endings = [ending for ending in FILE_ENDINGS if any(name.endswith(ending) for name in names)]
    if len(endings) != 1:
        raise ValueError(
            f"{folder}: the file ending of the label maps is ambiguous. Expected: one of {', '.join(FILE_ENDINGS)}. "
            f"Got: {', '.join(endings) or 'no such file'}"
        )
    return endings[0]


def find_above(prediction: Path, name: str) -> Path | None:
    """The file of this name in a prediction's folder or up to two folders above; None if there is none.

    For a prediction in ``fold_X/validation``, the trainer's folder is two folders above.
    """
    folders = (prediction.parent, *prediction.parent.parents[:2])
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def list_cases(folder: Path, file_ending: str) -> dict[str, Path]:
    """The visible files of a folder with this ending, sorted, by case name (the file name without the ending)."""
    return {file.name[: -len(file_ending)]: file for file in visible(folder, f"*{file_ending}")}


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        name: name of the case.
        label: path of the ground truth.
        predictions: path of each model's prediction; None for a missing one.
    """

    name: str
    label: Path
    predictions: dict[str, Path | None]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model.

    Attributes:
        files: path of the label map of each case.
        where: folder in which missing label maps are expected, for messages.
    """

    files: dict[str, Path]
    where: Path


def find_cases(
    label_folder: Path, prediction_folders: dict[str, Path], file_ending: str, allow_missing: bool = False
) -> tuple[list[Case], list[str]]:
    """Pair the ground truth with the predictions in each model's folder, by file name.

    Args:
        label_folder: folder of the ground truth; each of its files is a case.
        prediction_folders: folder of each model.
        file_ending: ending of the files to read; other files are ignored.
        allow_missing: whether missing predictions are allowed.

    Returns:
        The cases, sorted by name, and the problems, one sentence each.
    """
    problems = []
    files: dict[Path, dict[str, Path]] = {}
    for folder in dict.fromkeys([label_folder, *prediction_folders.values()]):
        files[folder] = list_cases(folder, file_ending)
        if not files[folder]:
            others = sum(1 for _ in folder.iterdir())
            problems.append(f"{folder} holds no label map. Expected: *{file_ending}. Got: {others} other files")
    models = {model: Predictions(files[folder], folder) for model, folder in prediction_folders.items()}
    cases, found = pair_cases(files[label_folder], models, label_folder, file_ending, allow_missing)
    return cases, problems + found


def pair_cases(
    labels: dict[str, Path],
    models: dict[str, Predictions],
    label_folder: Path,
    file_ending: str,
    allow_missing: bool = False,
) -> tuple[list[Case], list[str]]:
    """Pair the files of the ground truth with those of each model, by case.

    Args:
        labels: path of the ground truth of each case.
        models: predictions of each model; a model without any file causes no problem here.
        label_folder: folder of the ground truth, for messages.
        file_ending: ending of all files, for messages.
        allow_missing: whether missing predictions are allowed.

    Returns:
        The cases in the order of ``labels``, and the problems, one sentence each.
    """
    problems = []
    for model, predictions in models.items():
        if not predictions.files or not labels:
            continue
        if not labels.keys() & predictions.files.keys():
            expected, got = (
                ", ".join(name + file_ending for name in list(names)[:2]) for names in (labels, predictions.files)
            )
            problems.append(
                f"{model}: no case of {predictions.where} matches {label_folder}. Expected: {expected}, as nnU-Net "
                f"names prediction and ground truth alike, CASE{file_ending}. Got: {got}"
            )
            continue
        if not allow_missing:
            problems += [
                f"{model}: no prediction for case {name}. Expected: {predictions.where / (name + file_ending)}. "
                "Got: no such file (--allow-missing counts it as empty)"
                for name in labels
                if name not in predictions.files
            ]
        problems += [
            f"{model}: prediction without a ground truth: {path}. Expected: {label_folder / path.name}. "
            "Got: no such file"
            for name, path in predictions.files.items()
            if name not in labels
        ]
    cases = [
        Case(name, label, {model: predictions.files.get(name) for model, predictions in models.items()})
        for name, label in labels.items()
    ]
    return cases, problems
