"""Instances: the connected components of label and prediction, which of them touch, and sums over them.

:func:`find_instances` finds the instances of a mini-batch and sums over their parts, differentiably, in plain torch or
in Triton. :func:`label_components` labels the components of binary images.

The names are loaded on demand: evaluation and converters label with cc3d alone, and need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_ici.on_demand import load

if TYPE_CHECKING:
    from nnunet_ici.instances.components import label_components, labelling_backend
    from nnunet_ici.instances.find import find_instances
    from nnunet_ici.instances.kernels import KernelStatus, kernel_status
    from nnunet_ici.instances.parts import Instances, PartSums
    from nnunet_ici.instances.source import Source

__all__ = [
    "Instances",
    "KernelStatus",
    "PartSums",
    "Source",
    "find_instances",
    "kernel_status",
    "label_components",
    "labelling_backend",
]

_PARTS = dict.fromkeys(("Instances", "PartSums"), "parts") | {"Source": "source", "find_instances": "find"}
_PARTS |= dict.fromkeys(("label_components", "labelling_backend"), "components")
_PARTS |= dict.fromkeys(("KernelStatus", "kernel_status"), "kernels")


def __getattr__(name: str) -> object:
    return load(__name__, name, _PARTS)
