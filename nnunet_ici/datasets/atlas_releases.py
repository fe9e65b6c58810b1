"""Identification of the ATLAS release, and exclusion of sessions that were in parts of ATLAS 2.0."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnunet_ici.datasets.atlas import ATLAS_2, Found, Session, named_release
from nnunet_ici.datasets.atlas_metadata import Metadata

__all__ = ["exclude_atlas2", "release_of"]

# The values of ATLAS2_DATASET in R2.1, whose sessions all come from ATLAS 2.0.
_ATLAS_2_VALUES = {"training", "testing"}
_NO_VALUE = {"", "nan", "na", "n/a", "none"}


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


def _atlas2_column(metadata: Metadata) -> str | None:
    return next((name for name in metadata.columns if re.sub("[^a-z0-9]", "", name.lower()) == "atlas2dataset"), None)


def _atlas2_values(metadata: Metadata, sessions: Sequence[Session]) -> list[str]:
    """The value of ATLAS2_DATASET of each session; "" if it has none."""
    column = _atlas2_column(metadata)
    return [metadata.of(session)[column].strip() if column else "" for session in sessions]
