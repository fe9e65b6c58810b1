"""The losses made of instances: a global loss plus terms that share the instances of label and prediction."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from nnunet_ici.instances import Source
from nnunet_ici.losses.compound import CompoundLoss, GlobalLoss
from nnunet_ici.losses.compute import NO_PREDICTIONS, compute_terms
from nnunet_ici.losses.targets import TargetReader
from nnunet_ici.losses.threshold import Threshold
from nnunet_ici.settings import LOSSES, RANDOM_THRESHOLD, term_settings

__all__ = ["BlobLoss", "DICILoss", "ICILoss", "InstanceCompoundLoss", "LesionWiseLoss", "PQLoss"]

DICI, ONE = LOSSES["nnUNetTrainerDICI"].weights, LOSSES["nnUNetTrainerPQ"].weights  # ICI and LesionWise have the same


class InstanceCompoundLoss(CompoundLoss):
    """A global loss plus terms over the instances of label and prediction.

    Args:
        global_loss, global_weight, weights: as for :class:`~nnunet_ici.losses.compound.CompoundLoss`.
        threshold: threshold of the predicted instances: a number in (0, 1], or a (low, high) range from which each call
            in training mode draws. In evaluation mode a range is replaced by 0.5.
        seed: seed of the random thresholds.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`, and settings of
            :class:`~nnunet_ici.settings.TermSettings` that the terms use.

    Raises:
        TypeError: if an option is unknown.
        ValueError: if a weight, the threshold or a setting is invalid.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float,
        weights: dict[str, float],
        *,
        threshold: float | Sequence[float] = RANDOM_THRESHOLD,
        seed: int = 0,
        **options: Any,
    ) -> None:
        shared = inspect.signature(CompoundLoss.__init__).parameters.keys() | TargetReader.__dataclass_fields__.keys()
        settings = {name: options.pop(name) for name in list(options) if name not in shared}
        super().__init__(global_loss, global_weight, weights, **options)
        self.settings = term_settings(list(weights), settings)
        self.threshold = Threshold(threshold, seed)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], Tensor | None]:
        names = [name for name, weight in self.weights.items() if weight and name != "global"]
        settings = replace(self.settings, reference_shape=self.finest_shape)
        return compute_terms(source, names, settings, self.threshold(self.training), self.over_ranks)

    @property
    def draws(self) -> int:
        return self.threshold.draws

    @draws.setter
    def draws(self, draws: int) -> None:
        self.threshold.draws = draws

    def get_extra_state(self) -> dict[str, int]:
        return self.threshold.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.threshold.load_state_dict(state)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}, {self.settings}"


class DICILoss(InstanceCompoundLoss):
    r"""The DICI loss: the ICI loss with an additional term over predicted instances.

    .. math:: L = g L_{global} + i L_{instance} + p L_{predicted} + c L_{center}

    The terms are :func:`~nnunet_ici.losses.instance_loss`, :func:`~nnunet_ici.losses.predicted_instance_loss` and
    :func:`~nnunet_ici.losses.center_loss`.

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. The random threshold is ours; the paper uses 0.5. With
    ``center_weight=0`` this is the Dual loss, which is ours, not the paper's.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        instance_weight: i.
        predicted_weight: p.
        center_weight: c.
        **options: further arguments of :class:`~nnunet_ici.losses.ici.InstanceCompoundLoss`, such as
            ``threshold`` and ``seed``; and ``size``, ``exclude_other_instances``, ``inner`` and ``smooth`` of
            :class:`~nnunet_ici.settings.TermSettings`.

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
        global_loss: GlobalLoss | None = None,
        global_weight: float = DICI["global_weight"],
        instance_weight: float = DICI["instance_weight"],
        predicted_weight: float = DICI["predicted_weight"],
        center_weight: float = DICI["center_weight"],
        **options: Any,
    ) -> None:
        weights = {"instance": instance_weight, "predicted": predicted_weight, "center": center_weight}
        super().__init__(global_loss, global_weight, weights, **options)


class ICILoss(InstanceCompoundLoss):
    r"""The ICI loss.

    .. math:: L = g L_{global} + i L_{instance} + c L_{center}

    Source: Rachmadi et al., MIDL 2023, Eq. 1, with g = i = c = 1. The paper also uses (g, i, c) = (1/4, 1/2, 1/4).

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        instance_weight: i.
        center_weight: c.
        **options: further arguments of :class:`DICILoss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = DICI["global_weight"],
        instance_weight: float = DICI["instance_weight"],
        center_weight: float = DICI["center_weight"],
        **options: Any,
    ) -> None:
        if "predicted_weight" in options:
            raise TypeError("ICILoss has no predicted_weight: the loss with that term is DICILoss")
        super().__init__(global_loss, global_weight, {"instance": instance_weight, "center": center_weight}, **options)


class LesionWiseLoss(InstanceCompoundLoss):
    r"""A global loss plus :func:`~nnunet_ici.losses.lesionwise_loss`.

    .. math:: L = g L_{global} + w L_{lesionwise}

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: g.
        term_weight: w.
        **options: further arguments of :class:`~nnunet_ici.losses.ici.InstanceCompoundLoss`, with the
            settings of :func:`~nnunet_ici.losses.lesionwise_loss`.

    Example:
        >>> import torch
        >>> loss = LesionWiseLoss(lambda z, y: torch.nn.functional.cross_entropy(z, y[:, 0].long()), false_weight=0.5)
        >>> target = torch.zeros(1, 1, 16, 16, dtype=torch.int16)
        >>> target[0, 0, 4:6, 4:6] = 1
        >>> logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
        >>> loss(logits, target).backward()
        >>> bool(logits.grad[0, 1, 4, 4] < 0)
        True
    """

    term: ClassVar[str] = "lesionwise"

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = ONE["global_weight"],
        term_weight: float = ONE["term_weight"],
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {self.term: term_weight}, **options)


class PQLoss(LesionWiseLoss):
    r"""A global loss plus :func:`~nnunet_ici.losses.pq_loss`.

    .. math:: L = g L_{global} + w L_{pq}

    The arguments are those of :class:`LesionWiseLoss`, with the settings of :func:`~nnunet_ici.losses.pq_loss`.
    """

    term = "pq"


class BlobLoss(InstanceCompoundLoss):
    r"""A global loss plus :func:`~nnunet_ici.losses.blob_loss`.

    .. math:: L = \alpha L_{global} + \beta L_{blob}

    Source: Kofler et al., 2022, with the paper's alpha = 2 and beta = 1.

    Args:
        global_loss: called as ``global_loss(net_output, target)``.
        global_weight: alpha.
        term_weight: beta.
        **options: further arguments of :class:`~nnunet_ici.losses.compound.CompoundLoss`, with the settings of
            :func:`~nnunet_ici.losses.blob_loss`.
    """

    def __init__(
        self,
        global_loss: GlobalLoss | None = None,
        global_weight: float = LOSSES["nnUNetTrainerBlob"].weights["global_weight"],
        term_weight: float = ONE["term_weight"],
        **options: Any,
    ) -> None:
        super().__init__(global_loss, global_weight, {"blob": term_weight}, **options)

    def compute_terms(self, source: Source) -> tuple[dict[str, Tensor], None]:
        return compute_terms(source, ["blob"], self.settings, NO_PREDICTIONS, self.over_ranks)[0], None
