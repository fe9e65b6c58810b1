"""The parts of every release of ATLAS: sessions, and problems with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Problem", "Session", "bare"]


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data.

    Attributes:
        path: the file or folder.
        what: what is wrong with it, with what was expected and found.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Session:
    """One scan of one subject.

    Attributes:
        site: such as "R001".
        subject: such as "sub-r001s001".
        session: such as "ses-1".
        image: the T1w image.
        mask: the lesion mask; None in Testing, where masks are not given out.
        unused_masks: further masks in the session's folder.
    """

    site: str
    subject: str
    session: str
    image: Path
    mask: Path | None
    unused_masks: tuple[Path, ...] = ()

    @property
    def case(self) -> str:
        """The case's name for nnU-Net, unique for each session."""
        return f"{self.subject}_{self.session}"


def bare(identifier: str, prefix: str) -> str:
    """A subject's or session's name without its prefix, in lower case: folders and sheets write it differently.

    >>> bare("sub-r001s001", "sub"), bare("R001S001 ", "sub"), bare("ses-1", "ses"), bare("1.0", "ses")
    ('r001s001', 'r001s001', '1', '1')
    """
    name = identifier.strip().lower().removeprefix(prefix).lstrip("-_ ")
    return name.removesuffix(".0")
