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

# nnU-Net's splits_final.json: a list of folds.
Split = list[dict[str, list[str]]]


def make_split(kind: str, sessions: Sequence[Session], volumes_mm3: Sequence[float], seed: int = 0) -> Split:
    """Make one of the splits by name.

    Args:
        kind: name of the split, one of :data:`SPLITS`.
        sessions: sessions with a mask.
        volumes_mm3: lesion volume of each session in mm3; used only by "volume".
        seed: seed of the random choices.

    Returns:
        The content of splits_final.json: a list of folds, with the sorted cases of ``train`` and ``val``.

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
    """One fold with 600 training and 55 validation subjects, chosen at random.

    Source: Rachmadi et al., MIDL 2023, who split the 655 subjects in Training of ATLAS R2.0 in this way. They did not
    publish the subjects of each part, so this split has the same sizes but not the same subjects. Other numbers of
    subjects are split in the same proportion, with at least one subject in each part.

    Args:
        sessions: sessions with a mask.
        seed: seed of the random choice.

    Returns:
        The content of splits_final.json: one fold, with the sorted cases of ``train`` and ``val``.

    Raises:
        ValueError: if there are fewer than two subjects.
    """
    subjects = sorted({session.subject for session in sessions})
    if len(subjects) < 2:
        raise ValueError(f"too few subjects for a split. Expected: at least 2. Got: {len(subjects)}")
    share = PAPER_SUBJECTS["val"] / sum(PAPER_SUBJECTS.values())
    count = min(max(1, round(share * len(subjects))), len(subjects) - 1)
    validation = set(random.Random(seed).sample(subjects, count))
    return [_fold(sessions, {subject: int(subject not in validation) for subject in subjects}, 0)]


def site_split(sessions: Sequence[Session], seed: int = 0) -> Split:
    """Five folds that keep sites together: each site is in the validation part of one fold, in training in the others.

    Sites are assigned in decreasing order of their number of subjects, each to the fold with the fewest subjects so
    far. This makes the folds about as equal in size as whole sites allow.

    Args:
        sessions: sessions with a mask.
        seed: seed of the order of equally large sites, and of the order of the folds.

    Returns:
        The content of splits_final.json: five folds, with the sorted cases of ``train`` and ``val``.

    Raises:
        ValueError: if there are fewer than five sites, or a subject has sessions at two sites.
    """
    sites: dict[str, set[str]] = defaultdict(set)
    for session in sessions:
        sites[session.site].add(session.subject)
    if len(sites) < FOLDS:
        got = f"{len(sites)} ({', '.join(sorted(sites))})"
        raise ValueError(f"too few sites for a split by site. Expected: at least {FOLDS}. Got: {got}")
    site_of: dict[str, str] = {}
    for session in sessions:
        other = site_of.setdefault(session.subject, session.site)
        if other != session.site:
            got = f"{session.subject} at {other} and {session.site}"
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
    order = rng.sample(range(FOLDS), FOLDS)
    return [_fold(sessions, fold_of, fold) for fold in order]


def volume_split(sessions: Sequence[Session], volumes_mm3: Sequence[float], seed: int = 0) -> Split:
    """Five folds with similar distributions of lesion volume.

    The volume of a subject is the mean over its sessions. Subjects are sorted by volume, and each group of five
    consecutive subjects is distributed randomly over the five folds. The sizes of the folds differ by at most one
    subject.

    Args:
        sessions: sessions with a mask.
        volumes_mm3: lesion volume of each session in mm3, in the same order.
        seed: seed of the random choices.

    Returns:
        The content of splits_final.json: five folds, with the sorted cases of ``train`` and ``val``.

    Raises:
        ValueError: if there are fewer than five subjects.
    """
    of_subject: dict[str, list[float]] = defaultdict(list)
    for session, volume in zip(sessions, volumes_mm3, strict=True):
        of_subject[session.subject].append(volume)
    if len(of_subject) < FOLDS:
        raise ValueError(f"too few subjects for a split by volume. Expected: at least {FOLDS}. Got: {len(of_subject)}")
    rng = random.Random(seed)
    subjects = sorted(of_subject, key=lambda subject: (fmean(of_subject[subject]), subject))
    fold_of: dict[str, int] = {}
    for start in range(0, len(subjects), FOLDS):
        neighbours = subjects[start : start + FOLDS]
        fold_of |= dict(zip(neighbours, rng.sample(range(FOLDS), len(neighbours)), strict=True))
    return [_fold(sessions, fold_of, fold) for fold in range(FOLDS)]


def _fold(sessions: Sequence[Session], fold_of: Mapping[str, int], fold: int) -> dict[str, list[str]]:
    """The cases of one fold: its own subjects for validation, all others for training."""
    sides: dict[str, list[str]] = {"train": [], "val": []}
    for session in sessions:
        sides["val" if fold_of[session.subject] == fold else "train"].append(session.case)
    return {side: sorted(cases) for side, cases in sides.items()}
