"""The layout and the metadata of synthetic datasets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_ici.datasets.atlas_layouts import ATLAS_2, NATIVE, Layout

__all__ = ["SynthSubject", "layout_of", "metadata_of"]

# Number of subjects per site in R2.0 and R3.0; the numbers repeat after the last site.
EQUAL_SITES = (6,)
UNEQUAL_SITES = (3, 1, 2, 1, 4, 1, 6, 2, 9, 1, 5)
SOOP = 4  # index of the site SOOP in R3.0, whose sheets have another column order
TEST_SITES_FROM = 100  # offset of the site numbers in Testing, beyond those in Training

ATLAS2_VALUES = ("Training", "Training", "Testing", "")
# Day after the stroke on which each stage ends.
STAGES = {"acute": 7.0, "subacute": 180.0, "chronic": np.inf}


@dataclass(frozen=True)
class SynthSubject:
    """A synthetic subject and its place in the dataset.

    Attributes:
        release: name of the imitated release, "2.0" or "3.0".
        index: number of the subject in Training or Testing, from 0.
        has_mask: whether the subject has a mask; False in Testing.
    """

    release: str
    index: int
    has_mask: bool

    @property
    def folder(self) -> str:
        """The name of the folder that contains the sites."""
        layout = layout_of(self.release)
        return layout.folders[-1] if self.release == "3.0" else layout.folders[0 if self.has_mask else 1]

    @property
    def site(self) -> str:
        """The name of the site, such as "R001"."""
        number, _ = self._place()
        if self.release == "3.0" and number == SOOP:
            return "SOOP"
        return f"R{number + 1 + (0 if self.has_mask else TEST_SITES_FROM):03d}"

    @property
    def subject(self) -> str:
        """The name of the subject, such as "sub-r001s001", or "sub-soop0001" at the site SOOP."""
        _, number = self._place()
        return f"sub-soop{number:04d}" if self.site == "SOOP" else f"sub-{self.site.lower()}s{number:03d}"

    @property
    def key(self) -> tuple[int, int]:
        """The part of the random seed that is unique to this subject within its dataset."""
        return int(not self.has_mask), self.index

    def _place(self) -> tuple[int, int]:
        """Number of the site, from 0, and number of the subject within the site, from 1."""
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
    """The artificial metadata of a subject by column, in the column order of its sheet.

    In R3.0, acute, subacute and chronic strokes are about equally frequent, and one subject in ten has neither days nor
    a stage. Of every four subjects, two are labeled as ATLAS 2.0 training, one as its test set, and one as new. All
    subjects of the site SOOP are new. In the real sheets, CHRONICITY seems to be numeric and is mostly empty.
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
