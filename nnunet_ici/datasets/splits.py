"""Splits into training and validation in which no subject is on both sides."""

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
    """One of the splits, by name.

    Args:
        kind: one of :data:`SPLITS`.
        sessions: those with a mask.
        volumes_mm3: of the lesions of each session; only "volume" looks at them.
        seed: of the draws.

    Raises:
        ValueError: for another name, and as the split itself does.
    """
    if kind == "paper":
        return paper_split(sessions, seed)
    if kind == "site":
        return site_split(sessions, seed)
    if kind == "volume":
        return volume_split(sessions, volumes_mm3, seed)
    raise ValueError(f"no such split. Expected: {', '.join(SPLITS)}. Got: {kind}")


def paper_split(sessions: Sequence[Session], seed: int = 0) -> Split:
    """One fold with 600 training and 55 validation subjects, drawn at random.

    Source: Rachmadi et al., MIDL 2023, who split the 655 subjects of ATLAS R2.0's Training like this. Which subjects
    they drew is not published, so the seed makes a split of the same sizes and not theirs. Another number of subjects
    is split in the same proportion, with one subject on each side at the least.

    Args:
        sessions: those with a mask; all sessions of a subject stay together.
        seed: of the draw.

    Returns:
        The content of splits_final.json: a list of one fold, with the cases of ``train`` and ``val``, sorted.

    Raises:
        ValueError: for fewer than two subjects.
    """
    subjects = sorted({session.subject for session in sessions})
    if len(subjects) < 2:
        raise ValueError(f"a split needs two subjects. Got: {len(subjects)}")
    share = PAPER_SUBJECTS["val"] / sum(PAPER_SUBJECTS.values())
    count = min(max(1, round(share * len(subjects))), len(subjects) - 1)
    validation = set(random.Random(seed).sample(subjects, count))
    return [_fold(sessions, {subject: int(subject not in validation) for subject in subjects}, 0)]


def site_split(sessions: Sequence[Session], seed: int = 0) -> Split:
    """Five folds with whole sites apart: each site is validated in one fold, and trained on in the other four.

    The site with the most subjects goes first, each to the fold that has the fewest subjects so far, so that the folds
    are about equally large as far as whole sites allow it.

    Args:
        sessions: those with a mask.
        seed: shuffles sites of equal size, and the folds.

    Returns:
        The content of splits_final.json: five folds, with the cases of ``train`` and ``val``, sorted.

    Raises:
        ValueError: for fewer than five sites, or a subject with sessions at two sites.
    """
    sites: dict[str, set[str]] = defaultdict(set)
    for session in sessions:
        sites[session.site].add(session.subject)
    if len(sites) < FOLDS:
        got = f"{len(sites)} ({', '.join(sorted(sites))})"
        raise ValueError(f"a split by site needs as many sites as folds. Expected: {FOLDS} at least. Got: {got}")
    site_of: dict[str, str] = {}
    for session in sessions:
        other = site_of.setdefault(session.subject, session.site)
        if other != session.site:
            got = f"{session.subject} at {other} and {session.site}"
            raise ValueError(f"a subject at two sites. Expected: one, to keep whole sites apart. Got: {got}")
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
    """Five folds with about the same lesion volumes: subjects of similar volume are dealt out to all folds.

    A subject's volume is the mean of its sessions. Sorted by it, every five neighbours go to five different folds,
    drawn at random, so the folds have about the same distribution, and their sizes differ by one subject at most.

    Args:
        sessions: those with a mask; all sessions of a subject stay together.
        volumes_mm3: of the lesions of each session, in its order.
        seed: of the draws.

    Returns:
        The content of splits_final.json: five folds, with the cases of ``train`` and ``val``, sorted.

    Raises:
        ValueError: for fewer than five subjects.
    """
    of_subject: dict[str, list[float]] = defaultdict(list)
    for session, volume in zip(sessions, volumes_mm3, strict=True):
        of_subject[session.subject].append(volume)
    if len(of_subject) < FOLDS:
        raise ValueError(
            f"a split by volume needs as many subjects as folds. Expected: {FOLDS} at least. Got: {len(of_subject)}"
        )
    rng = random.Random(seed)
    subjects = sorted(of_subject, key=lambda subject: (fmean(of_subject[subject]), subject))
    fold_of: dict[str, int] = {}
    for start in range(0, len(subjects), FOLDS):
        neighbours = subjects[start : start + FOLDS]
        fold_of |= dict(zip(neighbours, rng.sample(range(FOLDS), len(neighbours)), strict=True))
    return [_fold(sessions, fold_of, fold) for fold in range(FOLDS)]


def _fold(sessions: Sequence[Session], fold_of: Mapping[str, int], fold: int) -> dict[str, list[str]]:
    """The fold that validates the subjects it has, and trains on all others."""
    sides: dict[str, list[str]] = {"train": [], "val": []}
    for session in sessions:
        sides["val" if fold_of[session.subject] == fold else "train"].append(session.case)
    return {side: sorted(cases) for side, cases in sides.items()}
