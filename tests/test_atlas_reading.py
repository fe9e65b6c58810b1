"""What the files of a release say: its layout and name, the metadata of its sessions, and the parts to exclude."""

from __future__ import annotations

import re
import shutil

import pytest

from nnunet_ici.datasets.atlas import ATLAS_2, LAYOUTS, NATIVE, PREPROCESSED, find_layout, find_sessions, named_release
from nnunet_ici.datasets.atlas_metadata import Metadata, exclude_atlas2, release_of
from tests.atlas_tree import SHEET, Tree, native, sessions_of, tree

__all__ = ["native", "tree"]  # fixtures

JOINT = "SESSION_ID,ATLAS2_DATASET,DAYS_POST_STROKE\nsub-r001s001_ses-1,Training,12.5\nsub-r002s001_ses-1,Testing,3\n"


def empty_files(folder, layout, site="R001", subject="sub-r001s001"):
    anat = folder / site / subject / "ses-1" / "anat"
    anat.mkdir(parents=True)
    for suffix in (layout.image, layout.mask):
        (anat / f"{subject}_ses-1_{suffix}.nii.gz").touch()
    return anat


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_known_by_any_of_its_files_whatever_the_folder_is_called(tmp_path, layout):
    sites = tmp_path / "above" / "release" / "data"
    anat = empty_files(sites, layout)
    for source in (sites, sites.parent, sites.parents[1]):
        found, problems = find_layout(source)
        assert not problems and found.layout is layout and found.source == source and found.folders == (sites,)
    assert find_layout(tmp_path)[0] is None  # three folders down
    assert [session.case for session in find_sessions(found)[0]] == ["sub-r001s001_ses-1"]
    (anat / f"sub-r001s001_ses-1_{layout.image}.nii.gz").unlink()
    assert find_layout(sites)[0].layout is layout


def test_the_release_its_parent_and_the_folder_of_the_sites(native, tree):
    shutil.move(native.root, native.root.parent / "r3" / native.root.name)
    other = native.root.parent / "r3" / "derivatives" / "R001" / "sub-r001s001" / "ses-1" / "anat"
    other.mkdir(parents=True)
    (other / "sub-r001s001_ses-1_smooth.nii.gz").touch()  # passed over
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
    anat = tmp_path / "bids" / "data" / "R001" / "sub-1" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-1_ses-1_T1w.nii.gz").touch()
    (tmp_path / "empty").mkdir()
    for source, got in (
        ("empty", "none"),
        ("nowhere", "no such folder"),
        ("bids", f"sessions with other file names, in {tmp_path / 'bids' / 'data'}"),
    ):
        found, (problem,) = find_layout(tmp_path / source)
        assert found is None and problem.path == tmp_path / source and problem.what.endswith(f"Got: {got}")
        assert all(layout.example in problem.what for layout in LAYOUTS)


def test_two_releases(tmp_path, native, tree):
    found, (problem,) = find_layout(tmp_path)
    assert found is None and problem.path == tmp_path
    assert problem.what == (
        "more than one release. Expected: the folder of one of them. Got: "
        f"{native.root} (native space, as R2.1 or R3.0), "
        f"{tree.root / 'Testing'} (MNI152NLin2009aSym, as R2.0 or R2.1), "
        f"{tree.root / 'Training'} (MNI152NLin2009aSym, as R2.0 or R2.1)"
    )
    empty_files(native.root, PREPROCESSED, "R003", "sub-r003s001")  # among the files of one folder
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
    assert named_release(name) == expected


def test_a_name_that_contradicts_the_files_does_not_count(tmp_path):
    empty_files(tmp_path / "ATLAS_3" / "Training", ATLAS_2)
    assert find_layout(tmp_path)[0].named is None


def release(source):
    sessions, metadata, problems = sessions_of(source)
    assert not problems
    return release_of(find_layout(source)[0], metadata, sessions)


def test_the_release_by_the_name_of_the_folder(tmp_path, native):
    assert release(native.root) == "R3.0"
    assert release(native.root.rename(tmp_path / "ATLAS_R2.1_raw")) == "R2.1"


def test_the_release_by_its_metadata(tmp_path, tree):
    assert release(tree.root) == "R2.0"
    (tree.root / SHEET).rename(tree.root / SHEET.replace("2.0", "2.1"))
    assert release(tree.root) == "R2.1"
    other = Tree(tmp_path, "Training_Raw")
    other.add("r001s001")
    other.add("r001s002", dataset="Testing")
    assert release(other.root) == "R2.1"  # all from ATLAS 2.0
    other.add("r001s003", dataset="")
    assert release(other.root) == "R3.0"
    for sheet in other.root.rglob("*_metadata.csv"):
        sheet.unlink()
    assert release(other.root) == "R3.0"


@pytest.mark.parametrize("wanted", ["Testing", "TESTING", "test"])
def test_excluded_by_name(native, wanted):
    sessions, metadata, _ = sessions_of(native.root)
    left, excluded = exclude_atlas2(sessions, metadata, [wanted])
    assert excluded == {"sub-r001s002_ses-1": "Testing", "sub-r010s001_ses-1": "Testing"}
    assert [session for session in sessions if session.case not in excluded] == left and len(left) == 6


def test_several_values_none_and_the_whole_name_before_the_beginning_of_another(native):
    sessions, metadata, _ = sessions_of(native.root)
    left, excluded = exclude_atlas2(sessions, metadata, ["testing", "training"])
    assert [session.subject for session in left] == ["sub-r071s001", "sub-soop0003"] and len(excluded) == 6
    assert exclude_atlas2(sessions, metadata, []) == (sessions, {})
    native.sheet("r071s001").write_text("SESSION_ID,ATLAS2_DATASET\nses-1,Test\n")
    sessions, metadata, _ = sessions_of(native.root)
    assert list(exclude_atlas2(sessions, metadata, ["test"])[1]) == ["sub-r071s001_ses-1"]


@pytest.mark.parametrize("wanted", ["hidden", "T", "", "nan"])
def test_an_unknown_value_lists_the_known_ones(native, wanted):
    native.sheet("r071s001").write_text("SESSION_ID,ATLAS2_DATASET\nses-1,NaN\n")
    sessions, metadata, _ = sessions_of(native.root)
    what = f"no such value of ATLAS2_DATASET. Expected: Testing, Training. Got: {wanted}"
    with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
        exclude_atlas2(sessions, metadata, [wanted])


def test_a_release_without_that_column(tree):
    sessions, metadata, _ = sessions_of(tree.root)
    for sheet, got in ((metadata, "Chronicity"), (Metadata(), "no metadata")):
        what = f"no column ATLAS2_DATASET. Expected: one in the metadata, as in R3.0. Got: {got}"
        with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
            exclude_atlas2(sessions, sheet, ["testing"])
    with pytest.raises(ValueError, match=r"Expected: none, because no session has a value\. Got: testing$"):
        exclude_atlas2(sessions, Metadata(columns=["ATLAS2_DATASET"]), ["testing"])


@pytest.fixture
def bare_tree(tmp_path):
    """Two subjects without sheets of their own."""
    tree = Tree(tmp_path, "ATLAS3_Training_Raw")
    for subject in ("r001s001", "r002s001"):
        tree.add(subject)
        tree.sheet(subject).unlink()
    return tree


def cells_of(source):
    sessions, metadata, problems = sessions_of(source)
    assert not problems
    return {session.case: metadata.of(session) for session in sessions}


def test_own_sheets_are_read_by_the_names_of_their_columns(native):
    sessions, metadata, problems = sessions_of(native.root)
    assert not problems and metadata.path is None and metadata.own_sheets == len(sessions) == 8
    assert metadata.columns == ["ATLAS2_DATASET", "DAYS_POST_STROKE", "CHRONICITY", "SITE"]
    cells = cells_of(native.root)
    expected = {"ATLAS2_DATASET": "Testing", "DAYS_POST_STROKE": "812.5", "CHRONICITY": "1", "SITE": "R001"}
    assert cells["sub-r001s002_ses-1"] == expected
    assert native.sheet("soop0003").read_text().startswith("ATLAS2_DATASET,SESSION_ID,")
    soop = {"ATLAS2_DATASET": "", "DAYS_POST_STROKE": "3.0", "CHRONICITY": "1", "SITE": "SOOP"}
    assert cells["sub-soop0003_ses-1"] == soop


@pytest.mark.parametrize("name", ["ses-1", "1", "1.0", "SUB-R001S001_SES-1", ""])
def test_spellings_of_the_session(native, name):
    native.sheet("r001s001").write_text(f"SESSION_ID,CHRONICITY\n{name},2\n")
    assert cells_of(native.root)["sub-r001s001_ses-1"]["CHRONICITY"] == "2"


def test_an_own_sheet_in_the_folder_of_the_session_without_a_row_or_absent(native):
    sheet = native.sheet("r001s001")
    sheet.rename(sheet.parents[1] / sheet.name)
    native.sheet("r001s002").write_text("SESSION_ID,ATLAS2_DATASET,DAYS_POST_STROKE,CHRONICITY,SITE\n")
    native.sheet("r002s001").unlink()
    cells = cells_of(native.root)
    assert cells["sub-r001s001_ses-1"]["DAYS_POST_STROKE"] == "812.5"
    for case in ("sub-r001s002_ses-1", "sub-r002s001_ses-1"):
        assert set(cells[case].values()) == {""}


@pytest.mark.parametrize("place", ["ATLAS3_Training_Raw/metadata.csv", "ATLAS3_metadata.csv"])
@pytest.mark.parametrize("source", ["ATLAS3_Training_Raw", "."])
def test_one_sheet_for_all_in_or_beside_the_folder_of_the_sites(tmp_path, bare_tree, place, source):
    (tmp_path / place).write_text(JOINT + "sub-r002s001_ses-2,Training,1\nsub-r070s009_ses-1,,\n")
    sessions, metadata, problems = sessions_of(tmp_path / source)
    assert not problems and metadata.path == tmp_path / place and metadata.own_sheets == 0
    days = {session.subject: metadata.of(session)["DAYS_POST_STROKE"] for session in sessions}
    assert days == {"sub-r001s001": "12.5", "sub-r002s001": "3"}
    assert metadata.absent == ["sub-r002s001_ses-2", "sub-r070s009_ses-1"]  # without a folder


def test_a_joint_sheet_with_a_column_of_subjects(bare_tree):
    (bare_tree.root / "metadata.csv").write_text("subject,SESSION_ID,AGE\nr001s001,ses-1,55\nsub-r002s001,1,66\n")
    ages = {case: cells["AGE"] for case, cells in cells_of(bare_tree.root).items()}
    assert ages == {"sub-r001s001_ses-1": "55", "sub-r002s001_ses-1": "66"}


def test_an_own_sheet_counts_before_the_joint_one(native):
    (native.root / "metadata.csv").write_text(JOINT.replace("DAYS_POST_STROKE", "AGE"))
    native.sheet("r002s001").write_text("SESSION_ID,ATLAS2_DATASET\n")
    cells = cells_of(native.root)
    assert cells["sub-r001s001_ses-1"]["AGE"] == "" and cells["sub-r001s001_ses-1"]["DAYS_POST_STROKE"] == "812.5"
    assert cells["sub-r002s001_ses-1"]["AGE"] == "3"  # its own sheet has no row
