"""Connected components and sums over them.

The names are loaded on demand: evaluation and converters label with cc3d alone, and need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_ici.instances.components import label_components, labelling_backend
    from nnunet_ici.instances.table import InstanceTable, cell_sums, find_instances

__all__ = ["InstanceTable", "cell_sums", "find_instances", "label_components", "labelling_backend"]

_PARTS = {"label_components": "components", "labelling_backend": "components"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PARTS.get(name, 'table')}"), name)
    return globals().setdefault(name, value)
