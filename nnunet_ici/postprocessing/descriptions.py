"""Possible locations of nnU-Net's dataset.json, and its entry regions_class_order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from nnunet_ici.command import plural
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.probabilities import has_regions

__all__ = ["description_folders", "read_regions_class_order"]


def description_folders(label_folder: Path, probability_folders: Iterable[Path]) -> Iterator[Path]:
    """The folders in which nnU-Net's dataset.json may be.

    These are the folder above the labels, and each folder of predictions. For a fold's ``validation``, the trainer's
    folder is included.
    """
    yield label_folder.resolve().parent
    for folder in probability_folders:
        yield folder
        if folder.resolve().name == "validation":
            yield folder.resolve().parent.parent


def read_regions_class_order(path: Path, scheme: LabelScheme) -> tuple[int, ...] | None:
    """Read ``regions_class_order`` from a dataset.json that ``read_label_scheme`` accepted; None without regions.

    Raises:
        ValueError: if there are regions and the entry does not hold one integer per region.
    """
    if not has_regions(scheme):
        return None
    order = json.loads(path.read_text(encoding="utf-8")).get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(scheme.classes) or any(type(one) is not int for one in order):
        expected = plural(len(scheme.classes), "integer")
        raise ValueError(
            f"{path} holds no usable regions_class_order. Expected: {expected}, one each for "
            f"{', '.join(scheme.classes)}. Got: {json.dumps(order)}"
        )
    return tuple(order)
