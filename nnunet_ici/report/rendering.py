"""The templates of the page, and what they are filled with: numbers of things, files inside the page."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["data_uri", "load_templates", "plural"]


def load_templates() -> Environment:
    """The templates, with :func:`plural` as a filter; every text is escaped, an unknown name is an error."""
    templates = Environment(
        loader=PackageLoader("nnunet_ici.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["plural"] = plural
    return templates


def plural(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> plural(1, "case"), plural(2, "case")
        ('1 case', '2 cases')
    """
    return f"{number} {noun}" + "s" * (number != 1)


def data_uri(content: bytes, kind: str) -> str:
    """A file inside the page: ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
