"""Choose what to draw of a volume: the most relevant instances, and a window around each of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnunet_ici.drawing import Scene, View, around, whole
from nnunet_ici.explain.shares import Explained, Side

__all__ = ["choose_instances", "choose_views", "not_in_view"]

SMALLEST_SIDE = 28  # pixels
MARGIN = 8  # pixels


def choose_instances(label: Side, predicted: Side) -> Iterator[tuple[Side, int]]:
    """All instances as side and id, the most relevant first.

    Five groups take turns: all label instances, missed label instances, false predictions, found label instances, and
    touching predictions. The first group is sorted by size, the others by share in the DICI loss, largest first. Ties
    are broken by size.
    """
    groups = [(label, 1 + np.argsort(-label.size, kind="stable"))]
    for side, chosen in (
        (label, label.unmatched),
        (predicted, predicted.unmatched),
        (label, ~label.unmatched),
        (predicted, ~predicted.unmatched),
    ):
        ids = 1 + np.flatnonzero(chosen)
        groups.append((side, ids[np.lexsort((-side.size[chosen], -side.share_of("DICI")[chosen].round(12)))]))
    given = set()
    for turn in range(max(len(ids) for _, ids in groups)):
        for side, ids in groups:
            if turn < len(ids) and side.name(ids[turn]) not in given:
                given.add(side.name(ids[turn]))
                yield side, int(ids[turn])


def choose_views(explained: Explained, scene: Scene, count: int) -> list[View]:
    """Windows on slices of a volume, in the order of :func:`choose_instances`.

    Each window shows an instance in the slice that contains most of its voxels. An instance that is visible in an
    earlier window does not get another window. Without instances, the only window is the middle slice.

    Args:
        explained: instances.
        scene: their ids as ``label`` and as map "predicted", (D, H, W).
        count: maximum number of windows.
    """
    views: list[View] = []
    for side, number in choose_instances(explained.label, explained.predicted):
        if len(views) == count:
            break
        ids = scene.label if side is explained.label else scene.maps["predicted"]
        if any((view.cut(ids) == number).any() for view in views):
            continue
        mask = np.equal(ids, number)
        index = int(mask.sum(axis=(1, 2)).argmax())
        views.append(around(mask[index], MARGIN, SMALLEST_SIDE, index, side.name(number)))
    return views or [whole(scene.label.shape)]


def not_in_view(scene: Scene, views: list[View]) -> tuple[int, int]:
    """Number of label instances and number of predicted instances outside all windows."""
    label, predicted = (
        int(ids.max()) - np.count_nonzero(np.unique(np.concatenate([view.cut(ids).ravel() for view in views])))
        for ids in (scene.label, scene.maps["predicted"])
    )
    return int(label), int(predicted)
