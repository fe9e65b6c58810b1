"""The metadata of ATLAS sessions, read from the sheets of a release, and what follows from them.

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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

from nnunet_ici.datasets.atlas import ATLAS_2, Found, Problem, Session, bare, named_release
from nnunet_ici.images import visible

__all__ = ["Metadata", "exclude_atlas2", "key_of", "read_metadata", "release_of"]

_SUBJECT_COLUMNS = ("subjectid", "subject", "sub", "participantid", "bidsid")
_SESSION_COLUMNS = ("sessionid", "session", "ses")
# The values of ATLAS2_DATASET in R2.1, whose sessions all come from ATLAS 2.0.
_ATLAS_2_VALUES = {"training", "testing"}
_NO_VALUE = {"", "nan", "na", "n/a", "none"}
_CASE = re.compile(r"(sub-[^_]+)_(ses-[^_]+)", re.IGNORECASE)

Key = tuple[str, str]


@dataclass
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
    metadata = Metadata(path=_joint_sheet(found))
    problems: list[Problem] = []
    if metadata.path is not None:
        _add(metadata, metadata.path, None, problems)
        metadata.absent = _absent(metadata.rows, found)
    for session in sessions if found.layout.own_sheets else ():
        anat = session.image.parent
        files = [*_sheets(anat, "metadata"), *_sheets(anat.parent, "metadata")]
        if len(files) > 1:
            names = ", ".join(map(str, files))
            problems.append(Problem(files[0], f"several sheets for {session.case}. Expected: one. Got: {names}"))
        elif files:
            metadata.own_sheets += 1
            _add(metadata, files[0], session, problems)
    return metadata, problems


def release_of(found: Found, metadata: Metadata, sessions: Sequence[Session]) -> str:
    """Identify the release by name, such as "R2.0".

    The names of the folders take precedence. If they name no release, the layout of R2.0 means R2.0, or R2.1 if the
    name of the joint sheet contains 2.1. The other layouts mean R2.1 if ATLAS2_DATASET is Training or Testing for every
    session, because all sessions of R2.1 come from ATLAS 2.0, and R3.0 otherwise. This is a guess, and can be wrong for
    a subset of R3.0. Only the description in dataset.json depends on it.
    """
    *others, name = found.layout.releases
    named = found.named
    if named is None and found.layout is ATLAS_2 and metadata.path is not None:
        named = named_release(metadata.path.name)
    elif named is None and found.layout is not ATLAS_2:
        values = {value.lower() for value in _atlas2_values(metadata, sessions)}
        named = "R2.1" if values and values <= _ATLAS_2_VALUES else None
    return named if named in others else name


def exclude_atlas2(
    sessions: Sequence[Session], metadata: Metadata, wanted: Sequence[str]
) -> tuple[list[Session], dict[str, str]]:
    """Exclude the sessions that were in a part of ATLAS 2.0, such as its hidden test set.

    Args:
        sessions: all sessions.
        metadata: metadata with the column ATLAS2_DATASET; sessions without a value are kept.
        wanted: values to exclude, or unambiguous beginnings of values, such as "test" for "Testing"; case is ignored.

    Returns:
        The sessions to keep, and the value of each excluded session, by case.

    Raises:
        ValueError: if there is no such column, or a value matches none of its values, or several; the message lists
            what there is.
    """
    if not wanted:
        return list(sessions), {}
    if _atlas2_column(metadata) is None:
        got = ", ".join(metadata.columns) or "no metadata"
        raise ValueError(f"no column ATLAS2_DATASET. Expected: one in the metadata, as in R3.0. Got: {got}")
    values = dict(zip(sessions, _atlas2_values(metadata, sessions), strict=True))
    known = sorted({value for value in values.values() if value.lower() not in _NO_VALUE})
    out = set()
    for want in wanted:
        start = want.strip().lower()
        matches = {value.lower() for value in known if start and value.lower().startswith(start)}
        matches = matches & {start} or matches
        if len(matches) != 1:
            expected = ", ".join(known) or "none, because no session has a value"
            raise ValueError(f"no such value of ATLAS2_DATASET. Expected: {expected}. Got: {want}")
        out |= matches
    left = [session for session, value in values.items() if value.lower() not in out]
    return left, {session.case: value for session, value in values.items() if value.lower() in out}


def _sheets(folder: Path, pattern: str) -> list[Path]:
    """The sheets in a folder whose name matches a pattern; .csv first."""
    files = [*visible(folder, "*.csv"), *visible(folder, "*.xlsx")]
    return [path for path in files if re.search(pattern, path.name, re.IGNORECASE) and not path.name.startswith("~")]


def _joint_sheet(found: Found) -> Path | None:
    """The path of the joint sheet; .csv takes precedence over .xlsx."""
    beside = [folder.parent for folder in found.folders]
    folders = [found.source, *beside] if found.layout is ATLAS_2 else [*found.folders, *beside, found.source]
    pattern = "atlas.*metadata" if found.layout is ATLAS_2 else "metadata"
    paths = [path for folder in dict.fromkeys(folders) for path in _sheets(folder, pattern)]
    return min(paths, key=lambda path: path.suffix, default=None)  # the first of equal ones


def _add(metadata: Metadata, path: Path, session: Session | None, problems: list[Problem]) -> None:
    """Add the rows of the joint sheet, or of a session's own sheet, to the metadata, or else the problems with it."""
    try:
        table = _read(path)
    except (OSError, ValueError, ImportError, KeyError, BadZipFile) as error:
        problems.append(Problem(path, f"cannot be read. Expected: a table with a header. Got: {error}"))
        return
    of_key = {re.sub("[^a-z]", "", name.lower()): name for name in reversed(table.columns)}
    subjects, numbers = (
        next((of_key[key] for key in keys if key in of_key), None) for keys in (_SUBJECT_COLUMNS, _SESSION_COLUMNS)
    )
    if numbers is None and (session is not None or subjects is None):
        expected = "subject column. Expected: one named Subject ID or SESSION_ID"
        if session is not None:
            expected = "session column. Expected: one named SESSION_ID"
        problems.append(Problem(path, f"no {expected}. Got: {', '.join(table.columns)}"))
        return
    columns = [name for name in table.columns if name not in (subjects, numbers)]
    metadata.columns = list(dict.fromkeys([*metadata.columns, *columns]))
    if session is not None and len(table) > 1:
        problems.append(Problem(path, f"several rows for {session.case}. Expected: one. Got: {len(table)}"))
        return
    rows: dict[Key, dict[str, str]] = {}
    for line in table.to_dict("records"):
        subject, number = key = _key(line.get(subjects, ""), line.get(numbers, ""))
        what = ""
        if session is not None:
            own = key_of(session)
            if (subject or own[0], number or own[1]) != own:
                got = "_".join(cell for cell in key if cell)
                what = f"a row of another case. Expected: {session.case}. Got: {got}"
            key = own
        elif number and not subject:
            got = ", ".join(line.values())
            what = f"a row without a subject. Expected: sub-r001s001_ses-1, or a column Subject ID. Got: {got}"
        elif key in rows:
            what = f"two rows for the same case. Expected: one. Got: {subject} {number}".rstrip()
        if what:
            problems.append(Problem(path, what))
        elif key[0]:
            rows[key] = {column: line[column] for column in columns}
    metadata.rows |= rows


def _read(path: Path) -> pd.DataFrame:
    """A sheet as text, without empty lines; ValueError for an empty file."""
    options = {"dtype": str, "keep_default_na": False}
    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, encoding="utf-8-sig", index_col=False, **options)
        else:
            table = pd.read_excel(path, **options)
    except ImportError as error:
        raise ImportError('an .xlsx without openpyxl: pip install "nnunet-ici[xlsx]"') from error
    except pd.errors.EmptyDataError as error:
        raise ValueError("an empty file") from error
    table = table.fillna("").rename(columns=str.strip)
    return table[(table != "").any(axis=1)]


def _key(subject: str, session: str) -> Key:
    """Normalized subject and session of a row; "" for a missing one."""
    if both := _CASE.fullmatch(session.strip()):
        subject, session = both.groups()
    return bare(subject, "sub"), bare(session, "ses")


def _absent(rows: Mapping[Key, object], found: Found) -> list[str]:
    folders = [folder for part in found.folders for folder in visible(part, "*/sub-*/ses-*")]
    there = {(bare(folder.parent.name, "sub"), bare(folder.name, "ses")) for folder in folders}
    there |= {(subject, "") for subject, _ in there}
    keys = sorted(rows.keys() - there)
    return [f"sub-{subject}_ses-{session}" if session else f"sub-{subject}" for subject, session in keys]


def _atlas2_column(metadata: Metadata) -> str | None:
    return next((name for name in metadata.columns if re.sub("[^a-z0-9]", "", name.lower()) == "atlas2dataset"), None)


def _atlas2_values(metadata: Metadata, sessions: Sequence[Session]) -> list[str]:
    """The value of ATLAS2_DATASET of each session; "" if it has none."""
    column = _atlas2_column(metadata)
    return [metadata.of(session)[column].strip() if column else "" for session in sessions]
