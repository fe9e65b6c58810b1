"""Small trees in the layouts of ATLAS R2.0 and R3.0, and their conversion."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.datasets.atlas import ATLAS_2, NATIVE, find_layout, find_sessions
from nnunet_ici.datasets.atlas_metadata import read_metadata
from nnunet_ici.datasets.atlas_to_raw import BadInputError, convert_atlas

SHAPE = (10, 9, 8)
SHEET = "20220425_ATLAS_2.0_MetaData.csv"


class Tree:
    """A folder ATLAS_2 to which files are added; with another folder, one of R3.0, each subject on its own grid."""

    def __init__(self, root: Path, folder: str = "ATLAS_2"):
        self.root = root / folder
        self.layout = ATLAS_2 if folder == "ATLAS_2" else NATIVE
        self.rng = np.random.default_rng(0)

    def paths(self, subject, session=1, part="Training"):
        site = "SOOP" if subject.startswith("soop") else subject[:4].upper()
        sites = self.root / part if self.layout is ATLAS_2 else self.root
        name = sites / site / f"sub-{subject}" / f"ses-{session}" / "anat" / f"sub-{subject}_ses-{session}_"
        return tuple(Path(f"{name}{suffix}.nii.gz") for suffix in (self.layout.image, self.layout.mask))

    def sheet(self, subject, session=1):
        return self.paths(subject, session)[0].with_name(f"sub-{subject}_ses-{session}_metadata.csv")

    def add(self, subject, session=1, part="Training", mask_dtype=np.uint8, dataset="Training", days="812.5"):
        """Add a session; its sheet without ``days`` has no chronicity either."""
        image, mask = self.paths(subject, session, part)
        image.parent.mkdir(parents=True)
        shape, geometry = SHAPE, {}
        if self.layout is NATIVE:
            shape = tuple(int(n) for n in self.rng.integers(8, 14, 3))
            geometry = {"spacing": tuple(self.rng.uniform(0.5, 2, 3)), "origin": tuple(self.rng.uniform(-90, 90, 3))}
            site = image.relative_to(self.root).parts[0]
            cells = {"SESSION_ID": f"sub-{subject}_ses-{session}", "ATLAS2_DATASET": dataset}
            if site == "SOOP":  # the columns are in another order there
                cells = dict(reversed(cells.items()))
            cells |= {"DAYS_POST_STROKE": days, "CHRONICITY": "1" if days else "", "SITE": site}
            self.sheet(subject, session).write_text(",".join(cells) + "\n" + ",".join(cells.values()) + "\n")
        self.write(image, self.rng.normal(100, 9, shape).astype(np.float32), **geometry)
        if part == "Training":
            array = np.zeros(shape, mask_dtype)
            array[2:4, 2:4, 2:4] = array[7, 7, 7] = 1
            self.write(mask, array, **geometry)
        return image, mask

    def write(self, path, array, origin=(98.0, 134.0, -72.0), spacing=(1.0, 1.0, 1.0)):
        image = sitk.GetImageFromArray(array)
        image.SetOrigin(origin)
        image.SetSpacing(spacing)
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(path))


@pytest.fixture
def native(tmp_path):
    """Seven subjects of six sites; two in ATLAS 2.0's test set, two new, one with two sessions."""
    tree = Tree(tmp_path, "ATLAS3_Training_Raw")
    for subject in ("r001s001", "r002s001", "r009s003"):
        tree.add(subject)
    for subject in ("r001s002", "r010s001"):
        tree.add(subject, dataset="Testing")
    tree.add("r009s003", session=2)
    tree.add("r071s001", dataset="", days="")
    tree.add("soop0003", dataset="", days="3.0")
    return tree


@pytest.fixture
def tree(tmp_path):
    """Four training subjects, one of them with two sessions, and a test subject."""
    tree = Tree(tmp_path)
    for subject in ("r001s001", "r001s002", "r002s001", "r009s003"):
        tree.add(subject)
    tree.add("r001s002", session=2)
    tree.add("r031s001", part="Testing")
    (tree.root / SHEET).write_text(
        "Subject ID,Session,Chronicity\nsub-r001s001,ses-1,chronic\nr001s002,1,acute\nR001S002,2.0,chronic\n"
    )
    return tree


@pytest.fixture
def raw(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "nnUNet_raw"


def convert(tree, raw, **options):
    return convert_atlas(tree.root, raw, processes=1, **options)


def problems_of(tree, raw, **options):
    """The messages of a refused conversion, which must have left nothing behind."""
    with pytest.raises(BadInputError) as caught:
        convert(tree, raw, **options)
    assert os.listdir(raw) == []
    return {problem.path: problem.what for problem in caught.value.problems}


def sessions_of(source):
    """Sessions, metadata and all problems of a source that is recognized."""
    found, problems = find_layout(source)
    assert found is not None, problems
    sessions, wrong = find_sessions(found)
    metadata, worse = read_metadata(found, sessions)
    return sessions, metadata, wrong + worse


def array_of(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
