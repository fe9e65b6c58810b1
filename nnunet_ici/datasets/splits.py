"""Splits into training and validation in which no subject is on both sides."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nnunet_ici.datasets.atlas import Session

__all__ = ["Split", "paper_split"]

PAPER_SUBJECTS = {"train": 600, "val": 55}

# nnU-Net's splits_final.json: a list of folds.
Split = list[dict[str, list[str]]]


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
    fold: dict[str, list[str]] = {"train": [], "val": []}
    for session in sessions:
        fold["val" if session.subject in validation else "train"].append(session.case)
    return [{side: sorted(cases) for side, cases in fold.items()}]
