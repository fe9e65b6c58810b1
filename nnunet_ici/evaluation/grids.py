"""Reading predictions, their probabilities and the image onto the grid of a ground truth.

nnU-Net's readers ``...WithReorient``, which native-space data sets such as ATLAS R3.0 need, turn every image to RAS.
They turn the predicted label map back when they write it, but not the probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.evaluation.folders import find_above
from nnunet_ici.evaluation.label_maps import LabelMap, read_label_map
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme
from nnunet_ici.evaluation.probabilities import plain_masks, read_probabilities
from nnunet_ici.geometry import Grid, reorient, turn_between
from nnunet_ici.images import read_image

__all__ = [
    "Prediction",
    "probability_grid",
    "read_background",
    "read_on_grid",
    "read_prediction",
    "read_probabilities_for",
    "reorients",
    "turned_note",
]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction on the grid of its ground truth.

    Attributes:
        array: the label map, of the ground truth's shape.
        probabilities: float32 (C, *shape); None where there are none.
        turned: whether the file has flipped or permuted axes.
    """

    array: npt.NDArray[np.generic]
    probabilities: FloatArray | None = None
    turned: bool = False


def read_prediction(
    path: Path, label: LabelMap, scheme: LabelScheme | None = None, probabilities_path: Path | None = None
) -> Prediction:
    """Read a predicted label map, and turn it to the grid of its ground truth where only axes differ.

    Args:
        path: the predicted label map.
        label: the ground truth.
        scheme: the classes; None takes any whole numbers, and one class for probabilities.
        probabilities_path: the probabilities beside it, CASE.npz; None for none.

    Raises:
        ValueError: if a file cannot be read, or the prediction has another shape, spacing, direction or origin.
    """
    own = read_label_map(path, scheme)
    turn = turn_between(own.grid, label.grid, "its ground truth")
    probabilities = None
    if probabilities_path is not None:
        probabilities = reorient(read_on_grid(probabilities_path, scheme or FOREGROUND, own), turn)
    return Prediction(reorient(own.array, turn), probabilities, turn is not None)


def read_probabilities_for(
    label: LabelMap, path: Path, scheme: LabelScheme, beside: Path | None
) -> tuple[FloatArray, bool]:
    """Read probabilities on the grid of a ground truth.

    Args:
        label: the ground truth.
        path: CASE.npz.
        scheme: the classes.
        beside: the predicted label map beside the probabilities, which says how they lie; None where there is none,
            and they are taken to lie as the ground truth does.

    Returns:
        float32 (C, *shape of the ground truth), in [0, 1]; and whether they were turned with their label map.

    Raises:
        ValueError: as :func:`read_prediction`.
    """
    if beside is None:
        return read_probabilities(path, scheme, label.array.shape), False
    own = read_label_map(beside)
    turn = turn_between(own.grid, label.grid, "its ground truth")
    return reorient(read_on_grid(path, scheme, own), turn), turn is not None


def read_background(path: Path, grid: Grid | None) -> npt.NDArray[np.generic]:
    """Read the image behind a ground truth, turned to its grid where only axes differ; NaN and infinity become 0.

    Args:
        path: the image.
        grid: grid of the ground truth; None if it is not known, then nothing is compared.

    Returns:
        (H, W) or (D, H, W), with a last axis for colours.

    Raises:
        ValueError: if it cannot be read, or has another shape, spacing, direction or origin.
    """
    image = read_image(path)
    if image.GetDimension() not in (2, 3):
        raise ValueError(f"{path} is not an image in 2 or 3 dimensions. Got: size {image.GetSize()}")
    turn = None if grid is None else turn_between(Grid.of(image, path), grid, "the label")
    array = np.nan_to_num(sitk.GetArrayFromImage(image), posinf=0, neginf=0)
    if image.GetNumberOfComponentsPerPixel() == 1:
        return reorient(array, turn)
    return np.moveaxis(reorient(np.moveaxis(array, -1, 0), turn), 0, -1)


def turned_note(paths: Sequence[Path]) -> str:
    """One sentence on the files that were turned; empty without any."""
    if not paths:
        return ""
    files = "1 file was" if len(paths) == 1 else f"{len(paths)} files were"
    return f"{files} turned to the axes of the ground truth (flipped or permuted): {paths[0]}" + (
        "" if len(paths) == 1 else " and others"
    )


def read_on_grid(path: Path, scheme: LabelScheme, label_map: LabelMap) -> FloatArray:
    """Read the probabilities beside a predicted label map.

    The plans.json beside the prediction, or in the trainer's folder above it, says which reader nnU-Net used. Without
    one, the orientation is taken that fits the label map better.

    Args:
        path: CASE.npz.
        scheme: the classes.
        label_map: the predicted label map.

    Returns:
        float32 (C, *shape of the label map), in [0, 1].

    Raises:
        ValueError: as :func:`~nnunet_ici.evaluation.probabilities.read_probabilities`; and if less than half of the
            label map's foreground is foreground in the probabilities. Postprocessing removes voxels, and adds none.
    """
    shape = label_map.array.shape
    orientation = _orientation(label_map.grid)
    reoriented = reorients(label_map.grid.path)
    options: list[tuple[tuple[int, ...], npt.NDArray[np.float64] | None]] = []
    if reoriented is not True or orientation is None:
        options.append((shape, None))
    if reoriented is not False and orientation is not None:
        options.append((reorient(np.empty(shape, np.bool_), orientation).shape, orientation))
    shapes = list(dict.fromkeys(shape for shape, _ in options))
    probabilities = read_probabilities(path, scheme, *shapes)
    fitting = []
    foreground = label_map.array != 0
    for shape, orientation in options:
        if probabilities.shape[1:] == shape:
            candidate = probabilities if orientation is None else from_ras(probabilities, orientation)
            inside = np.any(list(plain_masks(candidate, scheme).values()), axis=0)
            fitting.append((int(np.count_nonzero(foreground & inside)), candidate))
    common, best = max(fitting, key=lambda option: option[0])
    count = int(np.count_nonzero(foreground))
    if 2 * common < count:
        raise ValueError(
            f"{path} does not fit its label map. Expected: the same foreground, on the axes of {label_map.grid.path} "
            f"or turned to RAS. Got: {common} of its {count} voxels"
        )
    return best


def from_ras(probabilities: FloatArray, orientation: npt.NDArray[np.float64]) -> FloatArray:
    """Turn (C, D, H, W) from RAS to an orientation of nibabel's ``io_orientation``; a copy, contiguous."""
    return reorient(probabilities, nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), orientation))


def probability_grid(label_map: LabelMap) -> Grid:
    """The grid of the probabilities beside a predicted label map, where a plans.json says which reader nnU-Net used."""
    orientation = _orientation(label_map.grid) if reorients(label_map.grid.path) else None
    return label_map.grid if orientation is None else label_map.grid.turned(orientation)


def reorients(prediction: Path) -> bool | None:
    """Whether nnU-Net's reader turned the image to RAS; None where no plans.json says so."""
    path = find_above(prediction, "plans.json")
    try:
        reader = json.loads(path.read_text(encoding="utf-8"))["image_reader_writer"] if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if reader is None else str(reader).endswith("WithReorient")


def _orientation(grid: Grid) -> npt.NDArray[np.float64] | None:
    """The orientation of a volume's axes; None where it is RAS already, in 2D, and for formats without millimetres."""
    if len(grid.size) != 3 or not grid.in_mm or np.array_equal(grid.orientation, nib.orientations.axcodes2ornt("RAS")):
        return None
    return grid.orientation
