"""``nnunet_ici synth-atlas``: a synthetic data set in the layout of ATLAS R2.0."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_ici.datasets.atlas import IMAGE_SUFFIX, MASK_SUFFIX
from nnunet_ici.datasets.synthetic import load_template, synthesize_subject
from nnunet_ici.datasets.work import complete_or_absent, in_parallel

__all__ = ["main", "synthesize_atlas"]

SHEET = "20220425_ATLAS_2.0_MetaData.csv"
SUBJECTS_PER_SITE = 6
README = """\
SYNTHETIC DATA. Nobody's brain, nobody's stroke, and not ATLAS.

Every image is the same brain, the ICBM 2009a nonlinear symmetric template (copyright (C) 1993-2004 Louis Collins,
McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University) as distributed with nilearn, with
made-up lesions, contrast, bias field and noise. The metadata are made up too. Names, folders and grid are those of
ATLAS R2.0, so that programs for it can be tried out. Results on these data say nothing about stroke.

Made by: nnunet_ici synth-atlas -n {training} --test {testing} --seed {seed} --spacing {spacing_mm:g}
"""

_load_template = lru_cache(maxsize=1)(load_template)  # once in each process


@dataclass(frozen=True)
class _Job:
    index: int
    part: str

    @property
    def site(self) -> str:
        # Sites of Testing come after those of Training: 100 on is far beyond.
        first = 1 if self.part == "Training" else 101
        return f"R{first + self.index // SUBJECTS_PER_SITE:03d}"

    @property
    def subject(self) -> str:
        return f"sub-{self.site.lower()}s{1 + self.index % SUBJECTS_PER_SITE:03d}"


def synthesize_atlas(
    out: Path, training: int, testing: int, seed: int = 0, spacing_mm: float = 1.0, processes: int = 2
) -> None:
    """Write a data set. The folder appears only when it is complete.

    A subject depends on the seed, the spacing, its part and its number, and on nothing else.

    Args:
        out: the folder, which plays ``ATLAS_2``; must not exist, or be empty.
        training: number of subjects with masks.
        testing: number of subjects without.
        seed: of everything.
        spacing_mm: edge of a voxel; ATLAS has 1 mm.
        processes: that make subjects.

    Raises:
        FileExistsError: if the folder exists and is not empty.
        ModuleNotFoundError: without nilearn.
        ValueError: for a number of subjects below 1 (testing: below 0) or a spacing that is not positive.
    """
    if training < 1 or testing < 0:
        raise ValueError(f"there must be a training subject at least. Got: {training} training, {testing} testing")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists. Expected: a new or an empty folder. Got: something in it")
    load_template(spacing_mm)  # so that what is missing is said before anything is made
    jobs = [_Job(i, "Training") for i in range(training)] + [_Job(i, "Testing") for i in range(testing)]
    if out.exists():
        out.rmdir()
    with complete_or_absent(out.resolve()) as folder:
        in_parallel(partial(_write, folder=folder, seed=seed, spacing_mm=spacing_mm), jobs, processes, "synthesize")
        _write_metadata(folder / SHEET, jobs, seed)
        text = README.format(training=training, testing=testing, seed=seed, spacing_mm=spacing_mm)
        (folder / "README.txt").write_text(text)


def _write(job: _Job, folder: Path, seed: int, spacing_mm: float) -> None:
    subject = synthesize_subject(_load_template(spacing_mm), [seed, int(job.part == "Testing"), job.index])
    anat = folder / job.part / job.site / job.subject / "ses-1" / "anat"
    anat.mkdir(parents=True)
    sitk.WriteImage(subject.image, str(anat / f"{job.subject}_ses-1_{IMAGE_SUFFIX}.nii.gz"))
    if job.part == "Training":
        sitk.WriteImage(subject.mask, str(anat / f"{job.subject}_ses-1_{MASK_SUFFIX}.nii.gz"))


def _write_metadata(path: Path, jobs: Sequence[_Job], seed: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Subject ID", "Session", "Site", "Days Post Stroke", "Chronicity", "Origin"])
        for job in jobs:
            rng = np.random.default_rng([seed, int(job.part == "Testing"), job.index, 1])
            days = int(180 + rng.exponential(900))
            writer.writerow([job.subject, "ses-1", job.site, days, "chronic", "synthetic"])


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Make the data set.

    Returns:
        0, or 1 with the reason on stderr.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A SYNTHETIC data set in the layout, names and grid of ATLAS R2.0: the MNI template with made-up "
        "lesions. ATLAS itself is given out under a data-use agreement.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder, in the place of ATLAS_2")
    parser.add_argument("-n", type=int, default=24, metavar="N", help="number of training subjects (default: 24)")
    parser.add_argument("--test", type=int, metavar="N", help="number of subjects without mask (default: a sixth)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    parser.add_argument("--spacing", type=float, default=1, metavar="MM", help="edge of a voxel (default: 1)")
    parser.add_argument("-np", type=int, default=2, metavar="N", help="number of processes (default: 2)")
    args = parser.parse_args(argv)
    if args.np < 1:
        parser.error(f"-np must be at least 1. Got: {args.np}")
    testing = max(1, args.n // 6) if args.test is None else args.test
    try:
        synthesize_atlas(args.out, args.n, testing, args.seed, args.spacing, args.np)
    except (FileExistsError, ModuleNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.out}: {args.n} training and {testing} test subjects. SYNTHETIC: see {args.out / 'README.txt'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
