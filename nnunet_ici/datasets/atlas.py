"""The releases of ATLAS as folders: their layouts, the release in a given folder, and its sessions.

All releases use ``<folder>/<site>/sub-*/ses-*/anat/``, but the names of folders and files differ:

========================  =================================  ====================================================
layout                    folder                             releases
========================  =================================  ====================================================
``ATLAS_2``               ``Training``, ``Testing``          R2.0: MNI space, 655 sessions with masks, 300 without
``NATIVE``                ``Training_Raw``,                  R2.1: 955 sessions of 33 sites, all with masks;
                          ``ATLAS3_Training_Raw``            R3.0: 1,453 sessions of 55 sites, all with masks
``PREPROCESSED``          ``Training_Preprocessed``,         the sessions of ``NATIVE`` in MNI space, brains only,
                          ``ATLAS3_Training_Preprocessed``   intensities scaled
========================  =================================  ====================================================

R2.0 is described in its paper (Liew et al., Scientific Data 9:320, 2022). R2.1 and R3.0 have no paper. Their rows
follow the page of the ISLES'26 challenge, whose training data are R3.0, and published programs that read these
releases. That the preprocessed files of R2.1 are named like those of R3.0 is an assumption. A folder in the layout of
R2.0 is treated as R2.1 if its name, or the name of its metadata sheet, contains 2.1.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.images import visible

__all__ = ["ATLAS_2", "LAYOUTS", "NATIVE", "PREPROCESSED", "Found", "Layout", "Problem", "Session", "bare"]
__all__ += ["find_layout", "find_sessions", "named_release"]

ENDINGS = (".nii.gz", ".nii")
WITHOUT_MASKS = "Testing"
# Maximum number of levels from the given folder down to the one with the sites: parent of ATLAS_2, ATLAS_2, Training.
DEPTH = 2


@dataclass(frozen=True)
class Problem:
    """A problem with a file or folder: its path, and what was expected and found there."""

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


@dataclass(frozen=True)
class Layout:
    """The naming scheme of folders and files in a release.

    Attributes:
        space: image space, in words.
        folders: possible names of the folders that contain the sites, the one with masks first.
        image: suffix of image names, between the case and ``.nii.gz``.
        mask: suffix of mask names.
        releases: names of the releases with this layout; the last one is the default.
        own_sheets: whether each session has its own metadata sheet.
        reader: class name of the nnU-Net reader for the images; None if any reader will do. In native space the order
            and direction of the axes differ between scans, but nnU-Net's default reader considers only the spacing.
    """

    space: str
    folders: tuple[str, ...]
    image: str
    mask: str
    releases: tuple[str, ...] = ("R2.1", "R3.0")
    own_sheets: bool = True
    reader: str | None = None

    @property
    def example(self) -> str:
        """The path of an example image."""
        return f"{self.folders[0]}/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_{self.image}.nii.gz"

    @property
    def ways(self) -> str:
        """The releases with this layout, in words."""
        return " or ".join(sorted(self.releases))


ATLAS_2 = Layout(
    space="MNI152NLin2009aSym",
    folders=("Training", WITHOUT_MASKS),
    image="space-MNI152NLin2009aSym_T1w",
    mask="space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask",
    releases=("R2.1", "R2.0"),
    own_sheets=False,
)
NATIVE = Layout(
    space="native space",
    folders=("Training_Raw", "ATLAS3_Training_Raw"),
    image="space-orig_desc-brain_T1w",
    mask="space-orig_label-lesion_desc-T1lesion_mask",
    reader="NibabelIOWithReorient",
)
PREPROCESSED = Layout(
    space="MNI152NLin2009aSym, preprocessed",
    folders=("Training_Preprocessed", "ATLAS3_Training_Preprocessed"),
    image="space-MNI152NLin2009aSym_desc-brainnorm_T1w",
    mask="space-MNI152NLin2009aSym_label-lesion_desc-T1lesion_mask",
)
LAYOUTS = (ATLAS_2, NATIVE, PREPROCESSED)


@dataclass(frozen=True)
class Found:
    """A release found in a folder.

    Attributes:
        source: path of the given folder.
        folders: paths of the folders that contain the sites, such as ``ATLAS_2/Training`` and ``ATLAS_2/Testing``;
            training data first.
        layout: layout of these folders.
        named: release named by these folders or the folders above them; None if they name none.
    """

    source: Path
    folders: tuple[Path, ...]
    layout: Layout
    named: str | None


def find_layout(source: Path) -> tuple[Found | None, list[Problem]]:
    """Identify a release by the names of its files or, failing that, its folders.

    Args:
        source: folder of the release, the folder above it, or the folder that contains the sites.

    Returns:
        The release and an empty list, or None and a list with the problem: no release, or more than one.
    """
    folders = list(_with_sites(source, DEPTH)) if source.is_dir() else []
    found = [(folder, layout) for folder in folders for layout in _layouts_of(folder)]
    if not found:
        known = "; ".join(f"{layout.example} ({layout.ways})" for layout in LAYOUTS)
        got = "none" if source.is_dir() else "no such folder"
        if folders:
            got = f"sessions with other file names, in {', '.join(map(str, folders))}"
        what = f"no case in this folder or up to {DEPTH} levels below it. Expected: {known}. Got: {got}"
        return None, [Problem(source, what)]
    layouts = {layout for _, layout in found}
    names = {
        name for folder, layout in found if (name := named_release(*folder.resolve().parts[-2:])) in layout.releases
    }
    if len(layouts) > 1 or len(names) > 1:
        shown = ", ".join(f"{folder} ({layout.space}, as {layout.ways})" for folder, layout in found)
        return None, [Problem(source, f"more than one release. Expected: the folder of one of them. Got: {shown}")]
    layout = layouts.pop()
    with_masks_first = sorted({folder for folder, _ in found}, key=lambda one: (one.name != layout.folders[0], one))
    return Found(source, tuple(with_masks_first), layout, names.pop() if names else None), []


def find_sessions(found: Found) -> tuple[list[Session], list[Problem]]:
    """Find all sessions of a release.

    Returns:
        The sessions without problems, sorted by case, and the problems: a missing image or mask, several files for one
        case, files named after another case.
    """
    by_case: dict[str, list[Session]] = defaultdict(list)
    problems: list[Problem] = []
    for part in found.folders:
        for folder in visible(part, "*/sub-*/ses-*"):
            if folder.is_dir():
                session = _read_session(folder, found.layout, part.name != WITHOUT_MASKS, problems)
                if session is not None:
                    by_case[session.case].append(session)
    for case, (first, *others) in by_case.items():
        if others:
            also = ", ".join(str(twin.image) for twin in others)
            problems.append(Problem(first.image, f"several images for {case}. Expected: one. Got: also {also}"))
    return [twins[0] for _, twins in sorted(by_case.items()) if len(twins) == 1], problems


def named_release(*names: str) -> str | None:
    """The release named by folders or files; None if they name none, or only ATLAS 2.

    >>> named_release("ATLAS3_Training_Raw"), named_release("ATLAS_R2.1_raw", "Training_Raw")
    ('R3.0', 'R2.1')
    >>> named_release("ATLAS_2", "Training")
    """
    text = "/".join(names)
    if re.search(r"atlas[ _-]*[rv]?3(?!\d)", text, re.IGNORECASE):
        return "R3.0"
    return "R2.1" if re.search(r"atlas[ _-]*[rv]?2[._]?1(?!\d)", text, re.IGNORECASE) else None


def bare(identifier: str, prefix: str) -> str:
    """Normalize the name of a subject or session, which folders and metadata sheets write differently.

    The prefix and a trailing ".0" are removed, and the rest is converted to lower case.

    >>> bare("sub-r001s001", "sub"), bare("R001S001 ", "sub"), bare("ses-1", "ses"), bare("1.0", "ses")
    ('r001s001', 'r001s001', '1', '1')
    """
    return identifier.strip().lower().removeprefix(prefix).lstrip("-_ ").removesuffix(".0")


def _with_sites(folder: Path, depth: int) -> Iterator[Path]:
    """The folder itself if it contains sites with sessions, otherwise the subfolders that do."""
    if visible(folder, "*/sub-*/ses-*"):
        yield folder
    elif depth:
        for below in visible(folder, "*"):
            if below.is_dir():
                yield from _with_sites(below, depth - 1)


def _layouts_of(folder: Path) -> list[Layout]:
    """The layouts that match the file names below a folder or, failing that, the folder's own name."""
    names = [path.name for path in visible(folder, "*/sub-*/ses-*/anat/*")]
    by_files = []
    for layout in LAYOUTS:
        ends = tuple(f"_{suffix}{end}" for suffix in (layout.image, layout.mask) for end in ENDINGS)
        if any(name.endswith(ends) for name in names):
            by_files.append(layout)
    return by_files or [layout for layout in LAYOUTS if folder.name in layout.folders]


def _read_session(folder: Path, layout: Layout, has_mask: bool, problems: list[Problem]) -> Session | None:
    """The session in a ses-* folder; None, and the problems with its files, if it is not usable."""
    site, subject, session = folder.parts[-3:]
    anat, prefix, before = folder / "anat", f"{subject}_{session}_", len(problems)
    found: list[Path] = []
    for kind, suffix in (("image", layout.image), ("mask", layout.mask))[: 1 + has_mask]:
        files = [path for end in ENDINGS for path in visible(anat, f"*_{suffix}{end}")]
        own = [path for path in files if path.name.startswith(prefix)]
        for path in files:
            if path not in own:
                what = f"named after another case. Expected: {prefix}{suffix}. Got: {path.name}"
                problems.append(Problem(path, what))
        if not own:
            others = ", ".join(path.name for path in visible(anat, "*")) or "nothing"
            what = f"missing {kind}. Expected: this file. Got: {others}"
            problems.append(Problem(anat / f"{prefix}{suffix}.nii.gz", what))
        elif len(own) > 1:
            names = ", ".join(path.name for path in own)
            problems.append(Problem(anat, f"several files for one case. Expected: one {kind}. Got: {names}"))
        found += own[:1]
    if len(problems) > before:
        return None
    image, mask = (*found, None)[:2]
    assert image is not None
    masks = (path for end in ENDINGS for path in visible(anat, f"{prefix}*_mask{end}"))
    return Session(site, subject, session, image, mask, tuple(path for path in masks if path != mask))
