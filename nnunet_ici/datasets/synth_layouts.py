"""Where a synthetic data set puts its subjects, and what its metadata say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_ici.datasets.atlas_layouts import ATLAS_2, NATIVE, Layout

__all__ = ["SynthSubject", "layout_of", "metadata_of"]

# Subjects of the sites of R2.0, and of R3.0 one after the other, and again from the front.
EQUAL_SITES = (6,)
UNEQUAL_SITES = (3, 1, 2, 1, 4, 1, 6, 2, 9, 1, 5)
SOOP = 4  # the site of R3.0 that is called so, and whose sheets have the columns in another order
TEST_SITES_FROM = 100  # far beyond those of Training

ATLAS2_VALUES = ("Training", "Training", "Testing", "")
# Days after the stroke at which a stage ends.
STAGES = {"acute": 7.0, "subacute": 180.0, "chronic": np.inf}


@dataclass(frozen=True)
class SynthSubject:
    """One subject to be made.

    Attributes:
        release: "2.0" or "3.0".
        index: from 0, in its part.
        has_mask: False for those of Testing.
    """

    release: str
    index: int
    has_mask: bool

    @property
    def folder(self) -> str:
        """The folder that holds the sites."""
        layout = layout_of(self.release)
        return layout.folders[-1] if self.release == "3.0" else layout.folders[0 if self.has_mask else 1]

    @property
    def site(self) -> str:
        """The site, which depends on the index only."""
        number, _ = self._place()
        if self.release == "3.0" and number == SOOP:
            return "SOOP"
        return f"R{number + 1 + (0 if self.has_mask else TEST_SITES_FROM):03d}"

    @property
    def subject(self) -> str:
        """Such as "sub-r001s001", or "sub-soop0001" as that site names them."""
        _, number = self._place()
        return f"sub-soop{number:04d}" if self.site == "SOOP" else f"sub-{self.site.lower()}s{number:03d}"

    @property
    def key(self) -> tuple[int, int]:
        """What a seed needs to tell this subject from all others of its data set."""
        return int(not self.has_mask), self.index

    def _place(self) -> tuple[int, int]:
        """Number of the site, from 0, and of the subject in it, from 1."""
        sizes = UNEQUAL_SITES if self.release == "3.0" else EQUAL_SITES
        site, left = 0, self.index
        while left >= sizes[site % len(sizes)]:
            left -= sizes[site % len(sizes)]
            site += 1
        return site, left + 1


def layout_of(release: str) -> Layout:
    """The layout of a release, "2.0" or "3.0"."""
    return NATIVE if release == "3.0" else ATLAS_2


def metadata_of(subject: SynthSubject, seed: int) -> dict[str, str]:
    """The made-up row of a subject, by column, in the order of its sheet.

    R3.0: acute, subacute and chronic about equally often, one subject in ten without days and stage; of every four
    subjects two are from ATLAS 2.0's training set, one from its test set and one new, and all of SOOP are new. The real
    CHRONICITY seems to be a number, and mostly empty.
    """
    rng = np.random.default_rng([seed, *subject.key, 1])
    if subject.release == "2.0":
        days = str(int(180 + rng.exponential(900)))
        return {
            "Subject ID": subject.subject,
            "Session": "ses-1",
            "Site": subject.site,
            "Days Post Stroke": days,
            "Chronicity": "chronic",
            "Origin": "synthetic",
        }
    after_days = (rng.uniform(0, 7), rng.uniform(7, 180), 180 + rng.exponential(900))[rng.integers(3)]
    stage = next(name for name, end in STAGES.items() if after_days < end)
    known = rng.random() < 0.9
    row = {
        "SESSION_ID": f"{subject.subject}_ses-1",
        "ATLAS2_DATASET": "" if subject.site == "SOOP" else ATLAS2_VALUES[subject.index % len(ATLAS2_VALUES)],
        "DAYS_POST_STROKE": f"{after_days:.1f}" if known else "",
        "CHRONICITY": stage if known else "",
        "SITE": subject.site,
    }
    if subject.site == "SOOP":
        return {"ATLAS2_DATASET": row.pop("ATLAS2_DATASET"), **row}
    return row
