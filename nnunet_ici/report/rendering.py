"""The templates of the page, and what they are filled with: numbers of things, files inside the page."""

from __future__ import annotations

import base64
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["data_uri", "load_templates", "plural", "words"]

# Where a long name may be broken: after a mark between its words, and before the capital of a word of several letters.
_BETWEEN_WORDS = re.compile(r"(?<=[_.\-])(?=[^_.\-])|(?<=[a-z]{3})(?=[A-Z])")


def load_templates() -> Environment:
    """The templates, with the filters :func:`plural` and :func:`words`. Texts are escaped; unknown names are errors."""
    templates = Environment(
        loader=PackageLoader("nnunet_ici.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(plural=plural, words=words)
    return templates


def plural(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> plural(1, "case"), plural(2, "case")
        ('1 case', '2 cases')
    """
    return f"{number} {noun}" + "s" * (number != 1)


def words(name: str) -> list[str]:
    """The parts of a name between which it may be broken into lines.

    Example:
        >>> words("nnUNetTrainerICI_5epochs")
        ['nnUNetTrainer', 'ICI_', '5epochs']
    """
    return _BETWEEN_WORDS.split(name)


def data_uri(content: bytes, kind: str) -> str:
    """A file inside the page: ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
