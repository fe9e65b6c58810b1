"""The meaning of label values: classes, regions and the ignore label, as declared in nnU-Net's dataset.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["FOREGROUND", "LabelScheme", "find_label_scheme", "read_label_scheme"]

Array = npt.NDArray[np.generic]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelScheme:
    """The meaning of the values in a label map.

    Attributes:
        classes: values of each class. A class with several values is a region, and regions may overlap. A class
            without values stands for all values above 0.
        ignore: ignore label. Voxels with this value in the ground truth are excluded from label and prediction. None if
            there is none.
        file_ending: file ending of the label maps, such as ".nii.gz"; None if it is unknown.
    """

    classes: dict[str, tuple[int, ...]]
    ignore: int | None = None
    file_ending: str | None = None

    def masks(self, name: str, label: Array, prediction: Array) -> tuple[BoolArray, BoolArray]:
        """The masks of one class in two label maps of the same shape, without ignored voxels.

        Returns:
            Two bool arrays of that shape, for the ground truth and for the prediction.
        """
        label_mask, prediction_mask = self._mask(name, label), self._mask(name, prediction)
        if self.ignore is not None:
            counts = label != self.ignore
            label_mask &= counts
            prediction_mask &= counts
        return label_mask, prediction_mask

    def counted(self, label: Array, probability: FloatArray | None) -> FloatArray | None:
        """The probability, set to 0 where the ground truth is ignored; None stays None."""
        if probability is None or self.ignore is None:
            return probability
        return np.where(label == self.ignore, np.float32(0), probability)

    def _mask(self, name: str, label_map: Array) -> BoolArray:
        values = self.classes[name]
        if not values:
            return np.greater(label_map, 0)
        if len(values) == 1:
            return np.equal(label_map, values[0])
        return np.isin(label_map, values)

    def undeclared(self, label_map: Array) -> list[int]:
        """The values of a label map that are neither background, a class nor the ignore label, sorted."""
        if not all(self.classes.values()):
            unknown = np.less(label_map, 0)
        else:
            declared = {0, *(value for values in self.classes.values() for value in values)}
            if self.ignore is not None:
                declared.add(self.ignore)
            unknown = np.logical_and.reduce([label_map != value for value in declared])  # faster than np.isin
        return [int(value) for value in np.unique(label_map[unknown])]

    def __str__(self) -> str:
        parts = [f"{name} ({', '.join(map(str, values)) or 'above 0'})" for name, values in self.classes.items()]
        return ", ".join(parts) + ("" if self.ignore is None else f", ignored: {self.ignore}")


# The scheme without a dataset.json: all values above 0 form one class.
FOREGROUND = LabelScheme({"foreground": ()})


def read_label_scheme(path: Path) -> LabelScheme:
    """Read the classes, the ignore label and the file ending from nnU-Net's dataset.json.

    Raises:
        ValueError: if the file cannot be read, or has no foreground label in the format of nnU-Net v2.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read. Expected: a dataset.json of nnU-Net. Got: {error}") from error
    labels = content.get("labels") if isinstance(content, dict) else None
    classes: dict[str, tuple[int, ...]] = {}
    ignore = None
    try:
        for name, value in labels.items():  # type: ignore[union-attr]
            values = tuple(value) if isinstance(value, list) else (value,)
            if not values or any(type(one) is not int for one in values):
                raise TypeError
            if name == "ignore":
                (ignore,) = values
            elif set(values) != {0}:
                classes[name] = values
        if not classes:
            raise TypeError
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{path} holds no usable labels. Expected: names with an integer or a list of integers, "
            f"one of them not the background. Got: {json.dumps(labels)}"
        ) from None
    return LabelScheme(classes, ignore, content.get("file_ending"))


def find_label_scheme(folders: Iterable[Path], given: Path | None) -> tuple[LabelScheme, Path | None, str]:
    """The label scheme of the given dataset.json, or of the first one found in the folders.

    Returns:
        The scheme, the path of its file, and a description of its origin. Without a file: :data:`FOREGROUND`, None, and
        a description.

    Raises:
        ValueError: if the dataset.json cannot be used.
    """
    candidates = (folder / "dataset.json" for folder in folders)
    path = given or next((path for path in candidates if path.is_file()), None)
    if path is None:
        return FOREGROUND, None, "no dataset.json found, all values above 0 form one class"
    return read_label_scheme(path), path, str(path)
