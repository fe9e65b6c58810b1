"""Metadata sheets of R3.0: one for each session or one for all, and their possible errors."""

from __future__ import annotations

import pytest

from tests.atlas_tree import NativeTree, native, sessions_of

__all__ = ["native"]  # fixture

JOINT = "SESSION_ID,ATLAS2_DATASET,DAYS_POST_STROKE\nsub-r001s001_ses-1,Training,12.5\nsub-r002s001_ses-1,Testing,3\n"


@pytest.fixture
def bare_tree(tmp_path):
    """Two subjects without sheets of their own."""
    tree = NativeTree(tmp_path)
    for subject in ("r001s001", "r002s001"):
        tree.add(subject)
        tree.sheet(subject).unlink()
    return tree


def cells_of(source):
    sessions, metadata, problems = sessions_of(source)
    assert not problems
    return {session.case: metadata.of(session) for session in sessions}


def problems_of(source):
    return {problem.path: problem.what for problem in sessions_of(source)[2]}


def test_own_sheets_are_read_by_the_names_of_their_columns(native):
    sessions, metadata, problems = sessions_of(native.root)
    assert not problems and metadata.path is None and metadata.own_sheets == len(sessions) == 8
    assert metadata.columns == ["ATLAS2_DATASET", "DAYS_POST_STROKE", "CHRONICITY", "SITE"]
    cells = {session.case: metadata.of(session) for session in sessions}
    expected = {"ATLAS2_DATASET": "Testing", "DAYS_POST_STROKE": "812.5", "CHRONICITY": "1", "SITE": "R001"}
    assert cells["sub-r001s002_ses-1"] == expected
    soop = {"ATLAS2_DATASET": "", "DAYS_POST_STROKE": "3.0", "CHRONICITY": "1", "SITE": "SOOP"}
    assert native.sheet("soop0003").read_text().startswith("ATLAS2_DATASET,SESSION_ID,")
    assert cells["sub-soop0003_ses-1"] == soop


@pytest.mark.parametrize("name", ["ses-1", "1", "1.0", "SUB-R001S001_SES-1", ""])
def test_spellings_of_the_session(native, name):
    native.sheet("r001s001").write_text(f"SESSION_ID,CHRONICITY\n{name},2\n")
    assert cells_of(native.root)["sub-r001s001_ses-1"]["CHRONICITY"] == "2"


def test_an_own_sheet_in_the_folder_of_the_session(native):
    sheet = native.sheet("r001s001")
    sheet.rename(sheet.parents[1] / sheet.name)
    assert cells_of(native.root)["sub-r001s001_ses-1"]["DAYS_POST_STROKE"] == "812.5"


def test_a_header_alone_and_no_sheet_leave_empty_cells(native):
    native.sheet("r001s001").write_text("SESSION_ID,ATLAS2_DATASET,DAYS_POST_STROKE,CHRONICITY,SITE\n")
    native.sheet("r002s001").unlink()
    cells = cells_of(native.root)
    for case in ("sub-r001s001_ses-1", "sub-r002s001_ses-1"):
        assert set(cells[case].values()) == {""}


@pytest.mark.parametrize("place", ["ATLAS3_Training_Raw/metadata.csv", "ATLAS3_metadata.csv"])
@pytest.mark.parametrize("source", ["ATLAS3_Training_Raw", "."])
def test_one_sheet_for_all_in_or_beside_the_folder_of_the_sites(tmp_path, bare_tree, place, source):
    (tmp_path / place).write_text(JOINT)
    sessions, metadata, problems = sessions_of(tmp_path / source)
    assert not problems and metadata.path == tmp_path / place and metadata.own_sheets == 0
    days = {session.subject: metadata.of(session)["DAYS_POST_STROKE"] for session in sessions}
    assert days == {"sub-r001s001": "12.5", "sub-r002s001": "3"}


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


def test_sessions_of_the_joint_sheet_without_a_folder_are_named(bare_tree):
    (bare_tree.root / "metadata.csv").write_text(JOINT + "sub-r002s001_ses-2,Training,1\nsub-r070s009_ses-1,,\n")
    _, metadata, problems = sessions_of(bare_tree.root)
    assert not problems and metadata.absent == ["sub-r002s001_ses-2", "sub-r070s009_ses-1"]


def test_errors_in_own_sheets(native):
    lacking, twice, other, empty, double = map(
        native.sheet, ("r001s001", "r002s001", "r009s003", "r001s002", "r010s001")
    )
    lacking.write_text("ATLAS2_DATASET,SITE\nTraining,R001\n")
    twice.write_text("SESSION_ID,SITE\nses-1,R001\nses-1,R002\n")
    other.write_text("SESSION_ID,SITE\nsub-r009s004_ses-1,R001\n")
    empty.write_text("")
    second = double.with_name("another_metadata.csv")
    second.write_text(double.read_text())
    assert problems_of(native.root) == {
        lacking: "no session column. Expected: one named SESSION_ID. Got: ATLAS2_DATASET, SITE",
        twice: "several rows for sub-r002s001_ses-1. Expected: one. Got: 2",
        other: "a row of another case. Expected: sub-r009s003_ses-1. Got: r009s004_1",
        empty: "cannot be read. Expected: a table with a header. Got: an empty file",
        second: f"several sheets for sub-r010s001_ses-1. Expected: one. Got: {second}, {double}",
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "SITE,AGE\nR001,3\n",
            "no subject column. Expected: one named Subject ID or SESSION_ID. Got: SITE, AGE",
        ),
        (
            "SESSION_ID,AGE\nses-1,3\n",
            "a row without a subject. Expected: sub-r001s001_ses-1, or a column Subject ID. Got: ses-1, 3",
        ),
        (JOINT + "sub-r001s001_ses-1,,\n", "two rows for the same case. Expected: one. Got: r001s001 1"),
    ],
)
def test_errors_in_the_joint_sheet(bare_tree, text, what):
    sheet = bare_tree.root / "metadata.csv"
    sheet.write_text(text)
    assert problems_of(bare_tree.root) == {sheet: what}
