"""Templates of the page, and filters for them: plurals, line breaks in names, files inside the page."""

from __future__ import annotations

import base64
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_ici.command import plural

__all__ = ["data_uri", "load_templates", "words"]

# Where a long name may be broken: after a mark between its words, but not within a number such as 0.2, and before a
# capital that follows several small letters. A part that is still long is broken before more of its capitals.
_BETWEEN_WORDS = re.compile(r"(?<=\w[_.\-])(?=[^_.\-])(?<!\d\.(?=\d))|(?<=[a-z]{3})(?=[A-Z])")
_IN_LONG_WORDS = re.compile(r"(?<=[A-Za-z][a-z]{2})(?=[A-Z])")
LONG_WORD = 16  # characters


def load_templates() -> Environment:
    """The templates, with the filters ``plural`` and ``words``. Texts are escaped; unknown names are errors."""
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
    """The parts of a name between which it may be broken into lines.

    Example:
        >>> words("nnUNetTrainerICI_5epochs"), words("nnUNetResEncUNetMPlans")
        (['nnUNetTrainer', 'ICI_', '5epochs'], ['nnUNet', 'Res', 'Enc', 'UNet', 'MPlans'])
    """
    parts = _BETWEEN_WORDS.split(name)
    return [word for part in parts for word in (_IN_LONG_WORDS.split(part) if len(part) > LONG_WORD else [part])]


def data_uri(content: bytes, kind: str) -> str:
    """A file as a data URI; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
