"""Which cases are shown, and their files as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.drawing import Geometry
from nnunet_ici.evaluation.folders import FILE_ENDINGS, Case
from nnunet_ici.evaluation.grids import Prediction, read_background, read_prediction
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.summary import Row

__all__ = ["Scene", "choose_cases", "find_image", "read_scene"]

Array = npt.NDArray[np.generic]

# What cases are ranked by, as far as it was computed; every family has one of them.
SCORES = ("isles.lesion_f1", "atlas22.lesion_f1", "detection.lesion_dice", "paper.dsc")


@dataclass(frozen=True, eq=False)
class Scene:
    """All that is drawn of one case, each array as (H, W) or (D, H, W); the image may have a last axis for RGB.

    Attributes:
        image: grey values, or RGB; None where there is none.
        label: the ground truth's label map.
        predictions: each model's label map.
        geometry: how they lie in space.
        turned: predictions that were turned to the axes of the ground truth.
    """

    image: Array | None
    label: Array
    predictions: dict[str, Array]
    geometry: Geometry
    turned: list[Path] = field(default_factory=list)


def choose_cases(rows: Sequence[Row], count: int) -> list[tuple[str, str]]:
    """Choose cases evenly from worst to best, by lesion F1, then Dice, of the first model, averaged over the classes.

    Of the families computed the first is taken that has them.

    Returns:
        For each chosen case, worst first: what it is ("worst", "median", "best", or its rank) and its name. Fewer than
        ``count`` where there are fewer cases.
    """
    scores: dict[str, list[list[float]]] = {}
    by = [name for name in SCORES if rows and name in rows[0]]
    for row in rows:
        if row["model"] == rows[0]["model"]:
            scores.setdefault(str(row["case"]), []).append([float(row[name]) for name in by])
    ranked = sorted(scores, key=lambda case: (*np.mean(scores[case], axis=0), case))
    last = len(ranked) - 1
    roles = {last // 2: "median", last: "best", 0: "worst"}
    ranks = dict.fromkeys(last * step // max(count - 1, 1) for step in range(count)) if ranked else {}
    return [(roles.get(rank, f"rank {rank + 1} of {last + 1}"), ranked[rank]) for rank in ranks]


def find_image(folder: Path, case: str, file_ending: str | None) -> Path:
    """The image of a case, as nnU-Net names it (the first channel), or of the case's name.

    Raises:
        ValueError: if there is none.
    """
    endings = dict.fromkeys((*((file_ending,) if file_ending else ()), *FILE_ENDINGS))
    candidates = [folder / f"{case}{channel}{ending}" for ending in endings for channel in ("_0000", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"no image for case {case}. Expected: {candidates[0]}, or another ending. Got: no such file")


def read_scene(case: Case, image_path: Path | None) -> Scene:
    """Read all files of a case, turned as they are drawn.

    Args:
        case: its files; a prediction that is None counts as empty.
        image_path: None for no image.

    Raises:
        ValueError: if a file cannot be read, or does not lie where the label does.
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
