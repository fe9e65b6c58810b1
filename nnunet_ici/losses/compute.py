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
from nnunet_ici.losses.terms import evaluate
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
    boxes = "proximity" in names
    table = find_instances(
        source,
        threshold,
        inner=settings.inner,
        halves=half_widths(settings.size, source.images[1:], settings.reference_shape) if "center" in names else None,
        background="blob" in names,
        boxes=boxes,
    )
    join = sum_over_ranks if over_ranks else _identity
    dtype = torch.float64 if source.x.dtype == torch.float64 else torch.float32
    # With boxes the tables come from plain torch and have another size at each call: not worth compiling.
    values, counts = (evaluate if boxes else _evaluator(source.x))(table, tuple(names), settings, join, dtype)
    return dict(zip(names, values, strict=True)), counts


def _identity(x: Tensor) -> Tensor:
    return x


def _evaluator(x: Tensor) -> Callable[..., tuple[list[Tensor], Tensor]]:
    """The formulas: compiled for training where the kernels run on CUDA, unless ``nnUNet_compile`` forbids it.

    Compiled, the 60 to 140 operators of a formula become about 15 kernels. Without a gradient they are not worth it.
    """
    forbidden = os.environ.get("nnUNet_compile", "true").lower() in ("false", "0", "f")
    fuse = x.is_cuda and torch.is_grad_enabled() and not forbidden and uses_kernels(x)
    return _evaluate_fused if fuse else evaluate


def _evaluate_fused(*args: Any) -> tuple[list[Tensor], Tensor]:
    """Evaluate compiled formulas, or the formulas as they are if they cannot be compiled here, with one warning."""
    global _can_fuse
    if _can_fuse is not False:
        try:
            result = _fused()(*args)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if _can_fuse:  # it worked before, so this is not the compiler
                raise
            _can_fuse = False
            reason = (str(error).strip().splitlines() or [""])[0]
            warnings.warn(
                f"The formulas of the loss cannot be compiled and run as they are, which is slower: "
                f"{type(error).__name__}: {reason}. nnUNet_compile=false silences this.",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            _can_fuse = True
            return result
    return evaluate(*args)


@cache
def _fused() -> Callable[..., tuple[list[Tensor], Tensor]]:
    return torch.compile(evaluate, dynamic=True)  # one program for all scales and patch shapes


_can_fuse: bool | None = None  # None until the first try
