"""What each instance adds to each term, computed by the losses themselves or from the table they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_ici.instances import InstanceTable
from nnunet_ici.instances.cubes import Cubes, check_size, half_widths, spread
from nnunet_ici.instances.table import segment_sum
from nnunet_ici.losses import blob_loss
from nnunet_ici.losses.center import center_term
from nnunet_ici.losses.found import FoundInstances, find
from nnunet_ici.losses.instance import instance_term
from nnunet_ici.losses.predicted import predicted_instance_term

__all__ = ["LOSSES", "Explained", "Side", "explain"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The terms of each loss, beside its global loss, with the default weight of 1.
LOSSES = {"ICI": ("instance", "center"), "DICI": ("instance", "predicted", "center"), "blob": ("blob",)}
SMOOTH = 1e-5
WHOLE_IMAGE = 0.0  # a threshold that every voxel reaches

IN_LABEL_CUBE, IN_HIT_CUBE, IN_FALSE_CUBE = 1, 2, 4


@dataclass(frozen=True, eq=False)
class Side:
    """The I instances of a label, or of a prediction; instance i has the id i + 1.

    Attributes:
        prefix: of the names: "L" or "P".
        size: int64 (I,), voxels.
        touched: the ids on the other side that each instance shares a voxel with, ascending.
        shares: by term, float64 (I,), what each instance adds to it. A term without shares on this side is missing.
    """

    prefix: str
    size: IntArray
    touched: list[list[int]]
    shares: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(self.size)

    def name(self, number: int) -> str:
        """The name of an id, such as "L3"."""
        return f"{self.prefix}{number}"

    def share_of(self, loss: str) -> FloatArray:
        """float64 (I,): what each instance adds to one of :data:`LOSSES`."""
        return sum((self.shares[term] for term in LOSSES[loss] if term in self.shares), np.zeros(len(self)))

    @property
    def lonely(self) -> npt.NDArray[np.bool_]:
        """bool (I,): the instances that touch none, missed ones of a label and false ones of a prediction."""
        return np.array([not others for others in self.touched], dtype=bool)


@dataclass(frozen=True, eq=False)
class Explained:
    """A label and a prediction as the losses see them.

    Attributes:
        terms: the values of the soft Dice loss ("dice"), "instance", "predicted", "center" and "blob".
        label: the label's instances, with shares in instance, center and blob.
        predicted: the predicted instances, with shares in predicted and center.
        label_ids: int32, shape of the image, 0 = background.
        predicted_ids: the same of the prediction.
        cubes: uint8, shape of the image: 1 in the cube of a label instance, plus 2 in that of a predicted one that
            touches a label, plus 4 in that of a false one.
        center_error: float32, shape of the image: what each voxel adds to the center term's numerator.
    """

    terms: dict[str, float]
    label: Side
    predicted: Side
    label_ids: npt.NDArray[np.int32]
    predicted_ids: npt.NDArray[np.int32]
    cubes: npt.NDArray[np.uint8]
    center_error: npt.NDArray[np.float32]

    def value_of(self, loss: str) -> float:
        """The value of one of :data:`LOSSES` without its global loss."""
        return sum(self.terms[term] for term in LOSSES[loss])


class _WithoutMean(FoundInstances):
    """Makes a term return what each instance adds to its mean, in the place of the mean: float64 (I,)."""

    def mean_over_instances(self, per_instance: Tensor, image: Tensor) -> Tensor:
        return per_instance / len(per_instance)


def _find(prob: Tensor, target: Tensor, threshold: float) -> _WithoutMean:
    found = find(prob, target, None, threshold)
    return _WithoutMean(found.table, found.classes, found.sums, found.zero, found.prob, found.target)


def explain(
    label: npt.NDArray[np.bool_],
    prob: npt.NDArray[np.floating],
    threshold: float = 0.5,
    center_size: int | tuple[int, ...] = 7,
) -> Explained:
    r"""The terms of a label and a prediction, and what each instance adds to them.

    The shares of a term add up to it. In the instance term (Eq. 5) and in blob loss a label instance has the share
    L_n / Z, in the predicted term (Eq. 6) a predicted one L_m / M. Blob loss is the instance term with the whole image
    as one predicted instance that touches every label, so it asks the same function, with a threshold of 0.

    For the center term (Eq. 4), a sum of errors over voxels, the share is our definition: the error 1 - O of a voxel in
    label cubes is split equally among the label instances whose cubes it lies in, the error O of one outside of them
    among the predicted instances whose cubes it lies in. All is divided by the term's denominator.

    Args:
        label: (H, W) or (D, H, W).
        prob: probabilities in [0, 1], the same shape.
        threshold: predicted instances are the components of ``prob >= threshold``; above 0.
        center_size: of the cubes in voxels, odd; or one for each axis.

    Returns:
        Terms and shares as of :func:`~nnunet_ici.losses.instance_loss`,
        :func:`~nnunet_ici.losses.predicted_instance_loss`, :func:`~nnunet_ici.losses.center_loss` and
        :func:`~nnunet_ici.losses.blob_loss`. Without label instances the instance term and blob loss are 0, without
        predicted ones the predicted term, without any the center term and the Dice loss.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or size.

    Example:
        The first of two pixels is found, the second is missed:

        >>> import numpy as np
        >>> label = np.array([[1, 0, 1, 0]], bool)
        >>> explained = explain(label, np.array([[1.0, 0, 0, 0]]), center_size=1)
        >>> explained.label.shares["instance"].round(3).tolist(), round(explained.terms["instance"], 3)
        ([0.0, 0.5], 0.5)
        >>> explained.label.touched, explained.predicted.touched
        ([[1], []], [[1]])
        >>> round(explained.terms["center"], 3)  # one voxel wrong, 2 + 1 voxels in cubes
        0.333
    """
    check_size(center_size)
    values, target = torch.from_numpy(prob)[None, None], torch.from_numpy(label)[None, None]
    found = _find(values, target, threshold)
    table = found.table
    cubes, error, label_center, predicted_center = _center_shares(found, center_size)
    pairs = torch.stack([table.pair_label, table.pair_pred], dim=1).numpy()
    of_label = {
        "instance": instance_term(found).numpy(),
        "center": label_center,
        "blob": instance_term(_find(values, target, WHOLE_IMAGE)).numpy(),
    }
    of_predicted = {"predicted": predicted_instance_term(found).numpy(), "center": predicted_center}
    terms = {
        "dice": _soft_dice(found),
        "instance": float(of_label["instance"].sum()),
        "predicted": float(of_predicted["predicted"].sum()),
        "center": float(center_term(found, center_size)),
        "blob": float(blob_loss(values, target)),
    }
    return Explained(
        terms,
        Side("L", table.label_size.numpy(), _touched(pairs, len(table.label_size)), of_label),
        Side("P", table.pred_size.numpy(), _touched(pairs[:, ::-1], len(table.pred_size)), of_predicted),
        _ids(table, table.cell_label),
        _ids(table, table.cell_pred),
        cubes,
        error,
    )


def _soft_dice(found: FoundInstances) -> float:
    """The Dice loss of the image as a whole; 0 where label and prediction are empty."""
    inside = float(found.prob[found.target].sum(dtype=torch.float64))
    total = float(found.prob.sum(dtype=torch.float64) + found.target.sum())
    return 1 - (2 * inside + SMOOTH) / (total + SMOOTH)


def _touched(pairs: IntArray, count: int) -> list[list[int]]:
    touched: list[list[int]] = [[] for _ in range(count)]
    for number, other in sorted(pairs.tolist()):
        touched[number - 1].append(other)
    return touched


def _ids(table: InstanceTable, of_cell: Tensor) -> npt.NDArray[np.int32]:
    ids = torch.zeros(table.shape.numel(), dtype=torch.int32)
    ids[table.voxels] = of_cell[table.cells].to(torch.int32)
    return ids.reshape(table.shape[1:]).numpy()


def _center_shares(
    found: FoundInstances, size: int | tuple[int, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], FloatArray, FloatArray]:
    """``cubes`` and ``center_error`` of :class:`Explained`, and the shares of label and predicted instances."""
    table, shape = found.table, tuple(found.table.shape[1:])
    halves = half_widths(size, shape)
    at_label, at_pred = (
        Cubes(image, center).voxels(shape, [0] * len(shape))[:, 0]
        for image, center in ((table.label_image, table.label_center), (table.pred_image, table.pred_center))
    )

    def centers(dtype: torch.dtype) -> Tensor:
        return torch.zeros(table.shape.numel(), dtype=dtype)

    bits = centers(torch.uint8)
    for at, bit in (
        (at_label, IN_LABEL_CUBE),
        (at_pred[table.pred_is_hit], IN_HIT_CUBE),
        (at_pred[~table.pred_is_hit], IN_FALSE_CUBE),
    ):
        bits[at] |= bit
    cubes = spread(bits.reshape(table.shape), halves, torch.bitwise_or)[0].numpy()

    # O: a predicted cube counts with 1, or with the mean probability where it is false; a label cube with the mean
    # probability where it is missed.
    label_value = torch.where(table.label_is_hit, 0, table.sum_by_label(found.sums) / table.label_size)
    pred_value = torch.where(table.pred_is_hit, 1, table.sum_by_pred(found.sums) / table.pred_size)
    highest = centers(found.sums.dtype)
    highest.scatter_reduce_(0, torch.cat([at_label, at_pred]), torch.cat([label_value, pred_value]), reduce="amax")
    output = spread(highest.reshape(table.shape), halves, torch.maximum)[0].numpy()
    in_label, in_pred = (cubes & IN_LABEL_CUBE) > 0, (cubes & (IN_HIT_CUBE | IN_FALSE_CUBE)) > 0
    error = np.where(in_label, 1 - output, output)

    denominator = np.count_nonzero(in_label) + np.count_nonzero(in_pred) + SMOOTH
    shares = []
    for at, caused in ((at_label, in_label), (at_pred, in_pred & ~in_label)):
        number = segment_sum(torch.ones(len(at), dtype=torch.float64), at, table.shape.numel())
        covering = np.rint(_box_sum(number.reshape(shape).numpy(), halves))
        split = np.divide(error, covering, out=np.zeros_like(error), where=caused)
        shares.append(_box_sum(split, halves).reshape(-1)[at.numpy()] / denominator)
    return cubes, error.astype(np.float32), shares[0], shares[1]


def _box_sum(values: FloatArray, halves: tuple[int, ...]) -> FloatArray:
    """The sum over the cube around each voxel, clipped at the border."""
    widths = [2 * half + 1 for half in halves]
    mean: FloatArray = ndimage.uniform_filter(values, widths, mode="constant")
    return mean * np.prod(widths)
