"""Where a label and a prediction overlap, voxel by voxel, and which slices show most of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nnunet_ici.drawing import AXIAL, FLAT, PLANES, Plane
from nnunet_ici.evaluation.matching import Matching

__all__ = ["KINDS", "choose_slices", "count_in_slice", "overlap", "project"]

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
