"""``nnunet_ici synth-atlas``: a synthetic dataset in the layout of ATLAS R2.0 or R3.0."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from nnunet_ici.command import Command, Problems, check_new_folder, positive
from nnunet_ici.datasets.synth_layouts import SynthSubject, layout_of, metadata_of
from nnunet_ici.datasets.synthetic import load_template, synthesize_subject
from nnunet_ici.datasets.synthetic_native import to_native
from nnunet_ici.images import write_image
from nnunet_ici.output import complete_or_absent
from nnunet_ici.parallel import in_parallel

__all__ = ["main", "synthesize_atlas"]

RELEASES = ("2.0", "3.0")
SHEET = "20220425_ATLAS_2.0_MetaData.csv"
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
        FileExistsError: if the folder exists and is not empty.
        ModuleNotFoundError: if nilearn is not installed.
        ValueError: if the release is unknown, there is no training subject, the number of test subjects is negative or
            not 0 in R3.0, or the spacing is out of range.
    """
    if release not in RELEASES:
        raise ValueError(f"no such release. Expected: {' or '.join(RELEASES)}. Got: {release}")
    if training < 1 or testing < 0:
        raise ValueError(f"there must be at least one training subject. Got: {training} training, {testing} testing")
    if release == "3.0" and testing:
        raise ValueError(f"all subjects of R3.0 have masks. Expected: 0 test subjects. Got: {testing}")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty. Expected: a new or empty folder. Got: files in it")
    _load_template(spacing_mm)  # fails here, before anything is written
    subjects = [SynthSubject(release, i, True) for i in range(training)]
    subjects += [SynthSubject(release, i, False) for i in range(testing)]
    if out.exists():
        out.rmdir()
    with complete_or_absent(out.resolve()) as folder:
        write = partial(_write, folder=folder, seed=seed, spacing_mm=spacing_mm)
        in_parallel(write, subjects, processes, "synthesize")
        if release == "2.0":
            _write_sheet(folder / SHEET, [metadata_of(subject, seed) for subject in subjects])
        text = README.format(
            release=release, grid=GRIDS[release], training=training, testing=testing, seed=seed, spacing_mm=spacing_mm
        )
        (folder / "README.txt").write_text(text)


def _write(subject: SynthSubject, folder: Path, seed: int, spacing_mm: float) -> None:
    made = synthesize_subject(_load_template(spacing_mm), [seed, *subject.key])
    anat = folder / subject.folder / subject.site / subject.subject / "ses-1" / "anat"
    anat.mkdir(parents=True)
    layout, case = layout_of(subject.release), f"{subject.subject}_ses-1"
    if subject.release == "3.0":
        made = to_native(made, [seed, *subject.key, 2])
        _write_sheet(anat / f"{case}_metadata.csv", [metadata_of(subject, seed)])
    write_image(made.image, anat / f"{case}_{layout.image}.nii.gz")
    if subject.has_mask:
        write_image(made.mask, anat / f"{case}_{layout.mask}.nii.gz")


def _write_sheet(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder, new or empty")
    parser.add_argument("--release", choices=RELEASES, default="2.0", help="release to imitate (default: 2.0)")
    parser.add_argument("-n", type=int, default=24, metavar="N", help="number of training subjects (default: 24)")
    parser.add_argument(
        "--test",
        type=int,
        metavar="N",
        help="number of subjects without masks (default: a sixth of -n; 3.0: 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    parser.add_argument(
        "--spacing", type=float, default=1, metavar="MM", help="voxel spacing in mm, 0.5 to 10 (default: 1)"
    )
    parser.add_argument("-np", type=positive, default=2, metavar="N", help="number of processes (default: 2)")


def _run(args: argparse.Namespace) -> None:
    default = max(1, args.n // 6) if args.release == "2.0" else 0
    testing = default if args.test is None else args.test
    problems = Problems(check_new_folder("OUT", args.out))
    problems.raise_any()
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
