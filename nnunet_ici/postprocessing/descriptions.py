"""What the commands read from nnU-Net's dataset.json, and where it may be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import has_regions

__all__ = ["description_folders", "read_regions_class_order"]


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
