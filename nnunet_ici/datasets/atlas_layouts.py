"""How the releases of ATLAS are laid out, and which of them a folder is.

All of them are ``<folder>/<site>/sub-*/ses-*/anat/``; the folders and the files are named differently:

========================  =================================  ====================================================
layout                    folder                             releases
========================  =================================  ====================================================
``ATLAS_2``               ``Training``, ``Testing``          R2.0: MNI space, 655 sessions with masks, 300 without
``NATIVE``                ``Training_Raw``,                  R2.1: 955 sessions of 33 sites, all with masks;
                          ``ATLAS3_Training_Raw``            R3.0: 1,453 sessions of 55 sites, all with masks
``PREPROCESSED``          ``Training_Preprocessed``,         the sessions of ``NATIVE`` in MNI space, brains only,
                          ``ATLAS3_Training_Preprocessed``   intensities scaled
========================  =================================  ====================================================

R2.0 is known from its paper (Liew et al., Scientific Data 9:320, 2022) and its folder. R2.1 and R3.0 have no paper:
what stands here was gathered from the page of the challenge ISLES'26, whose training data R3.0 is, and from programs
that others published for them. That R2.1's preprocessed files are named like R3.0's is assumed. A folder in the layout
of R2.0 that says 2.1 in its name, or whose sheet does, is taken for R2.1 too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.datasets.atlas import Problem

__all__ = ["ATLAS_2", "ENDINGS", "LAYOUTS", "NATIVE", "PREPROCESSED", "Found", "Layout", "find_layout", "named_release"]

ENDINGS = (".nii.gz", ".nii")
# How far below the given folder the sites' folder may be: ATLAS_2's parent, ATLAS_2, Training.
DEPTH = 2


@dataclass(frozen=True)
class Layout:
    """Names of folders and files.

    Attributes:
        space: of the images, in words.
        folders: what the folders that hold the sites are called, the one with masks first.
        image: how the names of images end, after the case and before ``.nii.gz``.
        mask: the same of masks.
        releases: that come in this layout, the one it is taken for in doubt last.
        own_sheets: whether each session has a metadata sheet of its own.
        reader: nnU-Net's class that should read the images; None where any does. In native space the axes run
            differently from scan to scan, even in another order in some, and nnU-Net's default reader heeds only the
            spacing.
    """

    space: str
    folders: tuple[str, ...]
    image: str
    mask: str
    releases: tuple[str, ...]
    own_sheets: bool
    reader: str | None = None

    @property
    def example(self) -> str:
        """Where the image of a session is."""
        return f"{self.folders[0]}/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_{self.image}.nii.gz"

    def has_file(self, name: str) -> bool:
        """Whether a file of this name is an image or a mask of this layout."""
        return name.endswith(tuple(f"_{suffix}{end}" for suffix in (self.image, self.mask) for end in ENDINGS))


ATLAS_2 = Layout(
    space="MNI152NLin2009aSym",
    folders=("Training", "Testing"),
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
    releases=("R2.1", "R3.0"),
    own_sheets=True,
    reader="NibabelIOWithReorient",
)
PREPROCESSED = Layout(
    space="MNI152NLin2009aSym, preprocessed",
    folders=("Training_Preprocessed", "ATLAS3_Training_Preprocessed"),
    image="space-MNI152NLin2009aSym_desc-brainnorm_T1w",
    mask="space-MNI152NLin2009aSym_label-lesion_desc-T1lesion_mask",
    releases=("R2.1", "R3.0"),
    own_sheets=True,
)
LAYOUTS = (ATLAS_2, NATIVE, PREPROCESSED)


@dataclass(frozen=True)
class Found:
    """A folder that was recognised.

    Attributes:
        source: the folder that was given.
        folders: those that hold the sites, such as ``ATLAS_2/Training`` and ``ATLAS_2/Testing``, in this order.
        layout: how they are laid out.
        named: the release that the names of these folders, or of those above them, say; None where they say none.
    """

    source: Path
    folders: tuple[Path, ...]
    layout: Layout
    named: str | None


def find_layout(source: Path) -> tuple[Found | None, list[Problem]]:
    """Recognise a release by the names of its files, or, where none of them is known, of its folders.

    Args:
        source: the release's folder, the folder above it, or the one that holds the sites.

    Returns:
        What was found, and no problem; or None, and the problem: no release, or more than one.
    """
    folders = list(_with_sites(source, DEPTH)) if source.is_dir() else []
    kinds = {folder: _layouts_of(folder) for folder in folders}
    found = [(folder, layout) for folder, layouts in kinds.items() for layout in layouts]
    if not found:
        return None, [Problem(source, _nothing_found(source, folders))]
    layouts = {layout for _, layout in found}
    names = {
        name for folder, layout in found if (name := named_release(folder.resolve().parts[-2:])) in layout.releases
    }
    if len(layouts) > 1 or len(names) > 1:
        shown = ", ".join(f"{folder} ({layout.space}, as {_ways(layout)})" for folder, layout in found)
        return None, [Problem(source, f"more than one release. Expected: the folder of one of them. Got: {shown}")]
    layout = layouts.pop()
    known = {folder for folder, _ in found}
    with_masks_first = sorted(known, key=lambda folder: (folder.name != layout.folders[0], folder))
    return Found(source, tuple(with_masks_first), layout, names.pop() if names else None), []


def named_release(names: tuple[str, ...]) -> str | None:
    """The release that the names of folders or files say, None where they say nothing, or only ATLAS 2.

    >>> named_release(("ATLAS3_Training_Raw",)), named_release(("ATLAS_R2.1_raw", "Training_Raw"))
    ('R3.0', 'R2.1')
    >>> named_release(("ATLAS_2", "Training"))
    """
    text = "/".join(names)
    if re.search(r"atlas[ _-]*[rv]?3(?!\d)", text, re.IGNORECASE):
        return "R3.0"
    return "R2.1" if re.search(r"atlas[ _-]*[rv]?2[._]?1(?!\d)", text, re.IGNORECASE) else None


def _with_sites(folder: Path, depth: int) -> Iterator[Path]:
    """The folder if it holds sites with sessions, else those below it that do."""
    if next(folder.glob("*/sub-*/ses-*"), None) is not None:
        yield folder
    elif depth:
        for below in sorted(path for path in folder.glob("*") if path.is_dir()):
            yield from _with_sites(below, depth - 1)


def _layouts_of(folder: Path) -> list[Layout]:
    """The layouts that files below a folder are named after, or the one its own name says."""
    names = [path.name for path in folder.glob("*/sub-*/ses-*/anat/*")]
    by_files = [layout for layout in LAYOUTS if any(map(layout.has_file, names))]
    return by_files or [layout for layout in LAYOUTS if folder.name in layout.folders]


def _ways(layout: Layout) -> str:
    return " or ".join(sorted(layout.releases))


def _nothing_found(source: Path, folders: list[Path]) -> str:
    known = "; ".join(f"{layout.example} ({_ways(layout)})" for layout in LAYOUTS)
    if folders:
        got = f"sessions with files of other names, in {', '.join(map(str, folders))}"
    else:
        got = "none" if source.is_dir() else "no such folder"
    return f"no case at all, in it or up to {DEPTH} folders down. Expected: {known}. Got: {got}"
