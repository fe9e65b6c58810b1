"""``nnunet_ici synth-atlas``: a synthetic dataset in the layout of ATLAS R2.0 or R3.0."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_ici.command import Command, Problems, check_folder, positive
from nnunet_ici.datasets.atlas import ATLAS_2, NATIVE
from nnunet_ici.datasets.synthetic import load_template, synthesize_subject
from nnunet_ici.datasets.synthetic_native import to_native
from nnunet_ici.images import write_image
from nnunet_ici.output import complete_or_absent
from nnunet_ici.parallel import in_parallel

__all__ = ["SynthSubject", "main", "metadata_of", "synthesize_atlas"]

LAYOUTS = {"2.0": ATLAS_2, "3.0": NATIVE}
SHEET = "20220425_ATLAS_2.0_MetaData.csv"
# Number of subjects per site; the numbers repeat after the last site.
SITES = {"2.0": (6,), "3.0": (3, 1, 2, 1, 4, 1, 6, 2, 9, 1, 5)}
SOOP = 4  # index of the site SOOP in R3.0, whose sheets have another column order
TEST_SITES_FROM = 100  # offset of the site numbers in Testing, beyond those in Training
ATLAS2_VALUES = ("Training", "Training", "Testing", "")
# Day after the stroke on which each stage ends.
STAGES = {"acute": 7.0, "subacute": 180.0, "chronic": np.inf}
README = """\
SYNTHETIC DATA. These are not images of patients, and not ATLAS.

Every image shows the same brain, the ICBM 2009a nonlinear symmetric template (copyright (C) 1993-2004 Louis Collins,
McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University) as distributed with nilearn.
Lesions, contrast, bias field, noise and metadata are artificial. The names of files and folders follow ATLAS R{release}
so that programs for it can be tested; {grid}.
Results on these data say nothing about real strokes.

Made by: nnunet_ici synth-atlas --release {release} -n {training} --test {testing} --seed {seed} \
--spacing {spacing_mm:g}
"""
GRIDS = {"2.0": "the grid is that of R2.0", "3.0": "each image has its own random grid"}

_load_template = lru_cache(maxsize=1)(load_template)  # once in each process


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
    def key(self) -> tuple[int, int]:
        """The part of the random seed that is unique to this subject within its dataset."""
        return int(not self.has_mask), self.index

    @property
    def names(self) -> tuple[str, str]:
        """The names of site and subject, such as "R001" and "sub-r001s001", or "SOOP" and "sub-soop0001"."""
        sizes = SITES[self.release]
        site, left = 0, self.index
        while left >= sizes[site % len(sizes)]:
            left -= sizes[site % len(sizes)]
            site += 1
        if self.release == "3.0" and site == SOOP:
            return "SOOP", f"sub-soop{left + 1:04d}"
        name = f"R{site + 1 + (0 if self.has_mask else TEST_SITES_FROM):03d}"
        return name, f"sub-{name.lower()}s{left + 1:03d}"


def metadata_of(subject: SynthSubject, seed: int) -> dict[str, str]:
    """The artificial metadata of a subject by column, in the column order of its sheet.

    In R3.0, acute, subacute and chronic strokes are about equally frequent, and one subject in ten has neither days nor
    a stage. Of every four subjects, two are labeled as ATLAS 2.0 training, one as its test set, and one as new. All
    subjects of the site SOOP are new. In the real sheets, CHRONICITY seems to be numeric and is mostly empty.
    """
    site, name = subject.names
    rng = np.random.default_rng([seed, *subject.key, 1])
    if subject.release == "2.0":
        days = str(int(180 + rng.exponential(900)))
        row = {"Subject ID": name, "Session": "ses-1", "Site": site, "Days Post Stroke": days}
        return {**row, "Chronicity": "chronic", "Origin": "synthetic"}
    after_days = (rng.uniform(0, 7), rng.uniform(7, 180), 180 + rng.exponential(900))[rng.integers(3)]
    stage = next(name for name, end in STAGES.items() if after_days < end)
    known = rng.random() < 0.9
    row = {
        "SESSION_ID": f"{name}_ses-1",
        "ATLAS2_DATASET": "" if site == "SOOP" else ATLAS2_VALUES[subject.index % len(ATLAS2_VALUES)],
        "DAYS_POST_STROKE": f"{after_days:.1f}" if known else "",
        "CHRONICITY": stage if known else "",
        "SITE": site,
    }
    return {"ATLAS2_DATASET": row.pop("ATLAS2_DATASET"), **row} if site == "SOOP" else row


def synthesize_atlas(
    out: Path,
    training: int,
    testing: int,
    seed: int = 0,
    spacing_mm: float = 1.0,
    processes: int = 2,
    release: str = "2.0",
) -> None:
    """Write a synthetic dataset. The folder appears only once it is complete.

    Each subject depends only on the release, the seed, the spacing, its part (Training or Testing) and its number.

    Args:
        out: folder of the dataset, new or empty; takes the place of ``ATLAS_2`` (R2.0), or will contain
            ``ATLAS3_Training_Raw`` (R3.0).
        training: number of subjects with masks.
        testing: number of subjects without masks; R3.0 has none.
        seed: seed of all random choices.
        spacing_mm: isotropic voxel spacing, 0.5 to 10 mm (ATLAS R2.0: 1 mm); in R3.0 multiplied by a random factor of
            0.9 to 1.2.
        processes: number of processes.
        release: release whose layout to use, "2.0" or "3.0".

    Raises:
        InputError: if the folder exists and is not empty, or cannot be written to.
        ModuleNotFoundError: if nilearn is not installed.
        ValueError: if the release is unknown, there is no training subject, the number of test subjects is negative or
            not 0 in R3.0, or the spacing is out of range.
    """
    if release not in LAYOUTS:
        raise ValueError(f"no such release. Expected: {' or '.join(LAYOUTS)}. Got: {release}")
    if training < 1 or testing < 0:
        raise ValueError(f"there must be at least one training subject. Got: {training} training, {testing} testing")
    if release == "3.0" and testing:
        raise ValueError(f"all subjects of R3.0 have masks. Expected: 0 test subjects. Got: {testing}")
    Problems(check_folder("OUT", out, new=True)).raise_any()
    _load_template(spacing_mm)  # fails here, before anything is written
    subjects = [SynthSubject(release, i, True) for i in range(training)]
    subjects += [SynthSubject(release, i, False) for i in range(testing)]
    with complete_or_absent(out.resolve()) as folder:
        write = partial(_write, folder=folder, seed=seed, spacing_mm=spacing_mm)
        in_parallel(write, subjects, processes, "synthesize")
        if release == "2.0":
            _write_sheet(folder / SHEET, subjects, seed)
        text = README.format(
            release=release, grid=GRIDS[release], training=training, testing=testing, seed=seed, spacing_mm=spacing_mm
        )
        (folder / "README.txt").write_text(text)


def _write(subject: SynthSubject, folder: Path, seed: int, spacing_mm: float) -> None:
    made = synthesize_subject(_load_template(spacing_mm), [seed, *subject.key])
    (site, name), layout = subject.names, LAYOUTS[subject.release]
    part = layout.folders[-1] if subject.release == "3.0" else layout.folders[0 if subject.has_mask else 1]
    anat, case = folder / part / site / name / "ses-1" / "anat", f"{name}_ses-1"
    anat.mkdir(parents=True)
    if subject.release == "3.0":
        made = to_native(made, [seed, *subject.key, 2])
        _write_sheet(anat / f"{case}_metadata.csv", [subject], seed)
    write_image(made.image, anat / f"{case}_{layout.image}.nii.gz")
    if subject.has_mask:
        write_image(made.mask, anat / f"{case}_{layout.mask}.nii.gz")


def _write_sheet(path: Path, subjects: Sequence[SynthSubject], seed: int) -> None:
    pd.DataFrame([metadata_of(subject, seed) for subject in subjects]).to_csv(path, index=False)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder, new or empty")
    parser.add_argument("--release", choices=LAYOUTS, default="2.0", help="release to imitate (default: 2.0)")
    parser.add_argument("-n", type=int, default=24, metavar="N", help="number of training subjects (default: 24)")
    parser.add_argument(
        "--test", type=int, metavar="N", help="number of subjects without masks (default: a sixth of -n; 3.0: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    parser.add_argument(
        "--spacing", type=float, default=1, metavar="MM", help="voxel spacing in mm, 0.5 to 10 (default: 1)"
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    default = max(1, args.n // 6) if args.release == "2.0" else 0
    testing = default if args.test is None else args.test
    problems = Problems()
    with problems.collecting(ModuleNotFoundError):
        synthesize_atlas(args.out, args.n, testing, args.seed, args.spacing, args.np, args.release)
    problems.raise_any()
    print(f"{args.out}: {args.n} training and {testing} test subjects. SYNTHETIC: see {args.out / 'README.txt'}")


main = Command(
    "Write a SYNTHETIC dataset, the MNI template with artificial lesions, in the layout of ATLAS R2.0 (MNI space, one "
    "grid) or R3.0 (native space, a grid per subject). ATLAS itself is available under a data-use agreement.",
    _arguments,
    _run,
)
