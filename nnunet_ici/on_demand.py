"""Lazy loading of the names of a package, so that importing one part does not load the others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

__all__ = ["load"]


def load(package: str, name: str, parts: Mapping[str, str]) -> object:
    """Load a name of a package, as the body of its ``__getattr__``.

    Args:
        package: ``__name__`` of the package.
        name: name of the attribute.
        parts: submodule of each public name.

    Raises:
        AttributeError: if the name is not in ``parts``.
    """
    if name not in parts:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{package}.{parts[name]}"), name)
    setattr(sys.modules[package], name, value)  # later accesses bypass __getattr__
    return value
