"""Data structures shared by all ATLAS releases: sessions, and problems with their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Problem", "Session", "bare"]


@dataclass(frozen=True)
class Problem:
    """A problem with the data.

    Attributes:
        path: path of the file or folder.
        what: description of the problem, including what was expected and what was found.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Session:
    """One scan of one subject.

    Attributes:
        site: name of the site, such as "R001".
        subject: name of the subject, such as "sub-r001s001".
        session: name of the session, such as "ses-1".
        image: path of the T1w image.
        mask: path of the lesion mask; None in Testing, whose masks are not public.
        unused_masks: paths of additional masks in the session's folder.
    """

    site: str
    subject: str
    session: str
    image: Path
    mask: Path | None
    unused_masks: tuple[Path, ...] = ()

    @property
    def case(self) -> str:
        """The name of the case in nnU-Net, unique for each session."""
        return f"{self.subject}_{self.session}"


def bare(identifier: str, prefix: str) -> str:
    """Normalize the name of a subject or session, which folders and metadata sheets write differently.

    The prefix and a trailing ".0" are removed, and the rest is converted to lower case.

    >>> bare("sub-r001s001", "sub"), bare("R001S001 ", "sub"), bare("ses-1", "ses"), bare("1.0", "ses")
    ('r001s001', 'r001s001', '1', '1')
    """
    name = identifier.strip().lower().removeprefix(prefix).lstrip("-_ ")
    return name.removesuffix(".0")
