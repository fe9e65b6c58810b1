"""Matching of instances: the lesions that a prediction overlaps, and the predicted components that overlap none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = ["Matching", "as_mask", "as_masks", "bounding_box", "match_ids", "match_instances"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matching:
    """The instances (connected components) of a label and of a prediction, and their overlaps.

    Two instances touch if they share at least one voxel. A label instance is found, and a predicted instance is true,
    if it touches an instance of the other mask with an IoU of at least ``overlap``; by default any voxel is enough. Ids
    are stored only inside ``box``, the bounding box of both masks. Entry i of the arrays per instance belongs to id
    i + 1.

    Attributes:
        shape: shape of both masks.
        box: slice of each axis.
        label_ids: int32, shape of the box, 0 = background, 1..n = instances of the label.
        predicted_ids: int32, shape of the box, 0 = background, 1..m = instances of the prediction.
        pairs: int64 (k, 2), label id and predicted id of each pair of instances that touch, sorted.
        shared_voxels: int64 (k,), number of voxels that each pair shares.
        label_voxels: int64 (n,), number of voxels of each label instance.
        predicted_voxels: int64 (m,), number of voxels of each predicted instance.
        overlap: minimum IoU, in [0, 1]; 0 for any shared voxel.
    """

    shape: tuple[int, ...]
    box: tuple[slice, ...]
    label_ids: npt.NDArray[np.int32]
    predicted_ids: npt.NDArray[np.int32]
    pairs: IntArray
    shared_voxels: IntArray
    label_voxels: IntArray
    predicted_voxels: IntArray
    overlap: float = 0.0

    @cached_property
    def iou(self) -> npt.NDArray[np.float64]:
        """float64 (k,), intersection over union of each pair."""
        label, predicted = (self.pairs - 1).T
        return self.shared_voxels / (self.label_voxels[label] + self.predicted_voxels[predicted] - self.shared_voxels)

    @cached_property
    def label_found(self) -> BoolArray:
        """bool (n,), whether each label instance is found."""
        return self._in_pairs(0, self.label_voxels.size)

    @cached_property
    def predicted_true(self) -> BoolArray:
        """bool (m,), whether each predicted instance is true."""
        return self._in_pairs(1, self.predicted_voxels.size)

    def _in_pairs(self, side: int, count: int) -> BoolArray:
        found = np.zeros(count, bool)
        found[self.pairs[self.iou >= self.overlap, side] - 1] = True
        return found

    @cached_property
    def inside_voxels(self) -> IntArray:
        """int64 (m,), number of voxels of each predicted instance inside the label."""
        inside = np.zeros(self.predicted_voxels.size, np.int64)
        np.add.at(inside, self.pairs[:, 1] - 1, self.shared_voxels)
        return inside

    @property
    def lesion_share(self) -> npt.NDArray[np.float64]:
        """float64 (m,), share of each predicted instance inside the label."""
        return self.inside_voxels / self.predicted_voxels

    @property
    def label_instances(self) -> int:
        """Number of instances in the label."""
        return self.label_voxels.size

    @property
    def found_instances(self) -> int:
        """Number of label instances that are found."""
        return int(np.count_nonzero(self.label_found))

    @property
    def missed_instances(self) -> int:
        """Number of label instances that are not found."""
        return self.label_instances - self.found_instances

    @property
    def predicted_instances(self) -> int:
        """Number of instances in the prediction."""
        return self.predicted_voxels.size

    @property
    def false_instances(self) -> int:
        """Number of predicted instances that are not true."""
        return self.predicted_instances - int(np.count_nonzero(self.predicted_true))

    def missed_mask(self) -> BoolArray:
        """The voxels of the missed label instances, bool, shape of the masks."""
        return self._select(self.label_ids, ~self.label_found)

    def false_mask(self) -> BoolArray:
        """The voxels of the false predicted instances, bool, shape of the masks."""
        return self._select(self.predicted_ids, ~self.predicted_true)

    def _select(self, ids: npt.NDArray[np.int32], chosen: BoolArray) -> BoolArray:
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.box] = np.concatenate(([False], chosen))[ids]
        return mask


def as_mask(array: npt.NDArray[np.generic], name: str) -> BoolArray:
    """Convert a binary array, named in error messages, to bool; a view of an array that is already bool.

    Raises:
        TypeError: if the dtype is neither bool nor integer.
        ValueError: if the array holds other values than 0 and 1.
    """
    if array.dtype == np.bool_:
        return array.view(np.bool_)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} is not a mask. Expected: bool, or integers 0 and 1. Got: dtype {array.dtype}")
    mask = array != 0
    if not np.array_equal(array, mask):
        values = ", ".join(map(str, np.unique(array)[:8]))
        raise ValueError(f"{name} is not a mask. Expected: bool, or integers 0 and 1. Got: values {values}")
    return mask


def as_masks(label: npt.NDArray[np.generic], prediction: npt.NDArray[np.generic]) -> tuple[BoolArray, BoolArray]:
    """:func:`as_mask` of both, which need the same shape, else ValueError."""
    label, prediction = as_mask(label, "label"), as_mask(prediction, "prediction")
    if label.shape != prediction.shape:
        raise ValueError(
            f"label and prediction differ in shape. Expected: {label.shape}, as the label. Got: {prediction.shape}"
        )
    return label, prediction


def match_instances(
    label: npt.NDArray[np.generic], prediction: npt.NDArray[np.generic], faces: bool = False, overlap: float = 0.0
) -> Matching:
    """Label the instances of both masks and find the pairs that touch.

    An empty mask has no instances.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        faces: whether to connect voxels through faces only: 4 neighbors in 2D, 6 in 3D, instead of 8 and 26.
        overlap: minimum IoU at which a lesion is found and a predicted instance is true; 0 for any shared voxel.

    Raises:
        TypeError, ValueError: as :func:`as_masks`, and if the masks are neither 2D nor 3D.

    Example:
        One predicted component covers two lesions, a third lesion is missed, and another component is false:

        >>> import numpy as np
        >>> label      = np.array([[1, 0, 1, 0, 1, 0, 0]])
        >>> prediction = np.array([[1, 1, 1, 0, 0, 0, 1]])
        >>> matching = match_instances(label, prediction)
        >>> matching.label_instances, matching.missed_instances
        (3, 1)
        >>> matching.predicted_instances, matching.false_instances
        (2, 1)
        >>> matching.pairs.tolist()
        [[1, 1], [2, 1]]
    """
    label, prediction = as_masks(label, prediction)
    if label.ndim not in (2, 3):
        raise ValueError(f"label is not an image. Expected: 2 or 3 dimensions. Got: shape {label.shape}")
    box = bounding_box(label | prediction)
    label_ids, label_count = label_array(label[box], faces)
    predicted_ids, predicted_count = label_array(prediction[box], faces)

    label_voxels = np.bincount(label_ids[label_ids > 0], minlength=label_count + 1)[1:]
    return match_ids(label_ids, label_voxels, predicted_ids, predicted_count, overlap, label.shape, box)


def match_ids(
    label_ids: npt.NDArray[np.int32],
    label_voxels: IntArray,
    predicted_ids: npt.NDArray[np.int32],
    predicted_count: int,
    overlap: float,
    shape: tuple[int, ...],
    box: tuple[slice, ...],
) -> Matching:
    """The matching of labeled instances, with the attributes of :class:`Matching`; the ids may be those of any voxels
    that include the predicted ones."""
    inside = predicted_ids > 0
    predicted_voxels = np.bincount(predicted_ids[inside], minlength=predicted_count + 1)[1:]
    inside &= label_ids > 0
    keys = label_ids[inside] * np.int64(predicted_count + 1) + predicted_ids[inside]
    unique_keys, shared_voxels = np.unique(keys, return_counts=True)
    pairs = np.stack(np.divmod(unique_keys, predicted_count + 1), axis=1)
    masks = shape, box, label_ids, predicted_ids
    return Matching(*masks, pairs, shared_voxels, label_voxels, predicted_voxels, overlap)


def bounding_box(mask: BoolArray) -> tuple[slice, ...]:
    """The smallest box around the foreground of a mask of any shape, a slice per axis; empty slices without foreground.

    Example:
        >>> bounding_box(np.array([[False, True, True], [False, False, False]]))
        (slice(0, 1, None), slice(1, 3, None))
    """
    box = []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0))
    return tuple(box)
