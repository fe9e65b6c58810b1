"""The files to explain: a label map, a prediction as label map or probabilities, and the image behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.drawing import Geometry
from nnunet_ici.evaluation.folders import FILE_ENDINGS, read_label_map
from nnunet_ici.evaluation.grids import read_on_grid
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme
from nnunet_ici.evaluation.probabilities import probability_of, read_probabilities
from nnunet_ici.images import read_image

__all__ = ["read_background", "read_geometry", "read_mask", "read_probability"]


def read_geometry(path: Path) -> Geometry:
    """Read the geometry of an image.

    Raises:
        ValueError: if it cannot be read.
    """
    return Geometry(read_image(path))


def read_mask(path: Path, value: int | None) -> npt.NDArray[np.bool_]:
    """Read one class of a label map.

    Args:
        path: of the label map.
        value: of the class; None for all values above 0.

    Returns:
        bool, (H, W) or (D, H, W).

    Raises:
        ValueError: if it is not a label map.
    """
    label_map = read_label_map(path)
    return LabelScheme({"class": () if value is None else (value,)}).masks("class", label_map, label_map)[0]


def read_probability(path: Path, value: int | None, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Read the probability of one class from an ``.npz`` of nnU-Net's label training.

    With the label map that nnU-Net writes beside it the probabilities come on its grid, also where nnU-Net's reader
    turned the image; see :func:`~nnunet_ici.evaluation.grids.read_on_grid`.

    Args:
        path: of the file.
        value: the channel; None for the sum of all but the first, which is the background.
        shape: of the label.

    Returns:
        float32 in [0, 1], of the label's shape.

    Raises:
        ValueError: if the file cannot be read, has another shape, or does not hold softmax probabilities that include
            the class.
    """
    beside = next((file for end in FILE_ENDINGS if (file := path.with_name(path.stem + end)).is_file()), None)
    if beside is None:
        probabilities = read_probabilities(path, FOREGROUND, shape)
    else:
        probabilities = read_on_grid(path, FOREGROUND, beside, read_label_map(beside))
    if value is None:
        return probability_of(probabilities, FOREGROUND, "foreground")
    if value >= len(probabilities):
        raise ValueError(
            f"{path} has no channel for the class. Expected: --class 1 to {len(probabilities) - 1}. Got: {value}"
        )
    return probabilities[value]


def read_background(path: Path, geometry: Geometry | None, label_path: Path) -> npt.NDArray[np.float32]:
    """Read the image behind a label.

    Args:
        path: of the image.
        geometry: of the label; None where that is not known, and so no size is expected.
        label_path: what an error message calls the label.

    Returns:
        float32, the shape of the label; colours are averaged.

    Raises:
        ValueError: if it cannot be read, or has another size than the label.
    """
    image = read_image(path)
    if geometry is not None and image.GetSize() != geometry.image.GetSize():
        raise ValueError(
            f"{path} has another size than the label. Expected: {geometry.image.GetSize()}, as {label_path}. "
            f"Got: {image.GetSize()}"
        )
    array: npt.NDArray[np.float32] = sitk.GetArrayFromImage(image).astype(np.float32)
    return array if image.GetNumberOfComponentsPerPixel() == 1 else array.mean(axis=-1)
