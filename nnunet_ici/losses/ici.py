"""The ICI and DICI losses: a global loss plus terms over the instances of label and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from nnunet_ici.instances.cubes import check_size
from nnunet_ici.losses.center import center_term
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.found import FoundInstances, find
from nnunet_ici.losses.fused import TERMS, FusedSettings, fused_terms, is_fused
from nnunet_ici.losses.inner import check_inner
from nnunet_ici.losses.instance import instance_term
from nnunet_ici.losses.network_output import fused_input, split_classes
from nnunet_ici.losses.predicted import predicted_instance_term
from nnunet_ici.losses.threshold import Threshold

__all__ = ["DICILoss", "ICILoss", "InstanceCompoundLoss"]


class InstanceCompoundLoss(CompoundLoss):
    """A compound whose terms are functions of the instances of label and prediction, which are found once for all.

    Args:
        global_loss, global_weight: as for :class:`~nnunet_ici.losses.compound.CompoundLoss`.
        terms: by name, the weight and the function of each term; a term of weight 0 is not computed.
        fused: settings with which the terms named in :data:`~nnunet_ici.losses.fused.TERMS` are those of ``terms``, for
            devices that compute them in one go; None where they are others.
        threshold: a number, or a (low, high) range drawn from at each call in training mode; 0.5 in evaluation mode.
        seed: of the thresholds.
        **options: those of :class:`~nnunet_ici.losses.compound.CompoundLoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float,
        terms: dict[str, tuple[float, Callable[[FoundInstances], Tensor]]],
        *,
        fused: FusedSettings | None,
        threshold: float | Sequence[float],
        seed: int,
        **options: Any,
    ) -> None:
        weights = {name: weight for name, (weight, _) in terms.items()}
        super().__init__(global_loss, global_weight, weights, **options)
        self.terms = {name: term for name, (weight, term) in terms.items() if weight}
        self.fused = fused
        self.threshold = Threshold(threshold, seed)

    def compute_terms(self, net_output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        threshold = self.threshold(self.training)
        if self.fused is not None and is_fused(net_output, self.fused):
            three, counts = fused_terms(fused_input(net_output, target, self.ignore_label), threshold, self.fused)
            values = dict(zip(TERMS, three.unbind(), strict=True))
            return {name: value for name, value in values.items() if name in self.terms}, counts
        found = find(*split_classes(net_output, target, self.ignore_label), threshold, self.over_ranks)
        return {name: term(found) for name, term in self.terms.items()}, found.counts

    def get_extra_state(self) -> dict[str, int]:
        return self.threshold.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.threshold.load_state_dict(state)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}"


class DICILoss(InstanceCompoundLoss):
    r"""The DICI loss, the ICI loss with the dual term over predicted instances.

    .. math:: L = g L_{global} + i L_{instance} + p L_{predicted} + c L_{center}

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. With ``center_weight=0`` it is the Dual loss, which is ours
    and not the paper's. The terms are those of :func:`~nnunet_ici.losses.instance_loss`,
    :func:`~nnunet_ici.losses.predicted_instance_loss` and :func:`~nnunet_ici.losses.center_loss`; the drawn threshold
    is ours, the paper's is 0.5.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        instance_weight: i.
        predicted_weight: p.
        center_weight: c.
        size: of the center cubes in voxels, odd; or one for each axis.
        threshold: a number, or a (low, high) range drawn from at each call in training mode; 0.5 in evaluation mode.
        exclude_other_instances: True for Eq. 5, False for Eq. 3.
        inner: the loss of one instance, "dice", "bce", "focal" or "dice_ce", for the instance and the predicted term.
        smooth: eps.
        ignore_label: of label targets.
        reference_shape: the full-resolution spatial shape; center cubes shrink along at coarser scales.
        finest_only: compute the terms only for outputs of the ``reference_shape``.
        seed: of the thresholds.
        over_ranks: count instances over all ranks of a distributed training, each of which has to call.

    Example:
        >>> import torch
        >>> loss = DICILoss(lambda z, y: torch.nn.functional.cross_entropy(z, y[:, 0].long()), threshold=0.5)
        >>> target = torch.zeros(1, 1, 16, 16, dtype=torch.int16)
        >>> target[0, 0, 4:6, 4:6] = 1
        >>> logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
        >>> loss(logits, target).backward()
        >>> taken = loss.record.take()
        >>> round(taken["global"], 3), taken["missed_instances"]
        (0.693, 0)
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = 1.0,
        instance_weight: float = 1.0,
        predicted_weight: float = 1.0,
        center_weight: float = 1.0,
        *,
        size: int | Sequence[int] = 7,
        threshold: float | Sequence[float] = (0.1, 0.9),
        exclude_other_instances: bool = True,
        inner: str = "dice",
        smooth: float = 1e-5,
        ignore_label: int | None = None,
        reference_shape: Sequence[int] | None = None,
        finest_only: bool = False,
        seed: int = 0,
        over_ranks: bool = False,
    ) -> None:
        check_size(size)
        check_inner(inner, exclude_other_instances)
        settings = FusedSettings(exclude_other_instances, smooth, size, reference_shape, center_weight > 0, over_ranks)
        instance = partial(instance_term, exclude_other_instances=exclude_other_instances, smooth=smooth, inner=inner)
        center = partial(center_term, size=size, smooth=smooth, reference_shape=reference_shape)
        super().__init__(
            global_loss,
            global_weight,
            {
                "instance": (instance_weight, instance),
                "predicted": (predicted_weight, partial(predicted_instance_term, smooth=smooth, inner=inner)),
                "center": (center_weight, center),
            },
            fused=settings if inner == "dice" else None,
            threshold=threshold,
            ignore_label=ignore_label,
            reference_shape=reference_shape,
            finest_only=finest_only,
            seed=seed,
            over_ranks=over_ranks,
        )


class ICILoss(DICILoss):
    r"""The ICI loss.

    .. math:: L = g L_{global} + i L_{instance} + c L_{center}

    Source: Rachmadi et al., MIDL 2023, Eq. 1, with g = i = c = 1; the paper's other setting is (1/4, 1/2, 1/4).

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        instance_weight: i.
        center_weight: c.
        **options: those of :class:`DICILoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = 1.0,
        instance_weight: float = 1.0,
        center_weight: float = 1.0,
        **options: Any,
    ) -> None:
        if "predicted_weight" in options:
            raise TypeError("ICILoss has no predicted_weight: the loss with that term is DICILoss")
        super().__init__(global_loss, global_weight, instance_weight, 0.0, center_weight, **options)
        del self.weights["predicted"]
