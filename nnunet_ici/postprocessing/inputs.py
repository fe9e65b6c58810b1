"""What the commands read: the meaning of the labels, the files of a case, and the size of its voxels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from nnunet_ici.evaluation.folders import PIXEL_ENDINGS
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import has_regions

__all__ = [
    "Geometry",
    "description_folders",
    "read_geometry",
    "read_regions_class_order",
]


@dataclass(frozen=True)
class Geometry:
    """Where an image lies, as SimpleITK says it: x first."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    in_pixels: bool

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³; in 2D its area in mm²; 1 for files without millimetres."""
        return 1.0 if self.in_pixels else math.prod(self.spacing)


def read_geometry(path: Path) -> Geometry:
    """Read the header of a label map that :func:`~nnunet_ici.evaluation.folders.read_label_map` has read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    in_pixels = path.name.endswith(PIXEL_ENDINGS)
    return Geometry(reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection(), in_pixels)


def description_folders(label_folder: Path, probability_folders: Iterable[Path]) -> Iterator[Path]:
    """Where nnU-Net's dataset.json may be: beside a folder of labels, in a folder of predictions, or, for a fold's
    ``validation``, in the trainer's folder."""
    yield label_folder.resolve().parent
    for folder in probability_folders:
        yield folder
        if folder.resolve().name == "validation":
            yield folder.resolve().parent.parent


def read_regions_class_order(path: Path, scheme: LabelScheme) -> tuple[int, ...] | None:
    """``regions_class_order`` of a dataset.json that ``read_label_scheme`` has read; None without regions.

    Raises:
        ValueError: if there are regions, and it is not one integer for each.
    """
    if not has_regions(scheme):
        return None
    order = json.loads(path.read_text(encoding="utf-8")).get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(scheme.classes) or any(type(one) is not int for one in order):
        raise ValueError(
            f"{path} holds no usable regions_class_order. Expected: {len(scheme.classes)} integers, one for each of "
            f"{', '.join(scheme.classes)}. Got: {json.dumps(order)}"
        )
    return tuple(order)
