"""Instances: the connected components of label and prediction, the pairs that overlap, and sums over instances.

:func:`find_instances` finds the instances of a mini-batch and computes differentiable sums over them, in plain torch or
in Triton. :func:`label_components` labels the connected components of binary images.

Names are loaded on demand: evaluation and converters need cc3d only and do not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_ici.on_demand import load

if TYPE_CHECKING:
    from nnunet_ici.instances.components import label_components, labelling_backend
    from nnunet_ici.instances.kernels import KernelStatus, kernel_status
    from nnunet_ici.instances.source import Source
    from nnunet_ici.instances.table import Cover, Side, Table, find_instances

__all__ = [
    "Cover",
    "KernelStatus",
    "Side",
    "Source",
    "Table",
    "find_instances",
    "kernel_status",
    "label_components",
    "labelling_backend",
]

_PARTS = dict.fromkeys(("Cover", "Side", "Table", "find_instances"), "table") | {"Source": "source"}
_PARTS |= dict.fromkeys(("label_components", "labelling_backend"), "components")
_PARTS |= dict.fromkeys(("KernelStatus", "kernel_status"), "kernels")


def __getattr__(name: str) -> object:
    return load(__name__, name, _PARTS)
