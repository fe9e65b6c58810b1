"""The overlap of a label and a prediction, voxel by voxel, and the slices that show most of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_ici.drawing import AXIAL, FLAT, PLANES, Plane
from nnunet_ici.evaluation.matching import Matching

__all__ = ["KINDS", "Tiny", "choose_slices", "count_in_slice", "find_tiny", "overlap", "project"]

BoolArray = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]

# Kind of a voxel by its code; in a projection the higher code covers the lower one.
KINDS = ("", "false", "missed", "hit", "false whole", "missed whole")
FALSE_WHOLE, MISSED_WHOLE = 4, 5


def overlap(label: BoolArray, prediction: BoolArray, matching: Matching) -> Codes:
    """The kind of each voxel as an index of :data:`KINDS`.

    "hit": in both. "missed" and "false": in the label or in the prediction alone, of lesions that touch. "missed whole"
    and "false whole": of a lesion that no prediction touches, and of a prediction that touches no lesion.

    Args:
        label, prediction: masks of one class, (H, W) or (D, H, W).
        matching: their instances.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> label, prediction = np.array([[1, 1, 0, 0, 1]], bool), np.array([[0, 1, 1, 0, 0]], bool)
        >>> [KINDS[code] for code in overlap(label, prediction, match_instances(label, prediction))[0]]
        ['missed', 'hit', 'false', '', 'missed whole']
    """
    codes = np.zeros(label.shape, np.uint8)
    codes[prediction] = KINDS.index("false")
    codes[label] = KINDS.index("missed")
    codes[label & prediction] = KINDS.index("hit")
    codes[matching.false_mask()] = FALSE_WHOLE
    codes[matching.missed_mask()] = MISSED_WHOLE
    return codes


def project(codes: Codes) -> Codes:
    """The maximum along the slices, (D, H, W) to (H, W): missed lesions and false predictions cover all else."""
    projected: Codes = codes.max(axis=0)
    return projected


def choose_slices(label: BoolArray, models: Sequence[Codes]) -> list[tuple[Plane, int | None, str]]:
    """Which slices to draw, and why.

    Args:
        label: mask, (H, W) or (D, H, W).
        models: the overlap with each model's prediction.

    Returns:
        For an image the whole of it. For a volume the axial, coronal and sagittal slice with most of the label (or of
        the predictions, or the middle), then the axial ones with most missed and most false lesion, all models taken
        together, where there are any.
    """
    if label.ndim == 2:
        return [(FLAT, None, "")]
    chosen: list[tuple[Plane, int | None, str]] = []
    for plane in PLANES:
        others = tuple(axis for axis in range(3) if axis != plane.axis)
        lesion = np.count_nonzero(label, axis=others)
        predicted = sum((np.count_nonzero(codes, axis=others) for codes in models), np.zeros_like(lesion))
        if lesion.any():
            chosen.append((plane, int(lesion.argmax()), "with most lesion"))
        elif predicted.any():
            chosen.append((plane, int(predicted.argmax()), "with most prediction"))
        else:
            chosen.append((plane, label.shape[plane.axis] // 2, "in the middle"))
    for code, why in ((MISSED_WHOLE, "with most missed lesion"), (FALSE_WHOLE, "with most false prediction")):
        voxels = sum((np.count_nonzero(codes == code, axis=(1, 2)) for codes in models), np.zeros(len(label), int))
        if voxels.any() and int(voxels.argmax()) not in [index for plane, index, _ in chosen if plane is AXIAL]:
            chosen.append((AXIAL, int(voxels.argmax()), why))
    return chosen


def count_in_slice(matching: Matching, plane: Plane, index: int | None) -> dict[str, int]:
    """How many instances of each kind reach into a slice; of the label found and missed, of the prediction false.

    Args:
        matching: the instances of an image or a volume.
        plane: how the volume is cut.
        index: index of the slice; None for the whole of it.
    """
    counts = {}
    for kind, ids, chosen in (
        ("found", matching.label_ids, matching.label_found),
        ("missed", matching.label_ids, ~matching.label_found),
        ("false", matching.predicted_ids, ~matching.predicted_true),
    ):
        if index is not None:
            at = index - matching.box[plane.axis].start
            ids = np.moveaxis(ids, plane.axis, 0)[at : at + 1] if at >= 0 else ids[:0]
        present = np.unique(ids[ids > 0])
        counts[kind] = int(np.count_nonzero(chosen[present - 1]))
    return counts


class Tiny(NamedTuple):
    """A lesion or a prediction that is too small to show its colour.

    Attributes:
        kind: "found", "missed" or "false".
        x, y: its middle, on the grid between the pixels, the first pixel from (0, 0) to (1, 1).
    """

    kind: str
    x: float
    y: float


def find_tiny(codes: Codes, largest: float, aspect: float = 1.0) -> tuple[BoolArray, list[Tiny]]:
    """The small connected regions of a slice.

    Args:
        codes: the overlap, (H, W).
        largest: limit of the height and width of a region's bounding box, in widths of a pixel.
        aspect: height of a pixel over its width.

    Returns:
        The pixels of all these regions, bool, (H, W); and the regions. A region that holds a missed lesion counts as
        missed, another one with a false prediction as false.

    Example:
        >>> codes = np.array([[KINDS.index("missed whole"), 0, 0, KINDS.index("hit"), 1]], np.uint8)
        >>> find_tiny(codes, 1)
        (array([[ True, False, False, False, False]]), [Tiny(kind='missed', x=0.5, y=0.5)])
    """
    ids, _ = ndimage.label(codes, np.ones((3, 3)))
    pixels = np.zeros(codes.shape, bool)
    found = []
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        height, width = (side.stop - side.start for side in box)
        if max(height * aspect, width) > largest:
            continue
        region = ids[box] == number
        pixels[box] |= region
        kind = {FALSE_WHOLE: "false", MISSED_WHOLE: "missed"}.get(int(codes[box][region].max()), "found")
        y, x = ((side.start + side.stop) / 2 for side in box)
        found.append(Tiny(kind, x, y))
    return pixels, found
