"""Splits: sizes, seeds, strata, and no subject on both sides."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nnunet_ici.datasets.atlas import Session
from nnunet_ici.datasets.splits import SPLITS, make_split, paper_split, site_split, volume_split


def at_sites(*sizes, per_subject=1):
    """Sites R000, R001, ... of so many subjects, each with so many sessions."""
    return [
        Session(f"R{site:03d}", f"sub-r{site:03d}s{s:04d}", f"ses-{n}", Path("image"), Path("mask"))
        for site, size in enumerate(sizes)
        for s in range(size)
        for n in range(1, per_subject + 1)
    ]


def subjects_of(cases):
    return {case.split("_")[0] for case in cases}


def volumes_of(data, seed=0):
    """Log-normal volumes in mm3, as lesions have."""
    return list(np.random.default_rng(seed).lognormal(8, 2, len(data)))


def check_folds(folds, data):
    """What all five-fold splits guarantee."""
    cases = sorted(session.case for session in data)
    assert len(folds) == 5 and sorted(case for fold in folds for case in fold["val"]) == cases
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == cases
        assert fold["train"] == sorted(fold["train"]) and fold["val"] == sorted(fold["val"])
        assert fold["val"] and not subjects_of(fold["train"]) & subjects_of(fold["val"])


@pytest.mark.parametrize(("subjects", "expected"), [(655, 55), (2, 1), (12, 1), (24, 2), (131, 11), (1310, 110)])
def test_the_split_of_the_paper_and_other_numbers_in_proportion(subjects, expected):
    (fold,) = paper_split(at_sites(subjects, per_subject=3))
    train, val = subjects_of(fold["train"]), subjects_of(fold["val"])
    assert (len(train), len(val)) == (subjects - expected, expected) and not train & val
    assert len(fold["val"]) == 3 * len(val) and len(fold["train"] + fold["val"]) == 3 * subjects


# 55 sites of very different sizes, 1,453 subjects: as R3.0
R3_SIZES = (169, 111, 94, 86, *(48, 44, 38, 37, 37, 35, 34, 32, 32), *[20] * 32, *[1] * 9, 7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [(1,) * 5, (5, 4, 3, 2, 1), (9, 9, 1, 1, 1, 1, 1, 1), R3_SIZES])
def test_whole_sites_stay_apart(sizes, seed):
    data = at_sites(*sizes, per_subject=2)
    folds = site_split(data, seed)
    check_folds(folds, data)
    site_of = {session.case: session.site for session in data}
    for fold in folds:
        assert not {site_of[case] for case in fold["train"]} & {site_of[case] for case in fold["val"]}


def test_folds_of_sites_are_balanced_by_subjects_and_not_by_sessions():
    def counts(data):
        return sorted(len(subjects_of(fold["val"])) for fold in site_split(data))

    of_r3 = counts(at_sites(*R3_SIZES))
    assert sum(of_r3) == sum(R3_SIZES) and of_r3[-1] < 1.04 * of_r3[0]
    # One large site, and nothing that could balance it: the others share out the rest.
    assert counts(at_sites(50, 3, 3, 2, 2, 1, 1)) == [3, 3, 3, 3, 50]
    assert counts(at_sites(4, 4, 4, 4, 4) + at_sites(*[0] * 5, 4, per_subject=9)) == [4, 4, 4, 4, 8]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("subjects", "per_subject"), [(5, 1), (7, 1), (24, 3), (203, 2)])
def test_each_fold_validates_its_share_of_every_stratum_of_mean_volume(subjects, per_subject, seed):
    data = at_sites(subjects, per_subject=per_subject)
    volumes = volumes_of(data)
    folds = volume_split(data, volumes, seed)
    check_folds(folds, data)
    mean = {
        subject: np.mean([v for s, v in zip(data, volumes, strict=True) if s.subject == subject])
        for subject in {session.subject for session in data}
    }
    ranked = sorted(mean, key=mean.get)
    for fold in folds:
        strata = Counter(ranked.index(subject) // 5 for subject in subjects_of(fold["val"]))
        assert all(strata[stratum] == 1 for stratum in range(subjects // 5))
        assert strata[subjects // 5] <= 1  # what is left over


def test_medians_and_large_lesions_are_alike():
    data = at_sites(1453)
    volumes = volumes_of(data)
    of_case = {session.case: volume for session, volume in zip(data, volumes, strict=True)}
    parts = [[of_case[case] for case in fold["val"]] for fold in volume_split(data, volumes)]
    for percentile, tolerance in ((10, 0.1), (50, 0.05), (90, 0.1)):
        whole = np.percentile(volumes, percentile)
        assert all(abs(np.percentile(part, percentile) / whole - 1) < tolerance for part in parts)
    assert sorted(map(len, parts)) == [290, 290, 291, 291, 291]


@pytest.mark.parametrize("kind", SPLITS)
def test_the_seed_changes_the_split_and_the_order_of_sessions_does_not(kind):
    data = at_sites(*[3] * 12)
    volumes = volumes_of(data)
    split = make_split(kind, data, volumes, 1)
    assert split == make_split(kind, data[::-1], volumes[::-1], 1)
    assert split != make_split(kind, data, volumes, 2)


TWO_SITES = at_sites(1, 1, 1, 1, 1)
TWO_SITES.append(Session("R004", TWO_SITES[0].subject, "ses-2", Path("image"), Path("mask")))


@pytest.mark.parametrize(
    ("kind", "data", "what"),
    [
        ("paper", at_sites(1, per_subject=3), "too few subjects for a split. Expected: at least 2. Got: 1"),
        ("volume", at_sites(4, per_subject=2), "too few subjects for a split by volume. Expected: at least 5. Got: 4"),
        ("site", at_sites(9, 9), "too few sites for a split by site. Expected: at least 5. Got: 2 (R000, R001)"),
        ("site", TWO_SITES, "a subject at two sites. Expected: one, as a site belongs to one fold. Got: sub-r000s0000 "
         "at R000 and R004"),
        ("random", at_sites(9), "no such split. Expected: paper, site, volume. Got: random"),
    ],
)  # fmt: skip
def test_what_cannot_be_split(kind, data, what):
    with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
        make_split(kind, data, volumes_of(data))
