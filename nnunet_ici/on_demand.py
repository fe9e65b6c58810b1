"""Names of a package that are loaded when they are used, so that importing one part of it stays cheap."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

__all__ = ["load"]


def load(package: str, name: str, parts: Mapping[str, str]) -> object:
    """What a package's ``__getattr__`` returns.

    Args:
        package: its ``__name__``.
        name: name of the attribute.
        parts: the module of each public name.

    Raises:
        AttributeError: for another name.
    """
    if name not in parts:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{package}.{parts[name]}"), name)
    setattr(sys.modules[package], name, value)  # the next time it is there
    return value
