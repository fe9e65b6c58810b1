"""Read the files to explain: a label map, a prediction as label map or probabilities, and a background image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.command import Problems
from nnunet_ici.evaluation.folders import FILE_ENDINGS
from nnunet_ici.evaluation.grids import read_background, read_prediction, read_probabilities_for
from nnunet_ici.evaluation.label_maps import LabelMap, read_label_map
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme
from nnunet_ici.evaluation.probabilities import probability_of
from nnunet_ici.geometry import Grid

__all__ = ["Files", "read_files"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

# A label map with more values, such as a map of individual cells, still has equal values in most neighboring voxels.
MOST_VALUES, MOST_CHANGES = 32, 0.25


@dataclass(frozen=True, eq=False)
class Files:
    """The files as arrays on the grid of the label, (H, W) or (D, H, W).

    Attributes:
        label: mask of the class.
        prob: probabilities in [0, 1]; 0 and 1 for a label map.
        image: gray values; None without an image.
        grid: grid of the label.
        turned: whether the axes of the prediction were flipped or permuted.
    """

    label: BoolArray
    prob: FloatArray
    image: FloatArray | None
    grid: Grid
    turned: bool


def read_files(
    label: Path, prediction: Path, image: Path | None, value: int | None, sizes: int
) -> tuple[Files | None, Problems]:
    """Read label, prediction and image. Files on other axes than the label are turned to its grid.

    Args:
        label: label map.
        prediction: label map; or an ``.npz`` of nnU-Net's label training, with the label map of the same name beside
            it, if there is one (see :func:`~nnunet_ici.evaluation.grids.read_on_grid`).
        image: image of the same grid; color channels are averaged; None for no image.
        value: value or channel of the class; None for all values above 0.
        sizes: number of edge lengths given for the center cubes: 1, or one for each axis.

    Returns:
        The arrays, or None if there are problems; and the problems, one sentence each.
    """
    problems = Problems()
    truth = mask = read = gray = None
    with problems.collecting():
        truth = read_label_map(label)
        _refuse_images(label, truth)
        mask = _mask_of(truth, value)
    with problems.collecting():
        if prediction.suffix != ".npz":
            read = _read_mask(prediction, value, truth)
        elif truth is not None:  # the label gives the expected shape of the probabilities
            read = _read_probability(prediction, value, truth)
    with problems.collecting():
        if image is not None:
            gray = read_background(image, None if truth is None else truth.grid).astype(np.float32)
    if truth is not None and sizes not in (1, truth.array.ndim):
        problems.append(
            "--center-size has the wrong length. Expected: one number, or one for each of the "
            f"{truth.array.ndim} axes. Got: {sizes} numbers"
        )
    if problems or truth is None or mask is None or read is None:
        return None, problems
    if gray is not None and gray.ndim > mask.ndim:
        gray = gray.mean(axis=-1)
    return Files(mask, read[0], gray, truth.grid, read[1]), problems


def _read_mask(path: Path, value: int | None, truth: LabelMap | None) -> tuple[FloatArray, bool]:
    """The mask of a predicted label map, and whether it was turned; compared with the label if that could be read."""
    if truth is None:
        return _mask_of(read_label_map(path), value).astype(np.float32), False
    prediction = read_prediction(path, truth)
    own = LabelMap(prediction.array, truth.grid)
    _refuse_images(path, own)
    return _mask_of(own, value).astype(np.float32), prediction.turned


def _read_probability(path: Path, value: int | None, truth: LabelMap) -> tuple[FloatArray, bool]:
    """The probability of the class, or of all channels but the background, and whether it was turned."""
    beside = next((file for end in FILE_ENDINGS if (file := path.with_name(path.stem + end)).is_file()), None)
    probabilities, turned = read_probabilities_for(truth, path, FOREGROUND, beside)
    if value is None:
        return probability_of(probabilities, FOREGROUND, "foreground"), turned
    if value >= len(probabilities):
        raise ValueError(
            f"{path} has no channel for the class. Expected: --class 1 to {len(probabilities) - 1}. Got: {value}"
        )
    return probabilities[value], turned


def _refuse_images(path: Path, label_map: LabelMap) -> None:
    """Raise a ValueError for an image with integer gray values: many values, and many neighboring voxels differ."""
    array = label_map.array
    values = np.unique(array).size
    if values <= MOST_VALUES:
        return
    pairs = differing = 0
    for axis in range(array.ndim):
        one, other = (np.moveaxis(array, axis, 0)[part] for part in (slice(1, None), slice(-1)))
        both = (one != 0) & (other != 0)
        pairs += np.count_nonzero(both)
        differing += np.count_nonzero(both & (one != other))
    if differing > MOST_CHANGES * pairs:
        raise ValueError(
            f"{path} is an image, not a label map. Expected: regions of constant value. Got: {values} values, "
            f"and {differing / pairs:.0%} of the neighboring voxels differ"
        )


def _mask_of(label_map: LabelMap, value: int | None) -> BoolArray:
    scheme = LabelScheme({"class": () if value is None else (value,)})
    return scheme.masks("class", label_map.array, label_map.array)[0]
