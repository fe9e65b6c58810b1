"""R2.0, R2.1 or R3.0, and ATLAS 2.0's test set left out."""

from __future__ import annotations

import re

import pytest

from nnunet_ici.datasets.atlas_layouts import find_layout
from nnunet_ici.datasets.atlas_metadata import Metadata
from nnunet_ici.datasets.atlas_releases import exclude_atlas2, release_of
from tests.atlas_tree import SHEET, NativeTree, native, sessions_of, tree

__all__ = ["native", "tree"]  # fixtures


def release(source):
    sessions, metadata, problems = sessions_of(source)
    assert not problems
    return release_of(find_layout(source)[0], metadata, sessions).name


def test_by_the_name_of_the_folder(tmp_path, native):
    assert release(native.root) == "R3.0"
    assert release(native.root.rename(tmp_path / "ATLAS_R2.1_raw")) == "R2.1"


def test_a_folder_without_a_telling_name_by_its_metadata(tmp_path):
    tree = NativeTree(tmp_path, folder="Training_Raw")
    tree.add("r001s001")
    tree.add("r001s002", dataset="Testing")
    assert release(tree.root) == "R2.1"  # all from ATLAS 2.0
    tree.add("r001s003", dataset="")
    assert release(tree.root) == "R3.0"
    for sheet in tree.root.rglob("*_metadata.csv"):
        sheet.unlink()
    assert release(tree.root) == "R3.0"


def test_the_layout_of_r20(tree):
    assert release(tree.root) == "R2.0"
    sheet = tree.root / SHEET
    sheet.rename(tree.root / SHEET.replace("2.0", "2.1"))
    assert release(tree.root) == "R2.1"


@pytest.mark.parametrize("wanted", [["Testing"], ["TESTING"], ["test"]])
def test_excluded_by_name(native, wanted):
    sessions, metadata, _ = sessions_of(native.root)
    left, excluded = exclude_atlas2(sessions, metadata, wanted)
    assert excluded == {"sub-r001s002_ses-1": "Testing", "sub-r010s001_ses-1": "Testing"}
    assert [session for session in sessions if session.case not in excluded] == left and len(left) == 6


def test_several_values_and_none(native):
    sessions, metadata, _ = sessions_of(native.root)
    left, excluded = exclude_atlas2(sessions, metadata, ["testing", "training"])
    assert [session.subject for session in left] == ["sub-r071s001", "sub-soop0003"] and len(excluded) == 6
    assert exclude_atlas2(sessions, metadata, []) == (sessions, {})


def test_the_whole_name_before_the_beginning_of_another(native):
    sheet = native.sheet("r071s001")
    sheet.write_text("SESSION_ID,ATLAS2_DATASET\nses-1,Test\n")
    sessions, metadata, _ = sessions_of(native.root)
    assert list(exclude_atlas2(sessions, metadata, ["test"])[1]) == ["sub-r071s001_ses-1"]


@pytest.mark.parametrize("wanted", ["hidden", "T", "", "nan"])
def test_an_unknown_value_lists_the_known_ones(native, wanted):
    native.sheet("r071s001").write_text("SESSION_ID,ATLAS2_DATASET\nses-1,NaN\n")
    sessions, metadata, _ = sessions_of(native.root)
    what = f"no such value of ATLAS2_DATASET. Expected: Testing, Training. Got: {wanted}"
    with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
        exclude_atlas2(sessions, metadata, [wanted])


def test_a_release_without_that_column(tree, native):
    sessions, metadata, _ = sessions_of(tree.root)
    for sheet, got in ((metadata, "Chronicity"), (Metadata(), "no metadata")):
        what = f"no column ATLAS2_DATASET. Expected: one in the metadata, as in R3.0. Got: {got}"
        with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
            exclude_atlas2(sessions, sheet, ["testing"])
    empty = Metadata(columns=["ATLAS2_DATASET"])
    with pytest.raises(ValueError, match=r"Expected: none, because no session has a value\. Got: testing$"):
        exclude_atlas2(sessions, empty, ["testing"])
