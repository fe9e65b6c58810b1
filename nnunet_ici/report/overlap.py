"""Voxel-wise overlap of a label and a prediction, and the choice of the slices that show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_ici.drawing import AXIAL, FLAT, PLANES, Plane
from nnunet_ici.evaluation.matching import Matching

__all__ = ["KINDS", "choose_slices", "count_in_slice", "find_tiny", "overlap_codes"]

BoolArray = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]

# Kind of a voxel by its code. In a projection, higher codes cover lower codes.
KINDS = ("", "false", "missed", "hit", "false whole", "missed whole")
FALSE_WHOLE, MISSED_WHOLE = 4, 5


def overlap_codes(label: BoolArray, prediction: BoolArray, matching: Matching) -> Codes:
    """The kind of each voxel as an index of :data:`KINDS`.

    - "hit": in the label and in the prediction.
    - "missed": only in the label, in a lesion that a prediction touches.
    - "false": only in the prediction, in a component that touches a lesion.
    - "missed whole": in a lesion that no prediction touches.
    - "false whole": in a predicted component that touches no lesion.

    Args:
        label, prediction: masks of one class, (H, W) or (D, H, W).
        matching: matching of their instances.

    Example:
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> label, prediction = np.array([[1, 1, 0, 0, 1]], bool), np.array([[0, 1, 1, 0, 0]], bool)
        >>> [KINDS[code] for code in overlap_codes(label, prediction, match_instances(label, prediction))[0]]
        ['missed', 'hit', 'false', '', 'missed whole']
    """
    codes = (prediction + 2 * label.astype(np.uint8)).astype(np.uint8)  # both: 3, a hit
    codes[matching.false_mask()] = FALSE_WHOLE
    codes[matching.missed_mask()] = MISSED_WHOLE
    return codes


def choose_slices(label: BoolArray, models: Sequence[Codes]) -> list[tuple[Plane, int | None, str]]:
    """Choose the slices to draw, with the reason for each choice.

    Args:
        label: mask, (H, W) or (D, H, W).
        models: overlap of the label with the prediction of each model.

    Returns:
        Plane, index and reason of each slice. A 2D image has one entry: the whole image. A volume has the axial,
        coronal and sagittal slice with the most lesion voxels. Without lesions, the number of predicted voxels decides.
        Without predictions too, it is the middle slice. Then follow the axial slices with the most voxels of missed
        lesions and of false predictions, summed over the models, if there are any.
    """
    if label.ndim == 2:
        return [(FLAT, None, "")]

    def most(masks: Sequence[BoolArray], plane: Plane) -> int | None:
        others = tuple(axis for axis in range(3) if axis != plane.axis)
        voxels = np.sum([np.count_nonzero(mask, axis=others) for mask in masks], axis=0)
        return int(voxels.argmax()) if voxels.any() else None

    chosen: list[tuple[Plane, int | None, str]] = []
    for plane in PLANES:
        for masks, why in (([label], "with the most lesion voxels"), (models, "with the most predicted voxels")):
            if (index := most([mask > 0 for mask in masks], plane)) is not None:
                chosen.append((plane, index, why))
                break
        else:
            chosen.append((plane, label.shape[plane.axis] // 2, "in the middle"))
    for code, why in (
        (MISSED_WHOLE, "with the most voxels of missed lesions"),
        (FALSE_WHOLE, "with the most voxels of false predictions"),
    ):
        index = most([codes == code for codes in models], AXIAL)
        if index is not None and index not in [at for plane, at, _ in chosen if plane is AXIAL]:
            chosen.append((AXIAL, index, why))
    return chosen


def count_in_slice(matching: Matching, plane: Plane, index: int | None) -> dict[str, int]:
    """Number of found lesions, missed lesions and false predictions that extend into a slice.

    Args:
        matching: matching of the instances of an image or a volume.
        plane: plane of the slice.
        index: index of the slice; None for the whole image or volume.
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


def find_tiny(codes: Codes, largest: float, aspect: float = 1.0) -> tuple[BoolArray, list[tuple[str, float, float]]]:
    """Find the small connected regions of a slice, whose color would not be visible.

    Args:
        codes: overlap, (H, W).
        largest: maximum height and width of the bounding box of a region, in pixel widths.
        aspect: height of a pixel divided by its width.

    Returns:
        The mask of all small regions, bool, (H, W); and kind, x and y of each. The first pixel spans (0, 0) to (1, 1).
        A region with a missed lesion is "missed". Any other region with a false prediction is "false". All others are
        "found".

    Example:
        >>> codes = np.array([[KINDS.index("missed whole"), 0, 0, KINDS.index("hit"), 1]], np.uint8)
        >>> find_tiny(codes, 1)
        (array([[ True, False, False, False, False]]), [('missed', 0.5, 0.5)])
    """
    ids, _ = ndimage.label(codes, np.ones((3, 3)))
    pixels = np.zeros(codes.shape, bool)
    found = []
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        height, width = (side.stop - side.start for side in box)
        if max(height * aspect, width) <= largest:
            region = ids[box] == number
            pixels[box] |= region
            kind = {FALSE_WHOLE: "false", MISSED_WHOLE: "missed"}.get(int(codes[box][region].max()), "found")
            found.append((kind, box[1].start + width / 2, box[0].start + height / 2))
    return pixels, found
