"""Templates of the page, and data URIs for embedded files."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_ici.command import plural

__all__ = ["data_uri", "load_templates"]


def load_templates() -> Environment:
    """Load the templates, with the filter ``plural``. Text is escaped. Undefined names are errors."""
    templates = Environment(
        loader=PackageLoader("nnunet_ici.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(plural=plural)
    return templates


def data_uri(content: bytes, kind: str) -> str:
    """Encode a file as a data URI. ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
