"""Templates of the page with filters for plurals and line breaks in names, and data URIs for embedded files."""

from __future__ import annotations

import base64
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_ici.command import plural

__all__ = ["data_uri", "load_templates", "words"]

# Possible line breaks in a long name: after a separator between words, but not within a number such as 0.2, and before
# a capital letter after three lowercase letters. A part that is still long may also break before other capital letters.
_BETWEEN_WORDS = re.compile(r"(?<=\w[_.\-])(?=[^_.\-])(?<!\d\.(?=\d))|(?<=[a-z]{3})(?=[A-Z])")
_IN_LONG_WORDS = re.compile(r"(?<=[A-Za-z][a-z]{2})(?=[A-Z])")
LONG_WORD = 16  # characters


def load_templates() -> Environment:
    """Load the templates, with the filters ``plural`` and ``words``. Text is escaped. Undefined names are errors."""
    templates = Environment(
        loader=PackageLoader("nnunet_ici.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(plural=plural, words=words)
    return templates


def words(name: str) -> list[str]:
    """Split a name into parts. Lines may break between the parts.

    Example:
        >>> words("nnUNetTrainerICI_5epochs"), words("nnUNetResEncUNetMPlans")
        (['nnUNetTrainer', 'ICI_', '5epochs'], ['nnUNet', 'Res', 'Enc', 'UNet', 'MPlans'])
    """
    parts = _BETWEEN_WORDS.split(name)
    return [word for part in parts for word in (_IN_LONG_WORDS.split(part) if len(part) > LONG_WORD else [part])]


def data_uri(content: bytes, kind: str) -> str:
    """Encode a file as a data URI. ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
