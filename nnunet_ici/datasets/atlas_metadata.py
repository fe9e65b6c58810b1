"""The metadata of ATLAS sessions, read from the sheets of a release.

R2.0 has one joint sheet for all sessions, ``20220425_ATLAS_2.0_MetaData.xlsx``, beside Training. In R2.1 and R3.0 each
session has its own sheet ``sub-*_ses-*_metadata.csv`` beside its image, with a header and one row. Its columns are
SESSION_ID (``sub-r001s001_ses-1``), ATLAS2_DATASET, DAYS_POST_STROKE (a decimal number), CHRONICITY and SITE. Their
order differs between sites, many cells are empty, and two of the 1,453 sheets have no row. This format is undocumented
and was inferred from published programs that read these sheets.

The reader makes further assumptions:

- A session's own sheet may also be in its ses-* folder. If its SESSION_ID is only ``ses-1`` or ``1``, the folder gives
  the subject.
- R2.1 and R3.0 may also have a joint sheet, with ``metadata`` in its name. It may be in the folder that contains the
  sites, beside that folder, or in the given folder. Its rows name the subject in SESSION_ID or in another column.
- If both sheets have a row for a session, the row in its own sheet is used.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

from nnunet_ici.datasets.atlas import Problem, Session, bare
from nnunet_ici.datasets.atlas_layouts import ATLAS_2, Found
from nnunet_ici.images import visible

__all__ = ["Metadata", "key_of", "read_metadata"]

_SUBJECT_COLUMNS = ("subjectid", "subject", "sub", "participantid", "bidsid")
_SESSION_COLUMNS = ("sessionid", "session", "ses")
_CASE = re.compile(r"(sub-[^_]+)_(ses-[^_]+)", re.IGNORECASE)

Key = tuple[str, str]


@dataclass(frozen=True)
class Metadata:
    """The metadata of all sessions.

    Attributes:
        path: path of the joint sheet; None if there is none.
        own_sheets: number of sessions with a sheet of their own.
        columns: names of all columns except those that identify subject and session.
        rows: cells by column, for each subject and session (:func:`key_of`); the session is "" if the sheet does not
            have that column.
        absent: names of the sessions in the joint sheet that have no folder.
    """

    path: Path | None = None
    own_sheets: int = 0
    columns: list[str] = field(default_factory=list)
    rows: dict[Key, dict[str, str]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def of(self, session: Session) -> dict[str, str]:
        """The cells of a session by column; "" if no sheet has a value."""
        subject, number = key_of(session)
        row = self.rows.get((subject, number)) or self.rows.get((subject, "")) or {}
        return {column: row.get(column, "") for column in self.columns}


def key_of(session: Session) -> Key:
    """The normalized subject and session that identify the row of a session."""
    return bare(session.subject, "sub"), bare(session.session, "ses")


def read_metadata(found: Found, sessions: Sequence[Session]) -> tuple[Metadata, list[Problem]]:
    """Find and read the joint sheet and the sessions' own sheets, ``.csv`` or ``.xlsx``.

    Args:
        found: the release.
        sessions: sessions whose own sheets to read.

    Returns:
        The metadata, without rows if there is no sheet, and the problems: a sheet that cannot be read, lacks the column
        of the subjects (in a session's own sheet: of the session), or names a session twice; a session with two own
        sheets, or with an own sheet that names another session.
    """
    columns: dict[str, None] = {}
    rows: dict[Key, dict[str, str]] = {}
    problems: list[Problem] = []
    absent: list[str] = []
    path = _joint_sheet(found)
    if path is not None:
        sheet = _read(path, problems)
        if sheet is not None:
            columns |= dict.fromkeys(sheet.columns)
            rows |= _joint_rows(sheet, problems)
            absent = _absent(rows, found)
    own = 0
    for session in sessions if found.layout.own_sheets else ():
        files = _own_sheets(session)
        if len(files) > 1:
            names = ", ".join(str(file) for file in files)
            problems.append(Problem(files[0], f"several sheets for {session.case}. Expected: one. Got: {names}"))
        elif files:
            own += 1
            sheet = _read(files[0], problems)
            if sheet is not None:
                columns |= dict.fromkeys(sheet.columns)
                rows |= _own_row(sheet, session, problems)
    return Metadata(path, own, list(columns), rows, absent), problems


@dataclass(frozen=True)
class _Sheet:
    path: Path
    header: list[str]
    lines: list[list[str]]

    def at(self, names: Sequence[str]) -> int | None:
        """Index of the first of these columns in the sheet, ignoring case and punctuation; None without one."""
        keys = [re.sub("[^a-z]", "", name.lower()) for name in self.header]
        return next((keys.index(name) for name in names if name in keys), None)

    @property
    def columns(self) -> list[str]:
        return [name for at, name in enumerate(self.header) if at not in self._keys()]

    def cells(self, line: list[str]) -> dict[str, str]:
        cells = dict(zip(self.header, line, strict=False))
        return {column: cells.get(column, "") for column in self.columns}

    def key(self, line: list[str]) -> Key:
        """Subject and session of a line; "" for a missing one."""
        subject, session = ("" if at is None or at >= len(line) else line[at].strip() for at in self._keys())
        if both := _CASE.fullmatch(session):
            subject, session = both.groups()
        return bare(subject, "sub"), bare(session, "ses")

    def _keys(self) -> tuple[int | None, int | None]:
        return self.at(_SUBJECT_COLUMNS), self.at(_SESSION_COLUMNS)


def _joint_sheet(found: Found) -> Path | None:
    """The path of the joint sheet; .csv takes precedence over .xlsx."""
    beside = [folder.parent for folder in found.folders]
    folders = [found.source, *beside] if found.layout is ATLAS_2 else [*found.folders, *beside, found.source]
    pattern = "atlas.*metadata" if found.layout is ATLAS_2 else "metadata"
    for ending in ("csv", "xlsx"):
        for folder in dict.fromkeys(folders):
            for path in visible(folder, f"*.{ending}"):
                if re.search(pattern, path.name, re.IGNORECASE) and not path.name.startswith("~"):
                    return path
    return None


def _own_sheets(session: Session) -> list[Path]:
    anat = session.image.parent
    files = [path for folder in (anat, anat.parent) for path in visible(folder, "*metadata*")]
    return [path for path in files if path.suffix in (".csv", ".xlsx") and not path.name.startswith("~")]


def _joint_rows(sheet: _Sheet, problems: list[Problem]) -> dict[Key, dict[str, str]]:
    rows: dict[Key, dict[str, str]] = {}
    if sheet.at(_SUBJECT_COLUMNS) is None and sheet.at(_SESSION_COLUMNS) is None:
        what = "no subject column. Expected: one named Subject ID or SESSION_ID. Got: "
        problems.append(Problem(sheet.path, what + ", ".join(sheet.header)))
        return rows
    for line in sheet.lines:
        subject, session = key = sheet.key(line)
        if session and not subject:
            what = "a row without a subject. Expected: sub-r001s001_ses-1, or a column Subject ID. Got: "
            problems.append(Problem(sheet.path, what + ", ".join(line)))
        if not subject:
            continue
        if key in rows:
            what = f"two rows for the same case. Expected: one. Got: {subject} {session}".rstrip()
            problems.append(Problem(sheet.path, what))
        rows[key] = sheet.cells(line)
    return rows


def _own_row(sheet: _Sheet, session: Session, problems: list[Problem]) -> dict[Key, dict[str, str]]:
    """The row in a session's own sheet, by its key; empty if the sheet has only a header."""
    if sheet.at(_SESSION_COLUMNS) is None:
        what = f"no session column. Expected: one named SESSION_ID. Got: {', '.join(sheet.header)}"
        problems.append(Problem(sheet.path, what))
        return {}
    lines = [line for line in sheet.lines if any(cell.strip() for cell in line)]
    if len(lines) > 1:
        problems.append(Problem(sheet.path, f"several rows for {session.case}. Expected: one. Got: {len(lines)}"))
        return {}
    for line in lines:
        subject, number = sheet.key(line)
        own = key_of(session)
        if (subject or own[0], number or own[1]) != own:
            got = "_".join(cell for cell in (subject, number) if cell)
            problems.append(Problem(sheet.path, f"a row of another case. Expected: {session.case}. Got: {got}"))
            return {}
    return {key_of(session): sheet.cells(line) for line in lines}


def _absent(rows: dict[Key, dict[str, str]], found: Found) -> list[str]:
    folders = [folder for part in found.folders for folder in visible(part, "*/sub-*/ses-*")]
    there = {(bare(folder.parent.name, "sub"), bare(folder.name, "ses")) for folder in folders}
    there |= {(subject, "") for subject, _ in there}
    keys = sorted(rows.keys() - there)
    return [f"sub-{subject}_ses-{session}" if session else f"sub-{subject}" for subject, session in keys]


def _read(path: Path, problems: list[Problem]) -> _Sheet | None:
    try:
        lines = _read_cells(path)
    except (OSError, ValueError, ImportError, KeyError, BadZipFile, csv.Error) as error:
        problems.append(Problem(path, f"cannot be read. Expected: a table with a header. Got: {error}"))
        return None
    return _Sheet(path, [name.strip() for name in lines[0]], lines[1:])


def _read_cells(path: Path) -> list[list[str]]:
    """The cells of a sheet as text, header first; ValueError for an empty sheet."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    else:
        try:
            from openpyxl import load_workbook
        except ImportError as error:
            raise ImportError('an .xlsx without openpyxl: pip install "nnunet-ici[xlsx]"') from error
        rows = load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
        lines = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not lines:
        raise ValueError("an empty file")
    return lines
