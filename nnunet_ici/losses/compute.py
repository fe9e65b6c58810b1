"""Terms from network outputs: find the instances once, then evaluate the formulas, fused into few launches on CUDA."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nnunet_ici.instances import Source, find_instances
from nnunet_ici.instances.cubes import half_widths
from nnunet_ici.instances.kernels import uses_kernels
from nnunet_ici.losses.ranks import sum_over_ranks
from nnunet_ici.losses.terms import Join, evaluate
from nnunet_ici.settings import TermSettings

__all__ = ["NO_PREDICTIONS", "compute_terms"]

NO_PREDICTIONS = 2.0  # threshold above every probability, where only label instances are needed


def compute_terms(
    source: Source,
    names: Sequence[str],
    settings: TermSettings,
    threshold: float | Tensor,
    over_ranks: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """Compute terms over the instances of a source.

    Args:
        source: probabilities or logits, and a target.
        names: names of the terms, keys of :data:`~nnunet_ici.losses.terms.FORMULAS`.
        settings: their settings.
        threshold: threshold of the predicted instances.
        over_ranks: whether instances are counted over all ranks of a distributed training. Every rank must then call.

    Returns:
        Value of each term, a scalar that stays attached to the graph: float64 for a float64 source, otherwise float32;
        and int64 (4,), the numbers of label, missed, predicted and false instances.
    """
    table = find_instances(
        source,
        threshold,
        inner=settings.inner,
        halves=half_widths(settings.size, source.images[1:], settings.reference_shape) if "center" in names else None,
        background="blob" in names,
    )
    join = sum_over_ranks if over_ranks else _identity
    values, counts = _evaluator(source.x)(table, tuple(names), settings, join)
    dtype = torch.float64 if source.x.dtype == torch.float64 else torch.float32
    return {name: value.to(dtype) for name, value in zip(names, values, strict=True)}, counts


def _identity(x: Tensor) -> Tensor:
    return x


def _evaluator(x: Tensor) -> Callable[..., tuple[list[Tensor], Tensor]]:
    """The formulas as they are, or compiled where the kernels run on CUDA, unless ``nnUNet_compile`` forbids it."""
    forbidden = os.environ.get("nnUNet_compile", "true").lower() in ("false", "0", "f")
    return _Fused.of_device(str(x.device)) if x.is_cuda and uses_kernels(x) and not forbidden else evaluate


class _Fused:
    """The compiled formulas. If they cannot be compiled here, they run as they are, with one warning."""

    def __init__(self) -> None:
        self.compiled: Callable[..., Any] = torch.compile(evaluate, dynamic=True)
        self.works: bool | None = None

    @classmethod
    @cache
    def of_device(cls, device: str) -> _Fused:
        return cls()

    def __call__(self, *args: Any) -> tuple[list[Tensor], Tensor]:
        if self.works is not False:
            try:
                result: tuple[list[Tensor], Tensor] = self.compiled(*args)
                self.works = True
                return result
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                if self.works:
                    raise
                self.works = False
                reason = (str(error).strip().splitlines() or [""])[0]
                warnings.warn(
                    f"The loss formulas could not be compiled and run uncompiled, which is slower: "
                    f"{type(error).__name__}: {reason}. nnUNet_compile=false silences this.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return evaluate(*args)


