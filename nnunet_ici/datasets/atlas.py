"""The layout of ATLAS R2.0 as released: which sessions there are, and what the metadata sheet says of them."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

__all__ = ["Metadata", "Problem", "Session", "find_sessions", "read_metadata"]

IMAGE_SUFFIX = "space-MNI152NLin2009aSym_T1w"
MASK_SUFFIX = "space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask"
ENDINGS = (".nii.gz", ".nii")
PARTS = {"Training": True, "Testing": False}

_SUBJECT_COLUMNS = ("subjectid", "subject", "sub", "participantid", "bidsid")
_SESSION_COLUMNS = ("sessionid", "session", "ses")


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
    """

    site: str
    subject: str
    session: str
    image: Path
    mask: Path | None

    @property
    def case(self) -> str:
        """The case's name for nnU-Net, unique for each session."""
        return f"{self.subject}_{self.session}"


def find_sessions(source: Path) -> tuple[list[Session], list[Problem]]:
    """Find all sessions below a folder.

    Args:
        source: the release's folder (``ATLAS_2``, with ``Training`` and ``Testing``), or its parent.

    Returns:
        The sessions, sorted by case, and the problems: a missing image or mask, two files for one case, files named
        after another case, no session at all.
    """
    sessions: list[Session] = []
    problems: list[Problem] = []
    roots = _roots(source)
    for root in roots:
        for part, has_masks in PARTS.items():
            for folder in sorted((root / part).glob("*/sub-*/ses-*")):
                if folder.is_dir():
                    session, found = _read_folder(folder, has_masks)
                    problems += found
                    sessions += [session] if session else []
    by_case: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_case[session.case].append(session)
    for case, twins in by_case.items():
        others = ", ".join(str(twin.image) for twin in twins[1:])
        if others:
            problems.append(Problem(twins[0].image, f"two files for one case. Expected: one {case}. Got: {others} too"))
    if not sessions and not problems:
        pattern = f"{{Training,Testing}}/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_{IMAGE_SUFFIX}.nii.gz"
        problems.append(Problem(source, f"no case at all. Expected: {pattern} in it or in ATLAS_2. Got: none"))
    unique = [session for session in sessions if len(by_case[session.case]) == 1]
    return sorted(unique, key=lambda session: session.case), problems


def _roots(source: Path) -> list[Path]:
    """The folders that hold Training or Testing: the source, else its subfolders."""
    if any((source / part).is_dir() for part in PARTS):
        return [source]
    folders = sorted(folder for folder in source.glob("*") if folder.is_dir())
    return [folder for folder in folders if any((folder / part).is_dir() for part in PARTS)]


def _read_folder(folder: Path, has_mask: bool) -> tuple[Session | None, list[Problem]]:
    """The session of a ses-* folder, or what keeps it from being one."""
    site, subject, session = folder.parts[-3:]
    anat, prefix = folder / "anat", f"{subject}_{session}_"
    problems = []
    found: dict[str, Path | None] = {}
    for suffix in (IMAGE_SUFFIX, MASK_SUFFIX) if has_mask else (IMAGE_SUFFIX,):
        kind = "image" if suffix == IMAGE_SUFFIX else "mask"
        files = sorted(path for end in ENDINGS for path in anat.glob(f"*_{suffix}{end}"))
        own = [path for path in files if path.name.startswith(prefix)]
        for path in files:
            if path not in own:
                what = f"named after another case. Expected: {prefix}{suffix}. Got: {path.name}"
                problems.append(Problem(path, what))
        if not own:
            others = ", ".join(path.name for path in sorted(anat.glob("*"))) or "nothing"
            problems.append(
                Problem(anat / f"{prefix}{suffix}.nii.gz", f"missing {kind}. Expected: this file. Got: {others}")
            )
        elif len(own) > 1:
            names = ", ".join(path.name for path in own)
            problems.append(Problem(anat, f"two files for one case. Expected: one {kind}. Got: {names}"))
        found[suffix] = own[0] if len(own) == 1 else None
    if problems:
        return None, problems
    image = found[IMAGE_SUFFIX]
    assert image is not None  # no problem, so there is one
    return Session(site, subject, session, image, found.get(MASK_SUFFIX)), []


@dataclass(frozen=True)
class Metadata:
    """The metadata sheet.

    Attributes:
        path: the sheet; None where there is none.
        columns: names of the columns beside subject and session.
        rows: their cells, by subject and session; the session is "" in a sheet without that column.
    """

    path: Path | None
    columns: list[str]
    rows: dict[tuple[str, str], dict[str, str]]

    def of(self, session: Session) -> dict[str, str]:
        """The cells of a session, by column; empty ones for a session the sheet does not know."""
        subject = _bare(session.subject, "sub")
        row = self.rows.get((subject, _bare(session.session, "ses"))) or self.rows.get((subject, ""))
        return row or dict.fromkeys(self.columns, "")


def read_metadata(source: Path) -> tuple[Metadata, list[Problem]]:
    """Find and read the sheet ``*ATLAS*MetaData*.csv`` or ``.xlsx``, beside Training or in the source folder.

    Returns:
        The metadata, of no rows where there is no sheet, and the problems: a sheet that cannot be read, that has no
        column with the subjects, or that names a session twice.
    """
    folders = dict.fromkeys([source, *_roots(source)])
    sheets = [
        path
        for ending in ("csv", "xlsx")
        for folder in folders
        for path in sorted(folder.glob(f"*.{ending}"))
        if re.search("atlas.*metadata", path.name, re.IGNORECASE) and not path.name.startswith(("~", "."))
    ]
    if not sheets:
        return Metadata(None, [], {}), []
    path = sheets[0]
    try:
        header, *lines = _read_sheet(path)
    except (OSError, ValueError, ImportError, KeyError, BadZipFile) as error:
        return Metadata(path, [], {}), [Problem(path, f"cannot be read. Expected: a table with a header. Got: {error}")]
    keys = [re.sub("[^a-z]", "", name.lower()) for name in header]
    subject_at = next((keys.index(name) for name in _SUBJECT_COLUMNS if name in keys), None)
    session_at = next((keys.index(name) for name in _SESSION_COLUMNS if name in keys), None)
    if subject_at is None:
        what = f"no column with the subjects. Expected: one named Subject ID. Got: {', '.join(header)}"
        return Metadata(path, [], {}), [Problem(path, what)]
    columns = [name for at, name in enumerate(header) if at not in (subject_at, session_at)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    problems = []
    for line in lines:
        cells = line + [""] * (len(header) - len(line))
        subject = _bare(cells[subject_at], "sub")
        session = "" if session_at is None else _bare(cells[session_at], "ses")
        if not subject:
            continue
        if (subject, session) in rows:
            problems.append(Problem(path, f"two rows for one case. Expected: one. Got: {subject} {session}".rstrip()))
        rows[subject, session] = {
            name: cells[at] for at, name in enumerate(header) if at not in (subject_at, session_at)
        }
    return Metadata(path, columns, rows), problems


def _read_sheet(path: Path) -> Iterable[list[str]]:
    """The cells of a sheet, as text, header first; ValueError for an empty one."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    else:
        try:
            from openpyxl import load_workbook
        except ImportError as error:
            raise ImportError('an .xlsx, and no openpyxl: pip install "nnunet-ici[xlsx]"') from error
        rows = load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
        lines = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not lines:
        raise ValueError("an empty file")
    return lines


def _bare(identifier: str, prefix: str) -> str:
    """ "sub-r001s001", "R001S001" -> "r001s001"; "ses-1", "1", "1.0" -> "1"."""
    bare = identifier.strip().lower().removeprefix(prefix).lstrip("-_ ")
    return bare.removesuffix(".0")
