"""The files of a case as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.drawing import Geometry
from nnunet_ici.evaluation.folders import FILE_ENDINGS, Case
from nnunet_ici.evaluation.grids import Prediction, read_background, read_prediction
from nnunet_ici.evaluation.label_maps import read_label_map

__all__ = ["Array", "Scene", "find_image", "read_scene"]

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Scene:
    """The arrays of one case, each (H, W) or (D, H, W). The image may have a last axis for RGB.

    Attributes:
        image: gray values or RGB; None if there is no image.
        label: ground-truth label map.
        predictions: label map of each model.
        geometry: position of the arrays in space.
        turned: predictions that were reoriented to the axes of the ground truth.
    """

    image: Array | None
    label: Array
    predictions: dict[str, Array]
    geometry: Geometry
    turned: list[Path] = field(default_factory=list)


def find_image(folder: Path, case: str, file_ending: str | None) -> Path:
    """Find the image of a case, named as in nnU-Net (first channel) or like the case.

    Raises:
        ValueError: if there is no image.
    """
    endings = dict.fromkeys((*((file_ending,) if file_ending else ()), *FILE_ENDINGS))
    candidates = [folder / f"{case}{channel}{ending}" for ending in endings for channel in ("_0000", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"no image for case {case}. Expected: {candidates[0]}, or with another ending. Got: no such file")


def read_scene(case: Case, image_path: Path | None) -> Scene:
    """Read all files of a case, and reorient the arrays for display.

    Args:
        case: files of the case; a missing prediction (None) counts as empty.
        image_path: file of the image; None for no image.

    Raises:
        ValueError: if a file cannot be read, or its grid differs from the label in more than the axes.
    """
    label = read_label_map(case.label)
    geometry = Geometry(label.grid)
    predictions, turned = {}, []
    for model, path in case.predictions.items():
        prediction = Prediction(np.zeros_like(label.array)) if path is None else read_prediction(path, label)
        predictions[model] = geometry.turned(prediction.array)
        turned += [path] if path is not None and prediction.turned else []
    return Scene(
        None if image_path is None else geometry.turned(read_background(image_path, label.grid)),
        geometry.turned(label.array),
        predictions,
        geometry,
        turned,
    )
