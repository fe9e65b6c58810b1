"""Predictions, probabilities and images read onto the grid of the ground truth.

nnU-Net's readers ``...WithReorient``, which native-space datasets such as ATLAS R3.0 need, reorient every image to
RAS. They restore the original orientation of the predicted label map, but not that of the probabilities.
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

from nnunet_ici.command import plural
from nnunet_ici.evaluation.folders import find_above
from nnunet_ici.evaluation.label_maps import LabelMap, read_label_map
from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme
from nnunet_ici.evaluation.probabilities import plain_masks, read_probabilities
from nnunet_ici.geometry import PIXEL_ENDINGS, Grid, find_spacing_file, reorient, spacing_file, turn_between
from nnunet_ici.images import read_image

__all__ = [
    "PredictedMap",
    "have_millimetres",
    "probability_grid",
    "read_background",
    "read_on_grid",
    "read_prediction",
    "read_probabilities_for",
    "reorients",
    "turned_note",
]

FloatArray = npt.NDArray[np.float32]
RAS = nib.orientations.axcodes2ornt("RAS")


@dataclass(frozen=True, eq=False)
class PredictedMap:
    """A prediction on the grid of its ground truth.

    Attributes:
        array: integers, the label map, of the ground truth's shape.
        probabilities: float32 (C, *shape); None if none were read.
        turned: whether the axes of the file were flipped or permuted.
    """

    array: npt.NDArray[np.generic]
    probabilities: FloatArray | None = None
    turned: bool = False


def read_prediction(
    path: Path, label: LabelMap, scheme: LabelScheme | None = None, probabilities_path: Path | None = None
) -> PredictedMap:
    """Read a predicted label map, and turn it to the grid of its ground truth if only the axes differ.

    Args:
        path: path of the predicted label map.
        label: the ground truth.
        scheme: the classes; None accepts any whole numbers, and reads probabilities as those of a single class.
        probabilities_path: path of its probabilities, CASE.npz; None to read none.

    Raises:
        ValueError: if a file cannot be read, or shape, spacing, direction or origin differ from the ground truth's.
    """
    own = read_label_map(path, scheme)
    turn = turn_between(own.grid, label.grid, "its ground truth")
    probabilities = None
    if probabilities_path is not None:
        probabilities = reorient(read_on_grid(probabilities_path, scheme or FOREGROUND, own), turn)
    return PredictedMap(reorient(own.array, turn), probabilities, turn is not None)


def read_probabilities_for(
    label: LabelMap, path: Path, scheme: LabelScheme, beside: Path | None
) -> tuple[FloatArray, bool]:
    """Read probabilities on the grid of a ground truth.

    Args:
        label: the ground truth.
        path: path of the probabilities, CASE.npz.
        scheme: the classes.
        beside: path of the predicted label map beside the probabilities, which defines their orientation; None if there
            is no label map, and the probabilities are assumed to be on the ground truth's grid.

    Returns:
        float32 (C, *shape of the ground truth), in [0, 1]; and whether the axes of the label map had to be turned.

    Raises:
        ValueError: as :func:`read_prediction`.
    """
    if beside is None:
        return read_probabilities(path, scheme, label.array.shape), False
    own = read_label_map(beside)
    turn = turn_between(own.grid, label.grid, "its ground truth")
    return reorient(read_on_grid(path, scheme, own), turn), turn is not None


def read_background(path: Path, grid: Grid | None) -> npt.NDArray[np.generic]:
    """Read the image of a case, turned to the grid of its ground truth if only the axes differ.

    Args:
        path: path of the image.
        grid: grid of the ground truth; None if it is unknown, which skips the comparison.

    Returns:
        (H, W) or (D, H, W), any real dtype, with an additional last axis for colors. NaN and infinity become 0.

    Raises:
        ValueError: if the image cannot be read, is neither 2D nor 3D, or differs in shape, spacing, direction or
            origin.
    """
    image = read_image(path)
    if image.GetDimension() not in (2, 3):
        raise ValueError(f"{path} is not an image in 2 or 3 dimensions. Got: size {image.GetSize()}")
    turn = None if grid is None else turn_between(Grid.of(image, path), grid, "the label")
    array = np.nan_to_num(sitk.GetArrayFromImage(image), posinf=0, neginf=0)
    if image.GetNumberOfComponentsPerPixel() == 1:
        return reorient(array, turn)
    return np.moveaxis(reorient(np.moveaxis(array, -1, 0), turn), 0, -1)


def have_millimetres(labels: Sequence[Path]) -> bool:
    """Whether the label maps of a dataset have a voxel size in mm; True if there are none.

    Raises:
        ValueError: if some TIFF files have a spacing file and others do not, or the first one cannot be read.
    """
    if not labels or not labels[0].name.endswith(PIXEL_ENDINGS):
        return True
    without = [path for path in labels if find_spacing_file(path) is None]
    if without and len(without) < len(labels):
        raise ValueError(
            f"{without[0]} has no spacing, unlike others. Expected: {spacing_file(without[0])}. Got: no such file"
        )
    return not without and read_label_map(labels[0]).grid.in_mm


def turned_note(paths: Sequence[Path]) -> str:
    """A sentence about the files whose axes were turned; empty if there are none."""
    if not paths:
        return ""
    were = "was" if len(paths) == 1 else "were"
    return (
        f"{plural(len(paths), 'file')} {were} turned to the axes of the ground truth (flipped or permuted): {paths[0]}"
        + ("" if len(paths) == 1 else " and others")
    )


def read_on_grid(path: Path, scheme: LabelScheme, label_map: LabelMap) -> FloatArray:
    """Read the probabilities beside a predicted label map.

    The plans.json beside the prediction, or in the trainer's folder above it, names nnU-Net's reader and thereby the
    orientation of the probabilities. Without a plans.json, the orientation that fits the label map better is used.

    Args:
        path: path of the probabilities, CASE.npz.
        scheme: the classes.
        label_map: the predicted label map.

    Returns:
        float32 (C, *shape of the label map), in [0, 1].

    Raises:
        ValueError: as :func:`~nnunet_ici.evaluation.probabilities.read_probabilities`, or if less than half of the
            label map's foreground is foreground according to the probabilities. (Postprocessing only removes voxels, so
            all of it should be.)
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
            back = None if orientation is None else nib.orientations.ornt_transform(RAS, orientation)
            candidate = reorient(probabilities, back)
            inside = np.any(list(plain_masks(candidate[:, foreground], scheme).values()), axis=0)
            fitting.append((int(np.count_nonzero(inside)), candidate))
    common, best = max(fitting, key=lambda option: option[0])
    count = int(np.count_nonzero(foreground))
    if 2 * common < count:
        raise ValueError(
            f"{path} does not fit its label map. Expected: the same foreground, on the axes of {label_map.grid.path} "
            f"or turned to RAS. Got: {common} of its {count} voxels"
        )
    return best


def probability_grid(label_map: LabelMap) -> Grid:
    """The grid of the probabilities beside a predicted label map, given the reader in nnU-Net's plans.json."""
    orientation = _orientation(label_map.grid) if reorients(label_map.grid.path) else None
    return label_map.grid if orientation is None else label_map.grid.turned(orientation)


def reorients(prediction: Path) -> bool | None:
    """Whether nnU-Net's reader reoriented the image to RAS; None if no plans.json names the reader."""
    path = find_above(prediction, "plans.json")
    try:
        reader = json.loads(path.read_text(encoding="utf-8"))["image_reader_writer"] if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if reader is None else str(reader).endswith("WithReorient")


def _orientation(grid: Grid) -> npt.NDArray[np.float64] | None:
    """The orientation of a volume's axes; None if it is already RAS, in 2D, and for formats without an orientation."""
    if len(grid.size) != 3 or grid.path.name.endswith(PIXEL_ENDINGS):
        return None
    return None if np.array_equal(grid.orientation, RAS) else grid.orientation
