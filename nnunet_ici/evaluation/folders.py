"""Folders of label maps in nnU-Net's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.images import visible

__all__ = [
    "FILE_ENDINGS",
    "Case",
    "Predictions",
    "find_above",
    "find_file_ending",
    "list_cases",
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
