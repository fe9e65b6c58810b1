"""The share of each instance in each term, computed by the losses themselves or from the table that they read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from nnunet_ici.instances import Source, label_components
from nnunet_ici.instances.cells import Cells, RankedCubes
from nnunet_ici.instances.cubes import IN_LABEL, IN_PRED, draw_cubes, half_widths
from nnunet_ici.instances.segments import segment_sum
from nnunet_ici.instances.table import Table, find_instances, is_hit
from nnunet_ici.losses.terms import FORMULAS, total
from nnunet_ici.settings import FIXED_THRESHOLD, SMOOTH, TermSettings

__all__ = ["LOSSES", "TERMS", "Explained", "Side", "explain"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Terms of each loss in addition to its global loss, with the default weight of 1.
LOSSES = {
    "ICI": ("instance", "center"),
    "DICI": ("instance", "predicted", "center"),
    "LesionWise": ("lesionwise",),
    "PQ": ("pq",),
    "blob": ("blob",),
}

TERMS = ("instance", "predicted", "center", "lesionwise", "pq", "blob")

IN_LABEL_CUBE, IN_HIT_CUBE, IN_FALSE_CUBE = 1, 2, 4


@dataclass(frozen=True, eq=False)
class Side:
    """The I instances of a label or of a prediction. Instance i has the id i + 1.

    Attributes:
        prefix: first letter of the instance names: "L" or "P".
        size: size of each instance in voxels, int64 (I,).
        touched: for each instance, the ids on the other side that share a voxel with it, ascending.
        shares: share of each instance, float64 (I,), by term. A term without shares on this side is missing.
    """

    prefix: str
    size: IntArray
    touched: list[list[int]]
    shares: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(self.size)

    def name(self, number: int) -> str:
        """The name of the instance with this id, such as "L3"."""
        return f"{self.prefix}{number}"

    def share_of(self, loss: str) -> FloatArray:
        """Share of each instance in one of :data:`LOSSES`, float64 (I,)."""
        return sum((self.shares[term] for term in LOSSES[loss] if term in self.shares), np.zeros(len(self)))

    @property
    def unmatched(self) -> npt.NDArray[np.bool_]:
        """Whether an instance touches none on the other side, bool (I,): missed in a label, false in a prediction."""
        return np.array([not others for others in self.touched], dtype=bool)


@dataclass(frozen=True, eq=False)
class Explained:
    """A label and a prediction as the losses see them.

    Attributes:
        terms: value of the soft Dice loss ("dice"), "instance", "predicted", "center", "lesionwise", "pq" and "blob".
        label: label instances, with shares in instance, center, lesionwise, pq and blob.
        predicted: predicted instances, with shares in predicted, center, lesionwise and pq.
        label_ids: instance ids of the label, int32, in the shape of the image; 0 is the background.
        predicted_ids: instance ids of the prediction, int32, in the shape of the image; 0 is the background.
        cubes: uint8, in the shape of the image: 1 in the cube of a label instance, plus 2 in the cube of a predicted
            instance that touches a label instance, plus 4 in the cube of a false prediction.
        center_error: share of each voxel in the numerator of the center term, float32, in the shape of the image.
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


def explain(
    label: npt.NDArray[np.bool_],
    prob: npt.NDArray[np.floating],
    threshold: float = FIXED_THRESHOLD,
    center_size: int | Sequence[int] = TermSettings.size,
) -> Explained:
    r"""Compute the terms of a label and a prediction, and the share of each instance in them.

    The shares of a term add up to the term:

    - Instance term (Eq. 5) and blob loss: the share of a label instance is L_n / Z.
    - Predicted term (Eq. 6): the share of a predicted instance is L_m / M.
    - Lesion-wise term: the share of a label instance is (1 - D_n) / (Z + F). The share of a false prediction is
      s_m / (Z + F).
    - PQ loss: the share of a label instance is (1 + h_n - 2 D_n) / N, with h_n = 1 for a hit. The share of a false
      prediction is s_m / N. N is the denominator. Without label instances, the share of a false prediction is s_m / F.
    - Center term (Eq. 4), a sum of errors over voxels: the shares are our own definition. In label cubes, the error
      1 - O of a voxel is split equally among the label instances whose cubes contain the voxel. Outside of them, the
      error O is split equally among the predicted instances whose cubes contain it. All shares are divided by the
      denominator of the term.

    Args:
        label: mask, (H, W) or (D, H, W).
        prob: probabilities in [0, 1], in the shape of ``label``.
        threshold: threshold of the predicted instances, above 0. They are the components of ``prob >= threshold``.
        center_size: edge length of the cubes in voxels, odd: one number, or one per axis.

    Returns:
        Terms and shares of :func:`~nnunet_ici.losses.instance_loss`,
        :func:`~nnunet_ici.losses.predicted_instance_loss`, :func:`~nnunet_ici.losses.center_loss`,
        :func:`~nnunet_ici.losses.lesionwise_loss`, :func:`~nnunet_ici.losses.pq_loss` and
        :func:`~nnunet_ici.losses.blob_loss`. The instance term and blob loss are 0 without label instances. The
        predicted term is 0 without predicted instances. All terms and the Dice loss are 0 without any instances.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or size.

    Example:
        The first of two lesions of one pixel is found, the second is missed:

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
    settings = TermSettings(size=center_size)
    source = Source.of_prob(torch.from_numpy(prob)[None, None], torch.from_numpy(label)[None, None])
    halves = half_widths(settings.size, label.shape)
    table = find_instances(source, threshold, halves=halves, background=True)
    cubes, error, label_center, predicted_center = _center_shares(source, threshold, table, halves, settings.smooth)
    of_label, of_predicted = {"center": label_center}, {"center": predicted_center}
    terms = {"dice": _soft_dice(source)}
    for name in TERMS:
        shares = FORMULAS[name](table, settings, _alone)
        terms[name] = float(total(shares, _alone))
        for costs, of_side in ((shares.label, of_label), (shares.pred, of_predicted)):
            if costs is not None and name != "center":
                of_side[name] = (costs / shares.divisor).flatten().numpy()
    sizes = [side.voxels.flatten().numpy() for side in (table.label, table.pred)]
    pairs = torch.stack([table.pair_label, table.pair_pred], dim=1).numpy() + 1
    label_ids, predicted_ids = (label_components(mask[0])[0][0] for mask in (source.label, source.prob >= threshold))
    return Explained(
        terms,
        Side("L", sizes[0], _touched(pairs, len(sizes[0])), of_label),
        Side("P", sizes[1], _touched(pairs[:, ::-1], len(sizes[1])), of_predicted),
        label_ids.numpy(),
        predicted_ids.numpy(),
        cubes,
        error,
    )


def _soft_dice(source: Source) -> float:
    """The Dice loss of the whole image; 0 if label and prediction are empty."""
    inside = float(source.prob[source.label].sum(dtype=torch.float64))
    total = float(source.prob.sum(dtype=torch.float64) + source.label.sum())
    return 1 - (2 * inside + SMOOTH) / (total + SMOOTH)


def _touched(pairs: IntArray, count: int) -> list[list[int]]:
    touched: list[list[int]] = [[] for _ in range(count)]
    for number, other in sorted(pairs.tolist()):
        touched[number - 1].append(other)
    return touched


def _alone(x: torch.Tensor) -> torch.Tensor:
    """Join sums over the ranks of a training, of which there is none here."""
    return x


def _center_shares(
    source: Source, threshold: float, table: Table, halves: tuple[int, ...], smooth: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], FloatArray, FloatArray]:
    """``cubes`` and ``center_error`` of :class:`Explained`, and the shares of label and predicted instances."""
    images = source.images
    shape = images[1:]
    labels, preds, _, value, order = RankedCubes.of(Cells.of(source, threshold), table)
    bits, ranks = (drawn[0] for drawn in draw_cubes(images, labels, preds, order, halves))
    output = torch.cat([value.new_zeros(1), value[order]])[ranks.to(torch.int64)].numpy()
    in_label, in_pred = (bits & IN_LABEL).bool().numpy(), (bits & IN_PRED).bool().numpy()
    error = np.where(in_label, 1 - output, output)
    nothing, hit = labels[:0], is_hit(table)[1].flatten()
    in_hit, in_false = (
        (draw_cubes(images, nothing, preds[which], torch.arange(int(which.sum())), halves)[0][0] > 0)
        for which in (hit, ~hit)
    )
    cubes = in_label * IN_LABEL_CUBE + in_hit.numpy() * IN_HIT_CUBE + in_false.numpy() * IN_FALSE_CUBE

    denominator = np.count_nonzero(in_label) + np.count_nonzero(in_pred) + smooth
    shares = []
    for centers, caused in ((labels, in_label), (preds, in_pred & ~in_label)):
        at = centers.voxels(shape, [0] * len(shape))[:, 0]
        number = segment_sum(torch.ones(len(at), dtype=torch.float64), at, math.prod(shape))
        covering = np.rint(_box_sum(number.reshape(shape).numpy(), halves))
        split = np.divide(error, covering, out=np.zeros_like(error), where=caused)
        shares.append(_box_sum(split, halves).reshape(-1)[at.numpy()] / denominator)
    return cubes.astype(np.uint8), error.astype(np.float32), shares[0], shares[1]


def _box_sum(values: FloatArray, halves: tuple[int, ...]) -> FloatArray:
    """The sum over the cube around each voxel, clipped at the image border."""
    widths = [2 * half + 1 for half in halves]
    mean: FloatArray = ndimage.uniform_filter(values, widths, mode="constant")
    return mean * np.prod(widths)
