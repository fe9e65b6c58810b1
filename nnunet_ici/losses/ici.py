"""The ICI, DICI and Dual losses: a global loss plus terms over the instances of label and prediction."""

from __future__ import annotations

from typing import Any

from nnunet_ici.losses.center import CenterLoss
from nnunet_ici.losses.compound import GlobalLoss
from nnunet_ici.losses.instance import InstanceLoss
from nnunet_ici.losses.instance_compound import InstanceCompoundLoss
from nnunet_ici.losses.predicted import PredictedInstanceLoss
from nnunet_ici.settings import LOSSES

__all__ = ["DICILoss", "ICILoss"]

WEIGHTS = LOSSES["nnUNetTrainerDICI"].weights  # ICI has the same weights, without the predicted term


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
        **options: further arguments of :class:`~nnunet_ici.losses.instance_compound.InstanceCompoundLoss`, such as
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

    TERMS = (InstanceLoss, PredictedInstanceLoss, CenterLoss)

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = WEIGHTS["global_weight"],
        instance_weight: float = WEIGHTS["instance_weight"],
        predicted_weight: float = WEIGHTS["predicted_weight"],
        center_weight: float = WEIGHTS["center_weight"],
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

    TERMS = (InstanceLoss, CenterLoss)

    def __init__(
        self,
        global_loss: GlobalLoss | None,
        global_weight: float = WEIGHTS["global_weight"],
        instance_weight: float = WEIGHTS["instance_weight"],
        center_weight: float = WEIGHTS["center_weight"],
        **options: Any,
    ) -> None:
        if "predicted_weight" in options:
            raise TypeError("ICILoss has no predicted_weight: the loss with that term is DICILoss")
        super().__init__(global_loss, global_weight, {"instance": instance_weight, "center": center_weight}, **options)
