"""How the releases of ATLAS are laid out, and which release a folder holds.

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

R2.0 is described in its paper (Liew et al., Scientific Data 9:320, 2022). R2.1 and R3.0 have no paper: the table
follows the page of the challenge ISLES'26, whose training data are R3.0, and programs that others published for them.
It is an assumption that R2.1's preprocessed files are named like R3.0's. A folder in the layout of R2.0 is taken for
R2.1 where its name, or its sheet's name, says 2.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.datasets.atlas import Problem
from nnunet_ici.images import visible

__all__ = ["ATLAS_2", "ENDINGS", "LAYOUTS", "NATIVE", "PREPROCESSED", "Found", "Layout", "find_layout", "named_release"]

ENDINGS = (".nii.gz", ".nii")
# Levels between the given folder and the one with the sites: ATLAS_2's parent, ATLAS_2, Training.
DEPTH = 2


@dataclass(frozen=True)
class Layout:
    """Names of folders and files.

    Attributes:
        space: the space of the images, in words.
        folders: names of the folders that hold the sites, the one with masks first.
        image: end of the images' names, between the case and ``.nii.gz``.
        mask: end of the masks' names.
        releases: the releases with this layout; in doubt, the last one.
        own_sheets: whether each session has a metadata sheet of its own.
        reader: the class of nnU-Net that should read the images; None where any can. In native space the order and
            direction of the axes differ between scans, and nnU-Net's default reader only heeds the spacing.
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
        source: the given folder.
        folders: the folders that hold the sites, such as ``ATLAS_2/Training`` and ``ATLAS_2/Testing``, in this order.
        layout: their layout.
        named: the release that their names, or those of the folders above them, say; None where they say none.
    """

    source: Path
    folders: tuple[Path, ...]
    layout: Layout
    named: str | None


def find_layout(source: Path) -> tuple[Found | None, list[Problem]]:
    """Recognise a release by the names of its files, or else by those of its folders.

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
    """The release that names of folders or files say; None where they say nothing, or only ATLAS 2.

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
    if visible(folder, "*/sub-*/ses-*"):
        yield folder
    elif depth:
        for below in visible(folder, "*"):
            if below.is_dir():
                yield from _with_sites(below, depth - 1)


def _layouts_of(folder: Path) -> list[Layout]:
    """The layouts whose names the files below a folder have, or else the one that its own name says."""
    names = [path.name for path in visible(folder, "*/sub-*/ses-*/anat/*")]
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
    return f"no case, in it or up to {DEPTH} folders down. Expected: {known}. Got: {got}"
