"""The release of a folder, recognized by the names of its files at any depth."""

from __future__ import annotations

import shutil

import pytest

from nnunet_ici.datasets.atlas_layouts import ATLAS_2, LAYOUTS, NATIVE, PREPROCESSED, find_layout, named_release
from nnunet_ici.datasets.atlas_sessions import find_sessions
from tests.atlas_tree import NativeTree, Tree, native, raw, tree

__all__ = ["native", "raw", "tree"]  # fixtures


def empty_files(folder, layout, site="R001", subject="sub-r001s001"):
    anat = folder / site / subject / "ses-1" / "anat"
    anat.mkdir(parents=True)
    for suffix in (layout.image, layout.mask):
        (anat / f"{subject}_ses-1_{suffix}.nii.gz").touch()
    return anat


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_known_by_its_files_whatever_the_folder_is_called(tmp_path, layout):
    sites = tmp_path / "above" / "release" / "data"
    empty_files(sites, layout)
    for source in (sites, sites.parent, sites.parents[1]):
        found, problems = find_layout(source)
        assert not problems and found.layout is layout and found.source == source and found.folders == (sites,)
    assert find_layout(tmp_path)[0] is None  # three folders down
    assert [session.case for session in find_sessions(found)[0]] == ["sub-r001s001_ses-1"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_file_of_a_session_is_enough(tmp_path, layout):
    anat = empty_files(tmp_path, layout)
    (anat / f"sub-r001s001_ses-1_{layout.image}.nii.gz").unlink()
    assert find_layout(tmp_path)[0].layout is layout


def test_the_release_its_parent_and_the_folder_of_the_sites(native, tree):
    shutil.move(native.root, native.root.parent / "r3" / native.root.name)
    for source in ("r3", "r3/ATLAS3_Training_Raw"):
        found, problems = find_layout(native.root.parent / source)
        assert not problems and found.layout is NATIVE and found.named == "R3.0" and len(found.folders) == 1
    for source in ("ATLAS_2", "ATLAS_2/Training"):
        found, problems = find_layout(tree.root.parent / source)
        assert not problems and found.layout is ATLAS_2 and found.named is None
        assert [folder.name for folder in found.folders] == ["Training", "Testing"][: 2 if source == "ATLAS_2" else 1]


def test_without_known_files_the_name_of_the_folder_says_what_is_missing(tmp_path):
    (tmp_path / "Training_Raw" / "R001" / "sub-r001s001" / "ses-1" / "anat").mkdir(parents=True)
    found, _ = find_layout(tmp_path)
    assert found.layout is NATIVE
    (problem,) = find_sessions(found)[1][:1]
    assert problem.what == "missing image. Expected: this file. Got: nothing"
    assert problem.path.name == "sub-r001s001_ses-1_space-orig_desc-brain_T1w.nii.gz"


def test_no_release(tmp_path):
    for source, got in ((tmp_path, "none"), (tmp_path / "nowhere", "no such folder")):
        found, (problem,) = find_layout(source)
        assert found is None and problem.path == source and problem.what.endswith(f"Got: {got}")
        for layout in LAYOUTS:
            assert layout.example in problem.what
    anat = tmp_path / "bids" / "R001" / "sub-1" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-1_ses-1_T1w.nii.gz").touch()
    found, (problem,) = find_layout(tmp_path)
    assert found is None and problem.what.endswith(f"Got: sessions with other file names, in {tmp_path / 'bids'}")


def test_folders_with_other_files_beside_a_release_are_passed_over(native):
    anat = native.root.parent / "derivatives" / "R001" / "sub-r001s001" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-r001s001_ses-1_smooth.nii.gz").touch()
    found, problems = find_layout(native.root.parent)
    assert found.folders == (native.root,) and not problems


def test_two_releases_in_one_folder(tmp_path, native, tree):
    found, (problem,) = find_layout(tmp_path)
    assert found is None and problem.path == tmp_path
    assert problem.what == (
        "more than one release. Expected: the folder of one of them. Got: "
        f"{native.root} (native space, as R2.1 or R3.0), "
        f"{tree.root / 'Testing'} (MNI152NLin2009aSym, as R2.0 or R2.1), "
        f"{tree.root / 'Training'} (MNI152NLin2009aSym, as R2.0 or R2.1)"
    )


def test_two_releases_among_the_files_of_one_folder(native):
    empty_files(native.root, PREPROCESSED, "R003", "sub-r003s001")
    found, (problem,) = find_layout(native.root)
    assert found is None and problem.what.startswith("more than one release.")
    assert f"{native.root} (MNI152NLin2009aSym, preprocessed, as R2.1 or R3.0)" in problem.what


def test_two_releases_of_one_layout_by_their_names(tmp_path):
    empty_files(tmp_path / "ATLAS_R2.1_raw" / "Training_Raw", NATIVE)
    empty_files(tmp_path / "new" / "ATLAS3_Training_Raw", NATIVE)
    found, (problem,) = find_layout(tmp_path)
    assert found is None and problem.what.startswith("more than one release.")
    assert find_layout(tmp_path / "ATLAS_R2.1_raw")[0].named == "R2.1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ATLAS3_Training_Raw", "R3.0"), ("ATLAS_R3.0", "R3.0"), ("atlas_v3", "R3.0"), ("ATLAS_2.1", "R2.1"),
        ("ATLAS_R2.1_raw", "R2.1"), ("atlas21_training_raw", "R2.1"), ("20220425_ATLAS_2.1_MetaData.csv", "R2.1"),
        ("ATLAS_2", None), ("20220425_ATLAS_2.0_MetaData.csv", None), ("Training_Raw", None), ("ATLAS_2.18", None),
    ],
)  # fmt: skip
def test_names_that_say_a_release(name, expected):
    assert named_release((name,)) == expected


def test_a_name_that_contradicts_the_files_does_not_count(tmp_path):
    empty_files(tmp_path / "ATLAS_3" / "Training", ATLAS_2)
    assert find_layout(tmp_path)[0].named is None


def test_trees_of_the_tests_are_whole(native, tree):
    assert isinstance(native, NativeTree) and isinstance(tree, Tree)
    for root, count in ((native.root, 8), (tree.root, 6)):
        sessions, problems = find_sessions(find_layout(root)[0])
        assert len(sessions) == count and not problems
