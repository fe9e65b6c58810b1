"""The layouts of the ATLAS releases, and the detection of the release in a folder.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_ici.datasets.atlas import Problem
from nnunet_ici.images import visible

__all__ = ["ATLAS_2", "ENDINGS", "LAYOUTS", "NATIVE", "PREPROCESSED", "Found", "Layout", "find_layout", "named_release"]

ENDINGS = (".nii.gz", ".nii")
# Maximum number of levels from the given folder down to the one with the sites: parent of ATLAS_2, ATLAS_2, Training.
DEPTH = 2


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
    releases: tuple[str, ...]
    own_sheets: bool
    reader: str | None = None

    @property
    def example(self) -> str:
        """The path of an example image."""
        return f"{self.folders[0]}/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_{self.image}.nii.gz"

    def has_file(self, name: str) -> bool:
        """Whether the name is that of an image or a mask in this layout."""
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
    """The release named by folders or files; None if they name none, or only ATLAS 2.

    >>> named_release(("ATLAS3_Training_Raw",)), named_release(("ATLAS_R2.1_raw", "Training_Raw"))
    ('R3.0', 'R2.1')
    >>> named_release(("ATLAS_2", "Training"))
    """
    text = "/".join(names)
    if re.search(r"atlas[ _-]*[rv]?3(?!\d)", text, re.IGNORECASE):
        return "R3.0"
    return "R2.1" if re.search(r"atlas[ _-]*[rv]?2[._]?1(?!\d)", text, re.IGNORECASE) else None


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
    by_files = [layout for layout in LAYOUTS if any(map(layout.has_file, names))]
    return by_files or [layout for layout in LAYOUTS if folder.name in layout.folders]


def _ways(layout: Layout) -> str:
    return " or ".join(sorted(layout.releases))


def _nothing_found(source: Path, folders: list[Path]) -> str:
    known = "; ".join(f"{layout.example} ({_ways(layout)})" for layout in LAYOUTS)
    if folders:
        got = f"sessions with other file names, in {', '.join(map(str, folders))}"
    else:
        got = "none" if source.is_dir() else "no such folder"
    return f"no case in this folder or up to {DEPTH} levels below it. Expected: {known}. Got: {got}"
