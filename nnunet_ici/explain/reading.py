"""Read the files to explain: a label map, a prediction as label map or probabilities, and a background image."""

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

# A label map with more values, such as a map of individual cells, still has equal values in most neighboring voxels.
MOST_VALUES, MOST_CHANGES = 32, 0.25


def read_label(path: Path, value: int | None) -> tuple[LabelMap, npt.NDArray[np.bool_]]:
    """Read a label map.

    Args:
        path: file of the label map.
        value: value of the class; None for all values above 0.

    Returns:
        The label map, and the bool mask of the class, (H, W) or (D, H, W).

    Raises:
        ValueError: if the file is not a label map.
    """
    label = read_label_map(path)
    _refuse_images(path, label.array)
    return label, _mask_of(label.array, value)


def read_mask(path: Path, value: int | None, label: LabelMap | None) -> tuple[npt.NDArray[np.float32], bool]:
    """Read one class of a predicted label map, reoriented to the grid of the label if only their axes differ.

    Args:
        path: file of the predicted label map.
        value: value of the class; None for all values above 0.
        label: ground-truth label map; None if it could not be read, and then the grids are not compared.

    Returns:
        Mask of 0 and 1, float32, in the shape of the label; and whether it was reoriented.

    Raises:
        ValueError: if the file is not a label map, or its grid differs from the label in more than the axes.
    """
    if label is None:
        return _mask_of(read_label_map(path).array, value).astype(np.float32), False
    prediction = read_prediction(path, label)
    _refuse_images(path, prediction.array)
    return _mask_of(prediction.array, value).astype(np.float32), prediction.turned


def read_probability(path: Path, value: int | None, label: LabelMap) -> tuple[npt.NDArray[np.float32], bool]:
    """Read the probability of one class from an ``.npz`` of nnU-Net's label training.

    nnU-Net also writes a label map with the same name. If it exists, the probabilities are reoriented to the grid of
    the label, even if nnU-Net's reader had reoriented the image; see
    :func:`~nnunet_ici.evaluation.grids.read_on_grid`.

    Args:
        path: file of the probabilities, .npz.
        value: channel; None for the sum of all channels except the first, which is the background.
        label: ground-truth label map.

    Returns:
        Probabilities in [0, 1], float32, in the shape of the label; and whether they were reoriented.

    Raises:
        ValueError: if the file cannot be read, has another shape, or does not hold softmax probabilities that include
            the class; or if the grid of nnU-Net's label map differs from the grid of the label.
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
    """Read the background image, reoriented to the grid of the label if only their axes differ.

    Args:
        path: file of the image.
        label: ground-truth label map; None if it could not be read, and then the grids are not compared.

    Returns:
        Gray values, float32, in the shape of the label; color channels are averaged.

    Raises:
        ValueError: if the file cannot be read, or its grid differs from the label in more than the axes.
    """
    array = read_background(path, None if label is None else label.grid).astype(np.float32)
    return array if label is None or array.ndim == label.array.ndim else array.mean(axis=-1)


def _refuse_images(path: Path, label_map: npt.NDArray[np.generic]) -> None:
    """Raise a ValueError for an image with integer gray values: many values, and many neighboring voxels differ."""
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
            f"{path} is an image, not a label map. Expected: regions of constant value. Got: {values} values, "
            f"and {differing / pairs:.0%} of the neighboring voxels differ"
        )


def _mask_of(label_map: npt.NDArray[np.generic], value: int | None) -> npt.NDArray[np.bool_]:
    return LabelScheme({"class": () if value is None else (value,)}).masks("class", label_map, label_map)[0]
