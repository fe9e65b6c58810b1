"""Base class of the compound losses: a global loss plus terms, with nnU-Net's calling convention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_ici.instances import Source
from nnunet_ici.instances.source import plain
from nnunet_ici.losses.dice_ce import default_global_loss
from nnunet_ici.losses.record import TermRecord
from nnunet_ici.losses.targets import TargetReader
from nnunet_ici.losses.terms import count_lesions
from nnunet_ici.settings import check_weights

__all__ = ["CompoundLoss", "CountedLoss", "GlobalLoss"]

GlobalLoss = Callable[[Tensor, Tensor], Tensor]


class CompoundLoss(nn.Module):
    """``global_weight * global_loss + sum of weight * term``.

    Subclasses define :meth:`compute_terms`.

    Args:
        global_loss: called as ``global_loss(net_output, target)``, such as the loss from
            ``nnUNetTrainer._build_loss()``; None for :func:`~nnunet_ici.losses.dice_ce.default_global_loss`.
        global_weight: weight of the global loss.
        weights: weights of the terms, by name; a term of weight 0 is not computed.
        ignore_label: label of ignored voxels in label maps, or None. Region targets mark them in an additional channel.
        reference_shape: full-resolution spatial shape. Network outputs of another shape are the coarser scales of deep
            supervision. None if there is a single scale.
        finest_only: whether to compute the terms only for network outputs of ``reference_shape``. The global loss is
            always computed.
        over_ranks: whether instances are counted over all ranks of a distributed training. Every rank must then call
            the loss.
        batch: whether the terms run over the mini-batch; otherwise over each image, with a threshold of its own.
        reduction: "mean"; with ``batch=False`` also "sum", or "none" for one value per image.
        ds_weights: weights of the outputs of deep supervision, if the loss is called with lists, the finest first; None
            for 1, 1/2, 1/4, ... divided by their sum.
        regions, to_onehot_y, softmax, sigmoid, include_background: how the target is read, as in MONAI's losses, see
            :class:`~nnunet_ici.losses.targets.TargetReader`.

    Attributes:
        record: record of the terms and instance counts at the finest scale.
        term_factor: factor of the weights of the terms.

    Raises:
        ValueError: if a weight is negative or not finite, all weights are 0, ``finest_only`` is set without a
            ``reference_shape``, or the options on reduction or target contradict each other.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float,
        weights: dict[str, float],
        *,
        ignore_label: int | None = None,
        reference_shape: Sequence[int] | None = None,
        finest_only: bool = False,
        over_ranks: bool = False,
        batch: bool = True,
        reduction: str = "mean",
        ds_weights: Sequence[float] | None = None,
        **reading: Any,
    ) -> None:
        super().__init__()
        if finest_only and reference_shape is None:
            raise ValueError("finest_only needs a reference_shape. Got: None")
        weights = {"global": global_weight} | weights
        check_weights(weights)
        if not any(weights.values()):
            raise ValueError(f"weights must be finite and not negative, with at least one above 0. Got: {weights}")
        if reduction not in ("mean", "sum", "none") or (batch and reduction != "mean"):
            raise ValueError(
                "reduction must be 'mean', or with batch=False also 'sum' or 'none': a mini-batch has a single value. "
                f"Got: {reduction!r}"
            )
        self.read = TargetReader(ignore_label, **reading)
        self.batch, self.reduction, self.ds_weights = batch, reduction, ds_weights
        self.global_loss = global_loss or default_global_loss(ignore_label)
        self._own_global = global_loss is None
        self.weights = weights
        self.ignore_label = ignore_label
        self.reference_shape = None if reference_shape is None else tuple(reference_shape)
        self.finest_shape = self.reference_shape  # of the present call
        self.finest_only = finest_only
        self.over_ranks = over_ranks
        self.record = TermRecord()
        self.term_factor = 1.0

    def forward(self, net_output: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor]) -> Tensor:
        """The weighted sum, a scalar.

        Args:
            net_output: logits (B, C, *spatial), 2D or 3D, of any floating-point dtype, or a list of them, the finest
                first. The terms are computed in float32, even under autocast, or in float64 for float64 logits.
            target: label map (B, 1, *spatial) with integer values, of any integer or floating-point dtype, for a
                softmax over C > 1 classes including background; or regions (B, C, *spatial), bool or 0/1, for
                sigmoids, with an additional last channel if there are ignored voxels. For a list of logits a list, or
                the finest target alone, from which the others are sampled (nearest neighbor).

        Returns:
            A scalar, or (B,) with ``reduction="none"``. A mini-batch of 0 images gives 0.

        Raises:
            TypeError: if ``net_output`` is not floating-point.
            ValueError: if ``net_output`` is neither 2D nor 3D, or the target has neither form, or holds other values.
        """
        if not isinstance(net_output, Tensor):
            return self._over_scales([plain(z) for z in net_output], target)
        if not isinstance(target, Tensor):
            raise TypeError(f"target must be a tensor for a single network output. Got: {type(target).__name__}")
        self.finest_shape = self.reference_shape
        return self._one_scale(plain(net_output), plain(target))

    def _over_scales(self, outputs: list[Tensor], target: Tensor | Sequence[Tensor]) -> Tensor:
        weights = self.ds_weights or [0.5**i / (2 - 2 * 0.5 ** len(outputs)) for i in range(len(outputs))]
        if isinstance(target, Tensor):
            finest = plain(target)
            targets = [F.interpolate(finest.float(), z.shape[2:]).to(finest.dtype) for z in outputs]
        else:
            targets = [plain(y) for y in target]
        if not len(outputs) == len(targets) == len(weights):
            raise ValueError(
                "net_output, target and ds_weights must have the same length. Got: "
                f"{len(outputs)}, {len(targets)}, {len(weights)}"
            )
        self.finest_shape = self.reference_shape or tuple(outputs[0].shape[2:])
        self.set_finest_weight(weights[0])
        scales = [w * self._one_scale(z, y) for w, z, y in zip(weights, outputs, targets, strict=True) if w]
        return sum(scales[1:], scales[0])

    def _one_scale(self, net_output: Tensor, target: Tensor) -> Tensor:
        x, y = self.read(net_output, target)
        if not len(x) and not self.over_ranks:
            empty = 0 * net_output.float().sum()
            return empty if self.reduction != "none" else empty.expand(0)
        if self.batch:
            return self._weighted(net_output, target, x, y)
        images = [self._weighted(*(part[b : b + 1] for part in (net_output, target, x, y))) for b in range(len(x))]
        values = torch.stack(images)
        return values if self.reduction == "none" else values.sum() if self.reduction == "sum" else values.mean()

    def _weighted(self, net_output: Tensor, target: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The weighted sum; the global loss that the user passed gets the tensors as they are."""
        finest = self.finest_shape is None or tuple(x.shape[2:]) == self.finest_shape
        values: dict[str, Tensor] = {}
        counts = None
        if self.weights["global"]:
            values["global"] = self.global_loss(x, y) if self._own_global else self.global_loss(net_output, target)
        if self.has_terms and (finest or not self.finest_only):
            terms, counts = self._terms(Source.of_network(x, y, self.ignore_label))
            values |= terms
        if finest:
            self.record.add(values, counts if self.training else self._count(x, y))
        weighted = [
            self.weights[name] * (1 if name == "global" else self.term_factor) * value for name, value in values.items()
        ]
        return sum(weighted[1:], weighted[0]) if weighted else 0 * net_output.float().sum()

    @property
    def has_terms(self) -> bool:
        """Whether any term has to be computed."""
        return any(weight for name, weight in self.weights.items() if name != "global")

    @property
    def draws(self) -> int:
        """Number of random thresholds drawn so far; 0 for a loss without them."""
        return 0

    @draws.setter
    def draws(self, draws: int) -> None:
        pass

    def set_finest_weight(self, weight: float) -> None:
        """Called with the weight of the full-resolution output in deep supervision, by the trainer or for lists. Losses
        whose terms are added outside these weights override this method."""

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare for training epoch 0..epochs - 1. Losses with a weight schedule override this method."""

    @torch.compiler.disable  # the number of instances changes at every call and would trigger recompilation
    def _terms(self, source: Source) -> tuple[dict[str, Tensor], Tensor | None]:
        """:meth:`compute_terms` in full precision."""
        with _full_precision(source.x.device):
            return self.compute_terms(source)

    @torch.compiler.disable
    def _count(self, x: Tensor, y: Tensor) -> Tensor:
        """In evaluation mode, every loss counts the lesions of the prediction at 0.5, see :func:`count_lesions`."""
        with _full_precision(x.device), torch.no_grad():
            return count_lesions(Source.of_network(x, y, self.ignore_label))

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], Tensor | None]:
        """Compute the terms.

        Args:
            source: network output and target.

        Returns:
            Value of each term with a nonzero weight, a scalar, by name; and the numbers of instances, int64 (4,), in
            the order of :data:`~nnunet_ici.losses.record.COUNTS`, or None.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        weights = ", ".join(f"{name}_weight={weight:g}" for name, weight in self.weights.items())
        options = {
            "ignore_label": self.ignore_label,
            "reference_shape": self.reference_shape,
            "finest_only": self.finest_only,
        }
        return ", ".join([weights, *(f"{name}={value}" for name, value in options.items())])


class CountedLoss(CompoundLoss):
    """A global loss without any term, whose lesions are counted in evaluation mode as those of the other losses.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        **options: as for :class:`CompoundLoss`.
    """

    def __init__(self, global_loss: GlobalLoss | None = None, **options: Any) -> None:
        super().__init__(global_loss, 1.0, {}, **options)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        return {}, None


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast. On MPS nnU-Net never enables it, and older versions of torch do not support it."""
    return nullcontext() if device.type == "mps" else torch.autocast(device.type, enabled=False)
