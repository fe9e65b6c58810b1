"""The search for the sessions of a release by the names of their folders and files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from nnunet_ici.datasets.atlas import Problem, Session
from nnunet_ici.datasets.atlas_layouts import ENDINGS, Found, Layout
from nnunet_ici.images import visible

__all__ = ["find_sessions"]

WITHOUT_MASKS = "Testing"


def find_sessions(found: Found) -> tuple[list[Session], list[Problem]]:
    """Find all sessions of a release.

    Returns:
        The sessions without problems, sorted by case, and the problems: a missing image or mask, several files for one
        case, files named after another case.
    """
    sessions: list[Session] = []
    problems: list[Problem] = []
    for part in found.folders:
        for folder in visible(part, "*/sub-*/ses-*"):
            if folder.is_dir():
                session, wrong = _read_folder(folder, found.layout, part.name != WITHOUT_MASKS)
                problems += wrong
                sessions += [session] if session else []
    by_case: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_case[session.case].append(session)
    for case, twins in by_case.items():
        others = ", ".join(str(twin.image) for twin in twins[1:])
        if others:
            problems.append(Problem(twins[0].image, f"several images for {case}. Expected: one. Got: also {others}"))
    unique = [session for session in sessions if len(by_case[session.case]) == 1]
    return sorted(unique, key=lambda session: session.case), problems


def _read_folder(folder: Path, layout: Layout, has_mask: bool) -> tuple[Session | None, list[Problem]]:
    """The session in a ses-* folder, or None and the problems with its files."""
    site, subject, session = folder.parts[-3:]
    anat, prefix = folder / "anat", f"{subject}_{session}_"
    problems = []
    found: dict[str, Path | None] = {}
    for kind, suffix in (("image", layout.image), ("mask", layout.mask)) if has_mask else (("image", layout.image),):
        files = [path for end in ENDINGS for path in visible(anat, f"*_{suffix}{end}")]
        own = [path for path in files if path.name.startswith(prefix)]
        for path in files:
            if path not in own:
                what = f"named after another case. Expected: {prefix}{suffix}. Got: {path.name}"
                problems.append(Problem(path, what))
        if not own:
            others = ", ".join(path.name for path in visible(anat, "*")) or "nothing"
            problems.append(
                Problem(anat / f"{prefix}{suffix}.nii.gz", f"missing {kind}. Expected: this file. Got: {others}")
            )
        elif len(own) > 1:
            names = ", ".join(path.name for path in own)
            problems.append(Problem(anat, f"several files for one case. Expected: one {kind}. Got: {names}"))
        found[kind] = own[0] if len(own) == 1 else None
    image, mask = found["image"], found.get("mask")
    if problems or image is None:
        return None, problems
    masks = (path for end in ENDINGS for path in visible(anat, f"{prefix}*_mask{end}"))
    return Session(site, subject, session, image, mask, tuple(path for path in masks if path != mask)), []
