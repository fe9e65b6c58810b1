"""Choose the views of a volume: the most relevant instances, and a slice through each of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_ici.drawing import View, whole_image
from nnunet_ici.explain.shares import Explained, Side

__all__ = ["choose_instances", "choose_views", "not_in_view"]

IdArray = npt.NDArray[np.int32]
SMALLEST_SIDE = 40  # pixels
MARGIN = 8  # pixels


def choose_instances(label: Side, predicted: Side) -> Iterator[tuple[Side, int]]:
    """All instances as side and id, the most relevant first.

    Five groups take turns: all label instances, missed label instances, false predictions, found label instances, and
    touching predictions. The first group is sorted by size, the others by share in the DICI loss, largest first. Ties
    are broken by size.
    """
    numbers = np.arange(1, len(label) + 1), np.arange(1, len(predicted) + 1)
    missed, false = label.unmatched, predicted.unmatched
    groups = [
        (label, numbers[0][np.argsort(-label.size, kind="stable")]),
        *(
            (side, ids[chosen][np.lexsort((-side.size[chosen], -side.share_of("DICI")[chosen].round(12)))])
            for side, ids, chosen in (
                (label, numbers[0], missed),
                (predicted, numbers[1], false),
                (label, numbers[0], ~missed),
                (predicted, numbers[1], ~false),
            )
        ),
    ]
    given = set()
    for turn in range(max(len(ids) for _, ids in groups)):
        for side, ids in groups:
            if turn < len(ids) and (side.prefix, ids[turn]) not in given:
                given.add((side.prefix, ids[turn]))
                yield side, int(ids[turn])


def choose_views(
    explained: Explained, label_ids: IdArray, predicted_ids: IdArray, count: int, pixel_aspect: float
) -> list[View]:
    """Windows on slices of a volume, in the order of :func:`choose_instances`.

    Each window shows an instance in the slice that contains most of its voxels. An instance that is visible in an
    earlier window does not get another window.

    Args:
        explained: instances.
        label_ids, predicted_ids: instance ids, reoriented for display, (D, H, W).
        count: maximum number of windows.
        pixel_aspect: height of a pixel divided by its width. The windows are drawn as squares.

    Returns:
        The windows. Without instances, there is one window: the middle slice.
    """
    ids_of = {"L": label_ids, "P": predicted_ids}
    boxes = {prefix: ndimage.find_objects(ids) for prefix, ids in ids_of.items()}
    views: list[View] = []
    for side, number in choose_instances(explained.label, explained.predicted):
        if len(views) == count:
            break
        ids = ids_of[side.prefix]
        if any((view.cut(ids) == number).any() for view in views):
            continue
        box = boxes[side.prefix][number - 1]
        index = box[0].start + int(np.argmax((ids[box] == number).sum(axis=(1, 2))))
        views.append(_window(side.name(number), index, box[1], box[2], pixel_aspect))
    return views or [whole_image(label_ids.shape)]


def _window(name: str, index: int, rows: slice, columns: slice, pixel_aspect: float) -> View:
    """A square window around a bounding box in a slice."""
    height, width = (rows.stop - rows.start) * pixel_aspect, columns.stop - columns.start
    half_width = max(height / 2 + MARGIN, width / 2 + MARGIN, SMALLEST_SIDE / 2)
    middle = (rows.start + rows.stop - 1) / 2, (columns.start + columns.stop - 1) / 2
    half_height = half_width / pixel_aspect
    return View(
        index,
        (middle[0] - half_height, middle[0] + half_height),
        (middle[1] - half_width, middle[1] + half_width),
        name,
    )


def not_in_view(explained: Explained, label_ids: IdArray, predicted_ids: IdArray, views: list[View]) -> tuple[int, int]:
    """Number of label instances and number of predicted instances outside all windows."""
    counts = []
    for side, ids in ((explained.label, label_ids), (explained.predicted, predicted_ids)):
        seen = np.unique(np.concatenate([view.cut(ids).reshape(-1) for view in views]))
        counts.append(len(side) - int(np.count_nonzero(seen)))
    return counts[0], counts[1]
