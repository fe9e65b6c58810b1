"""Training and validation splits that keep all sessions of a subject together."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from nnunet_ici.datasets.atlas import Session

__all__ = ["SPLITS", "Split", "make_split", "paper_split", "site_split", "volume_split"]

PAPER_SUBJECTS = {"train": 600, "val": 55}
FOLDS = 5
SPLITS = ("paper", "site", "volume")

# nnU-Net's splits_final.json: a list of folds, with the sorted cases of train and val.
Split = list[dict[str, list[str]]]


def make_split(kind: str, sessions: Sequence[Session], volumes_mm3: Sequence[float], seed: int = 0) -> Split:
    """Make one of the splits by name.

    Args:
        kind: "paper", "site" or "volume": :func:`paper_split`, :func:`site_split` or :func:`volume_split`.
        sessions: sessions with a mask.
        volumes_mm3: lesion volume of each session in mm3; used only by "volume".
        seed: seed of the random choices.

    Raises:
        ValueError: if there is no such split, or it cannot be made from these sessions.
    """
    if kind == "paper":
        return paper_split(sessions, seed)
    if kind == "site":
        return site_split(sessions, seed)
    if kind == "volume":
        return volume_split(sessions, volumes_mm3, seed)
    raise ValueError(f"no such split. Expected: {', '.join(SPLITS)}. Got: {kind}")


def paper_split(sessions: Sequence[Session], seed: int = 0) -> Split:
    """One fold with 600 training and 55 validation subjects, chosen at random; at least two subjects.

    Source: Rachmadi et al., MIDL 2023, who split the 655 subjects in Training of ATLAS R2.0 in this way. They did not
    publish the subjects of each part, so this split has the same sizes but not the same subjects. Other numbers of
    subjects are split in the same proportion, with at least one subject in each part.
    """
    subjects = sorted({session.subject for session in sessions})
    _check_number("subjects for a split", len(subjects), 2)
    share = PAPER_SUBJECTS["val"] / sum(PAPER_SUBJECTS.values())
    count = min(max(1, round(share * len(subjects))), len(subjects) - 1)
    validation = set(random.Random(seed).sample(subjects, count))
    return [_fold(sessions, {subject: int(subject not in validation) for subject in subjects}, 0)]


def site_split(sessions: Sequence[Session], seed: int = 0) -> Split:
    """Five folds, of which each site is validated by one; at least five sites, and no subject at two sites.

    Sites are assigned in decreasing order of their number of subjects, each to the fold with the fewest subjects so
    far. This makes the folds about as equal in size as whole sites allow. The seed decides the order of equally large
    sites, and the order of the folds.
    """
    sites: dict[str, set[str]] = defaultdict(set)
    site_of: dict[str, str] = {}
    for session in sessions:
        sites[session.site].add(session.subject)
        site_of.setdefault(session.subject, session.site)
    _check_number("sites for a split by site", len(sites), FOLDS, f" ({', '.join(sorted(sites))})")
    for session in sessions:
        if session.site != site_of[session.subject]:
            got = f"{session.subject} at {site_of[session.subject]} and {session.site}"
            raise ValueError(f"a subject at two sites. Expected: one, as a site belongs to one fold. Got: {got}")
    rng = random.Random(seed)
    names = sorted(sites)
    rng.shuffle(names)
    sizes = [0] * FOLDS
    fold_of: dict[str, int] = {}
    for name in sorted(names, key=lambda name: -len(sites[name])):
        fold = sizes.index(min(sizes))
        fold_of |= dict.fromkeys(sites[name], fold)
        sizes[fold] += len(sites[name])
    return [_fold(sessions, fold_of, fold) for fold in rng.sample(range(FOLDS), FOLDS)]


def volume_split(sessions: Sequence[Session], volumes_mm3: Sequence[float], seed: int = 0) -> Split:
    """Five folds with similar distributions of lesion volume; at least five subjects.

    The volume of a subject is the mean over its sessions. Subjects are sorted by volume, and each group of five
    consecutive subjects is distributed randomly over the five folds. The sizes of the folds differ by at most one
    subject.
    """
    of_subject: dict[str, list[float]] = defaultdict(list)
    for session, volume in zip(sessions, volumes_mm3, strict=True):
        of_subject[session.subject].append(volume)
    _check_number("subjects for a split by volume", len(of_subject), FOLDS)
    rng = random.Random(seed)
    subjects = sorted(of_subject, key=lambda subject: (fmean(of_subject[subject]), subject))
    fold_of: dict[str, int] = {}
    for start in range(0, len(subjects), FOLDS):
        neighbours = subjects[start : start + FOLDS]
        fold_of |= dict(zip(neighbours, rng.sample(range(FOLDS), len(neighbours)), strict=True))
    return [_fold(sessions, fold_of, fold) for fold in range(FOLDS)]


def _check_number(what: str, number: int, least: int, names: str = "") -> None:
    if number < least:
        raise ValueError(f"too few {what}. Expected: at least {least}. Got: {number}{names}")


def _fold(sessions: Sequence[Session], fold_of: Mapping[str, int], fold: int) -> dict[str, list[str]]:
    """The cases of one fold: its own subjects for validation, all others for training."""
    sides: dict[str, list[str]] = {"train": [], "val": []}
    for session in sessions:
        sides["val" if fold_of[session.subject] == fold else "train"].append(session.case)
    return {side: sorted(cases) for side, cases in sides.items()}
