"""Splits: sizes, seeds, and no subject on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_ici.datasets.atlas import Session
from nnunet_ici.datasets.splits import paper_split


def sessions(subjects, per_subject=1):
    return [
        Session("R001", f"sub-{s:04d}", f"ses-{n}", Path("image"), Path("mask"))
        for s in range(subjects)
        for n in range(1, per_subject + 1)
    ]


def subjects_of(cases):
    return {case.split("_")[0] for case in cases}


def test_as_in_the_paper():
    (fold,) = paper_split(sessions(655))
    assert [len(fold["train"]), len(fold["val"])] == [600, 55]


@pytest.mark.parametrize(("subjects", "expected"), [(2, 1), (12, 1), (24, 2), (131, 11), (1310, 110)])
def test_other_numbers_in_proportion(subjects, expected):
    (fold,) = paper_split(sessions(subjects))
    assert len(fold["val"]) == expected and len(fold["train"]) == subjects - expected


def test_sessions_of_a_subject_stay_together():
    (fold,) = paper_split(sessions(40, per_subject=3))
    train, val = subjects_of(fold["train"]), subjects_of(fold["val"])
    assert not train & val and len(train | val) == 40
    assert len(fold["val"]) == 3 * len(val) and len(fold["train"] + fold["val"]) == 120


def test_the_seed_decides():
    assert paper_split(sessions(655), 1) == paper_split(sessions(655)[::-1], 1)
    assert paper_split(sessions(655), 1) != paper_split(sessions(655), 2)


def test_one_subject_is_too_few():
    with pytest.raises(ValueError, match=r"a split needs two subjects\. Got: 1"):
        paper_split(sessions(1, per_subject=3))
