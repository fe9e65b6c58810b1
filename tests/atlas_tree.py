"""Small trees in the layout of ATLAS R2.0, and their conversion."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.datasets.atlas import IMAGE_SUFFIX, MASK_SUFFIX
from nnunet_ici.datasets.atlas_to_raw import BadInputError, convert_atlas

SHAPE = (10, 9, 8)
SHEET = "20220425_ATLAS_2.0_MetaData.csv"


def image_of(array, origin=(98.0, 134.0, -72.0), spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


class Tree:
    """An ATLAS_2 folder in the making."""

    def __init__(self, root: Path):
        self.root = root / "ATLAS_2"
        self.rng = np.random.default_rng(0)

    def paths(self, subject, session=1, part="Training"):
        site = subject[:4].upper()
        anat = self.root / part / site / f"sub-{subject}" / f"ses-{session}" / "anat"
        name = f"sub-{subject}_ses-{session}_"
        return anat / f"{name}{IMAGE_SUFFIX}.nii.gz", anat / f"{name}{MASK_SUFFIX}.nii.gz"

    def add(self, subject, session=1, part="Training", mask_dtype=np.uint8):
        image, mask = self.paths(subject, session, part)
        image.parent.mkdir(parents=True)
        sitk.WriteImage(image_of(self.rng.normal(100, 9, SHAPE).astype(np.float32)), str(image))
        if part == "Training":
            array = np.zeros(SHAPE, mask_dtype)
            array[2:4, 2:4, 2:4] = array[7, 7, 7] = 1
            sitk.WriteImage(image_of(array), str(mask))
        return image, mask

    def write(self, path, array, **geometry):
        sitk.WriteImage(image_of(array, **geometry), str(path))


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


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
