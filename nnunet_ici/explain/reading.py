"""The files to explain: a label map, a prediction as label map or probabilities, and the image behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.folders import FILE_ENDINGS
from nnunet_ici.evaluation.grids import read_background, read_prediction, read_probabilities_for
from nnunet_ici.evaluation.label_maps import LabelMap, read_label_map
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme
from nnunet_ici.evaluation.probabilities import probability_of

__all__ = ["read_gray_values", "read_label", "read_mask", "read_probability"]

# A label map with more values, such as one of single cells, has the same value in most neighboring voxels.
MOST_VALUES, MOST_CHANGES = 32, 0.25


def read_label(path: Path, value: int | None) -> tuple[LabelMap, npt.NDArray[np.bool_]]:
    """Read a label map.

    Args:
        path: the file.
        value: the class; None for all values above 0.

    Returns:
        The label map, and the mask of the class, bool, (H, W) or (D, H, W).

    Raises:
        ValueError: if it is not a label map.
    """
    label = read_label_map(path)
    _refuse_images(path, label.array)
    return label, _mask_of(label.array, value)


def read_mask(path: Path, value: int | None, label: LabelMap | None) -> tuple[npt.NDArray[np.float32], bool]:
    """Read one class of a predicted label map, turned to the grid of the label where only axes differ.

    Args:
        path: the predicted label map.
        value: the class; None for all values above 0.
        label: the label map it is compared with; None where it could not be read, and nothing is compared.

    Returns:
        float32, 0 and 1, of the label's shape; and whether it was turned.

    Raises:
        ValueError: if it is not a label map, or does not lie where the label does.
    """
    if label is None:
        return _mask_of(read_label_map(path).array, value).astype(np.float32), False
    prediction = read_prediction(path, label)
    _refuse_images(path, prediction.array)
    return _mask_of(prediction.array, value).astype(np.float32), prediction.turned


def read_probability(path: Path, value: int | None, label: LabelMap) -> tuple[npt.NDArray[np.float32], bool]:
    """Read the probability of one class from an ``.npz`` of nnU-Net's label training.

    With the label map beside it that nnU-Net writes, the probabilities are turned to the label's grid, also where
    nnU-Net's reader turned the image; see :func:`~nnunet_ici.evaluation.grids.read_on_grid`.

    Args:
        path: the .npz.
        value: the channel; None for the sum of all but the first, which is the background.
        label: the label map it is compared with.

    Returns:
        float32 in [0, 1], of the label's shape; and whether it was turned.

    Raises:
        ValueError: if the file cannot be read, has another shape, or does not hold softmax probabilities that include
            the class; or if the label map beside it does not lie where the label does.
    """
    beside = next((file for end in FILE_ENDINGS if (file := path.with_name(path.stem + end)).is_file()), None)
    probabilities, turned = read_probabilities_for(label, path, FOREGROUND, beside)
    if value is None:
        return probability_of(probabilities, FOREGROUND, "foreground"), turned
    if value >= len(probabilities):
        raise ValueError(
            f"{path} has no channel for the class. Expected: --class 1 to {len(probabilities) - 1}. Got: {value}"
        )
    return probabilities[value], turned


def read_gray_values(path: Path, label: LabelMap | None) -> npt.NDArray[np.float32]:
    """Read the image behind a label, turned to its grid where only axes differ.

    Args:
        path: the image.
        label: the label map; None where it could not be read, and nothing is compared.

    Returns:
        float32, the shape of the label; colors are averaged.

    Raises:
        ValueError: if it cannot be read, or does not lie where the label does.
    """
    array = read_background(path, None if label is None else label.grid).astype(np.float32)
    return array if label is None or array.ndim == label.array.ndim else array.mean(axis=-1)


def _refuse_images(path: Path, label_map: npt.NDArray[np.generic]) -> None:
    """Raise a ValueError for an image of whole gray values: it has many of them, and they change everywhere."""
    values = np.unique(label_map).size
    if values <= MOST_VALUES:
        return
    pairs = differing = 0
    for axis in range(label_map.ndim):
        one, other = (np.moveaxis(label_map, axis, 0)[part] for part in (slice(1, None), slice(-1)))
        both = (one != 0) & (other != 0)
        pairs += np.count_nonzero(both)
        differing += np.count_nonzero(both & (one != other))
    if differing > MOST_CHANGES * pairs:
        raise ValueError(
            f"{path} is an image, not a label map. Expected: regions of one value. Got: {values} values, "
            f"{differing / pairs:.0%} of the neighboring voxels differ"
        )


def _mask_of(label_map: npt.NDArray[np.generic], value: int | None) -> npt.NDArray[np.bool_]:
    return LabelScheme({"class": () if value is None else (value,)}).masks("class", label_map, label_map)[0]
