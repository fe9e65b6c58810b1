"""Probabilities on the grid of their label map, also where nnU-Net's reader turned the image.

Its readers ``...WithReorient``, which native-space data sets such as ATLAS R3.0 need, turn every image to RAS. They
turn the predicted label map back when they write it, and the probabilities not.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.evaluation.folders import find_above
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import plain_masks, read_probabilities

__all__ = ["from_ras", "read_on_grid"]

FloatArray = npt.NDArray[np.float32]


def read_on_grid(
    path: Path, scheme: LabelScheme, label_map_path: Path, label_map: npt.NDArray[np.generic]
) -> FloatArray:
    """Read the probabilities beside a predicted label map.

    Which reader nnU-Net used stands in the plans.json beside the prediction, or in the trainer's folder above it. Where
    there is none, the way is taken that fits the label map better.

    Args:
        path: CASE.npz.
        scheme: the classes.
        label_map_path: the predicted label map's file, for its orientation.
        label_map: what it holds, (H, W) or (D, H, W).

    Returns:
        float32 (C, *shape of the label map), in [0, 1].

    Raises:
        ValueError: as :func:`~nnunet_ici.evaluation.probabilities.read_probabilities`; and if less than half of the
            label map's foreground is foreground in the probabilities. Postprocessing removes voxels, and adds none.
    """
    orientation = _orientation(label_map_path) if label_map.ndim == 3 else None
    turned_shape = label_map.shape
    if orientation is not None:
        turned_shape = tuple(reversed(_to_ras(np.empty(label_map.shape[::-1], np.bool_), orientation).shape))
    reorients = _reorients(label_map_path)
    options: list[tuple[tuple[int, ...], npt.NDArray[np.float64] | None]] = []
    if reorients is not True or orientation is None:
        options.append((label_map.shape, None))
    if reorients is not False and orientation is not None:
        options.append((turned_shape, orientation))
    shapes = list(dict.fromkeys(shape for shape, _ in options))
    probabilities = read_probabilities(path, scheme, *shapes)
    fitting = []
    foreground = label_map != 0
    for shape, way in options:
        if probabilities.shape[1:] == shape:
            candidate = probabilities if way is None else from_ras(probabilities, way)
            inside = np.any(list(plain_masks(candidate, scheme).values()), axis=0)
            fitting.append((int(np.count_nonzero(foreground & inside)), candidate))
    common, best = max(fitting, key=lambda option: option[0])
    count = int(np.count_nonzero(foreground))
    if 2 * common < count:
        raise ValueError(
            f"{path} does not fit its label map. Expected: the same foreground, on the axes of {label_map_path} or "
            f"turned to RAS. Got: {common} of its {count} voxels"
        )
    return best


def from_ras(probabilities: FloatArray, orientation: npt.NDArray[np.float64]) -> FloatArray:
    """Turn (C, D, H, W) from RAS to an orientation of nibabel's ``io_orientation``; a copy, contiguous."""
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), orientation)
    return np.ascontiguousarray(nib.orientations.apply_orientation(probabilities.T, turn).T)


def _to_ras(array: npt.NDArray[np.bool_], orientation: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray(nib.orientations.apply_orientation(array, orientation))


def _orientation(path: Path) -> npt.NDArray[np.float64] | None:
    """The orientation of an image's axes x, y, z as nibabel's ``io_orientation``; None where it is RAS already."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    affine = np.eye(4)
    affine[:3, :3] = np.diag((-1, -1, 1)) @ np.reshape(reader.GetDirection(), (3, 3))  # from LPS to RAS
    orientation: npt.NDArray[np.float64] = nib.orientations.io_orientation(affine)
    return None if np.array_equal(orientation, nib.orientations.axcodes2ornt("RAS")) else orientation


def _reorients(prediction: Path) -> bool | None:
    """Whether nnU-Net's reader turned the image; None where no plans.json says so."""
    path = find_above(prediction, "plans.json")
    try:
        reader = json.loads(path.read_text(encoding="utf-8"))["image_reader_writer"] if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if reader is None else str(reader).endswith("WithReorient")
