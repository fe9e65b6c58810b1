"""What each instance adds to each term, computed by the losses themselves or from the table they read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from nnunet_ici.instances import Source, label_components
from nnunet_ici.instances.cubes import IN_LABEL, IN_PRED, draw_cubes, half_widths
from nnunet_ici.instances.segments import segment_sum
from nnunet_ici.losses.blob import blob_losses
from nnunet_ici.losses.center import center_term, values_of_cubes
from nnunet_ici.losses.found import FoundInstances, find
from nnunet_ici.losses.instance import losses_of_labels
from nnunet_ici.losses.lesion_wise import lesionwise_parts, lesionwise_term, pq_parts, pq_term
from nnunet_ici.losses.predicted import losses_of_preds
from nnunet_ici.settings import FIXED_THRESHOLD, SMOOTH, TermSettings

__all__ = ["LOSSES", "Explained", "Side", "explain"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The terms of each loss, beside its global loss, with the default weight of 1.
LOSSES = {
    "ICI": ("instance", "center"),
    "DICI": ("instance", "predicted", "center"),
    "LesionWise": ("lesionwise",),
    "PQ": ("pq",),
    "blob": ("blob",),
}

IN_LABEL_CUBE, IN_HIT_CUBE, IN_FALSE_CUBE = 1, 2, 4


@dataclass(frozen=True, eq=False)
class Side:
    """The I instances of a label, or of a prediction; instance i has the id i + 1.

    Attributes:
        prefix: first letter of the names: "L" or "P".
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
        terms: values of the soft Dice loss ("dice"), "instance", "predicted", "center", "lesionwise", "pq" and "blob".
        label: the label's instances, with shares in instance, center, lesionwise, pq and blob.
        predicted: the predicted instances, with shares in predicted, center, lesionwise and pq.
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


def explain(
    label: npt.NDArray[np.bool_],
    prob: npt.NDArray[np.floating],
    threshold: float = FIXED_THRESHOLD,
    center_size: int | Sequence[int] = TermSettings.size,
) -> Explained:
    r"""The terms of a label and a prediction, and what each instance adds to them.

    The shares of a term add up to it. In the instance term (Eq. 5) and in blob loss a label instance has the share
    L_n / Z, in the predicted term (Eq. 6) a predicted one L_m / M. In the lesion-wise term a label instance has the
    share (1 - D_n) / (Z + F), a false predicted one s_m / (Z + F). In the PQ loss, with h_n = 1 for a label instance
    that is hit, the shares are (1 + h_n - 2 D_n) / N and s_m / N, where N is the denominator; without label instances
    s_m / F.

    For the center term (Eq. 4), a sum of errors over voxels, the share is our definition: the error 1 - O of a voxel in
    label cubes is split equally among the label instances whose cubes it lies in, the error O of one outside of them
    among the predicted instances whose cubes it lies in. All is divided by the term's denominator.

    Args:
        label: (H, W) or (D, H, W).
        prob: probabilities in [0, 1], the same shape.
        threshold: predicted instances are the components of ``prob >= threshold``; above 0.
        center_size: edge of the cubes in voxels, odd; or one for each axis.

    Returns:
        Terms and shares as of :func:`~nnunet_ici.losses.instance_loss`,
        :func:`~nnunet_ici.losses.predicted_instance_loss`, :func:`~nnunet_ici.losses.center_loss`,
        :func:`~nnunet_ici.losses.lesionwise_loss`, :func:`~nnunet_ici.losses.pq_loss` and
        :func:`~nnunet_ici.losses.blob_loss`. Without label instances the instance term and blob loss are 0, without
        predicted ones the predicted term, without any all terms and the Dice loss.

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
    settings = TermSettings(size=center_size)
    source = Source.of_prob(torch.from_numpy(prob)[None, None], torch.from_numpy(label)[None, None])
    found = find(source, threshold)
    instances = found.instances
    labels, preds = len(instances.label_image), len(instances.pred_image)
    cubes, error, label_center, predicted_center = _center_shares(found, settings)
    of_labels, of_false, lesions = lesionwise_parts(found, settings)
    pq_labels, pq_false, pq_whole = pq_parts(found, settings)
    of_label = {
        "instance": losses_of_labels(found, settings).numpy() / max(labels, 1),
        "center": label_center,
        "lesionwise": (of_labels / lesions.clamp(min=1)).numpy(),
        "pq": (pq_labels / pq_whole).numpy(),
        "blob": blob_losses(found, settings).numpy() / max(labels, 1),
    }
    of_predicted = {
        "predicted": losses_of_preds(found, settings).numpy() / max(preds, 1),
        "center": predicted_center,
        "lesionwise": (of_false / lesions.clamp(min=1)).numpy(),
        "pq": (pq_false / pq_whole).numpy(),
    }
    terms = {
        "dice": _soft_dice(source),
        "instance": float(of_label["instance"].sum()),
        "predicted": float(of_predicted["predicted"].sum()),
        "center": float(center_term(found, settings)),
        "lesionwise": float(lesionwise_term(found, settings)),
        "pq": float(pq_term(found, settings)),
        "blob": float(of_label["blob"].sum()),
    }
    kept = instances.pair_label > 0
    pairs = torch.stack([instances.pair_label, instances.pair_pred], dim=1)[kept].numpy()
    label_ids, predicted_ids = (label_components(mask[0])[0][0] for mask in (source.label, source.prob >= threshold))
    return Explained(
        terms,
        Side("L", instances.voxels.label.numpy(), _touched(pairs, labels), of_label),
        Side("P", instances.voxels.pred.numpy(), _touched(pairs[:, ::-1], preds), of_predicted),
        label_ids.numpy(),
        predicted_ids.numpy(),
        cubes,
        error,
    )


def _soft_dice(source: Source) -> float:
    """The Dice loss of the image as a whole; 0 where label and prediction are empty."""
    inside = float(source.prob[source.label].sum(dtype=torch.float64))
    total = float(source.prob.sum(dtype=torch.float64) + source.label.sum())
    return 1 - (2 * inside + SMOOTH) / (total + SMOOTH)


def _touched(pairs: IntArray, count: int) -> list[list[int]]:
    touched: list[list[int]] = [[] for _ in range(count)]
    for number, other in sorted(pairs.tolist()):
        touched[number - 1].append(other)
    return touched


def _center_shares(
    found: FoundInstances, settings: TermSettings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], FloatArray, FloatArray]:
    """``cubes`` and ``center_error`` of :class:`Explained`, and the shares of label and predicted instances."""
    instances = found.instances
    shape = instances.source.images[1:]
    halves = half_widths(settings.size, shape)
    value, order = values_of_cubes(found)
    labels, preds = instances.label_cubes, instances.pred_cubes
    bits, ranks = (drawn[0] for drawn in draw_cubes(instances.source.images, labels, preds, order, halves))
    output = torch.cat([value.new_zeros(1), value[order]])[ranks.to(torch.int64)].numpy()
    in_label, in_pred = (bits & IN_LABEL).bool().numpy(), (bits & IN_PRED).bool().numpy()
    error = np.where(in_label, 1 - output, output)
    nothing = labels[:0]
    in_hit, in_false = (
        (draw_cubes(instances.source.images, nothing, preds[which], torch.arange(int(which.sum())), halves)[0][0] > 0)
        for which in (instances.pred_is_hit, ~instances.pred_is_hit)
    )
    cubes = in_label * IN_LABEL_CUBE + in_hit.numpy() * IN_HIT_CUBE + in_false.numpy() * IN_FALSE_CUBE

    denominator = np.count_nonzero(in_label) + np.count_nonzero(in_pred) + settings.smooth
    shares = []
    for centers, caused in ((labels, in_label), (preds, in_pred & ~in_label)):
        at = centers.voxels(shape, [0] * len(shape))[:, 0]
        number = segment_sum(torch.ones(len(at), dtype=torch.float64), at, math.prod(shape))
        covering = np.rint(_box_sum(number.reshape(shape).numpy(), halves))
        split = np.divide(error, covering, out=np.zeros_like(error), where=caused)
        shares.append(_box_sum(split, halves).reshape(-1)[at.numpy()] / denominator)
    return cubes.astype(np.uint8), error.astype(np.float32), shares[0], shares[1]


def _box_sum(values: FloatArray, halves: tuple[int, ...]) -> FloatArray:
    """The sum over the cube around each voxel, clipped at the border."""
    widths = [2 * half + 1 for half in halves]
    mean: FloatArray = ndimage.uniform_filter(values, widths, mode="constant")
    return mean * np.prod(widths)
