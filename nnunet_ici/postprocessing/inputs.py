"""What the commands read: the meaning of the labels, the files of a case, and the size of its voxels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_ici.evaluation.folders import FILE_ENDINGS, LabelScheme, file_endings, read_label_map
from nnunet_ici.evaluation.probabilities import has_regions

__all__ = [
    "PIXEL_ENDINGS",
    "Geometry",
    "check_fits",
    "find_dataset_json",
    "find_file_ending",
    "read_geometry",
    "read_known_label_map",
    "read_regions_class_order",
]

# Formats without millimetres: what they say of resolution is meant for printers.
PIXEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")


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


def read_known_label_map(path: Path, scheme: LabelScheme) -> npt.NDArray[np.generic]:
    """Read a label map in which each value has a class.

    Raises:
        ValueError: if it cannot be read, or holds another value.
    """
    label_map = read_label_map(path)
    unknown = scheme.undeclared(label_map)
    if unknown:
        more = "" if len(unknown) <= 8 else f" and {len(unknown) - 8} more"
        got = ", ".join(map(str, unknown[:8])) + more
        raise ValueError(f"{path} holds values that stand for no class. Expected: {scheme}. Got: {got}")
    return label_map


def find_dataset_json(label_folder: Path, probability_folders: Iterable[Path]) -> Path | None:
    """The dataset.json of nnU-Net beside a folder of labels, in a folder of predictions, or, for a fold's
    ``validation``, in the trainer's folder; None where there is none."""
    folders = [label_folder.resolve().parent]
    for folder in probability_folders:
        folders.append(folder)
        if folder.resolve().name == "validation":
            folders.append(folder.resolve().parent.parent)
    return next((folder / "dataset.json" for folder in folders if (folder / "dataset.json").is_file()), None)


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


def find_file_ending(folder: Path, declared: str | None) -> str:
    """The file ending of the label maps: as declared, else the one in use.

    Raises:
        ValueError: if nothing declares it and the files do not agree.
    """
    if declared is not None:
        return declared
    endings = file_endings(folder)
    if len(endings) != 1:
        raise ValueError(
            f"{folder}: what the label maps end in is not clear. Expected: one of {', '.join(FILE_ENDINGS)}. "
            f"Got: {', '.join(endings) or 'no such file'}"
        )
    return endings[0]


def check_fits(path: Path, plain: dict[str, npt.NDArray[np.bool_]], label_map: npt.NDArray[np.generic]) -> None:
    """Raise where probabilities are not those a predicted label map was made from.

    nnU-Net's readers that reorient images to RAS turn the label map back when they write it, and the probabilities not.
    Postprocessing only ever removes voxels, so most of what is left in the label map must be foreground here too.

    Args:
        path: of the probabilities.
        plain: their masks by class, as ``plain_masks`` makes them.
        label_map: the prediction beside them, of the same shape.

    Raises:
        ValueError: if less than half of the label map's foreground is foreground in the probabilities.
    """
    foreground = label_map != 0
    count = np.count_nonzero(foreground)
    common = np.count_nonzero(foreground & np.any(list(plain.values()), axis=0))
    if 2 * common < count:
        raise ValueError(
            f"{path} does not fit its label map. Expected: the same foreground, on the same axes (nnU-Net's readers "
            f"...WithReorient turn only the label map back). Got: {common} of its {count} voxels"
        )
