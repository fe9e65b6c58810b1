"""The dataset of implanted lesions: the MNI template with the real lesion shapes of MS patients, as nnU-Net raw data.

Only the shapes of the lesions and the distribution of their contrasts come from real images. The dataset is meant for
comparing losses under equal conditions on images that contain lesions of very different sizes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_ici.datasets.atlas import Problem
from nnunet_ici.datasets.atlas_checks import binary_mask
from nnunet_ici.datasets.atlas_to_raw import FILE_ENDING, BadInputError, check_target, write_json
from nnunet_ici.datasets.synthetic import load_template
from nnunet_ici.images import read_image
from nnunet_ici.instances.labelling_cc3d import label_array
from nnunet_ici.output import complete_or_absent
from nnunet_ici.parallel import in_parallel
from scripts.study.implants.case import make_case
from scripts.study.implants.distractors import KINDS

__all__ = ["Patients", "implant_lesions", "part_patients"]

NAME = "Implants"
SPACING_MM = (1.0, 4.0)
TEST_SHARE, VALIDATION_SHARE = 1 / 3, 1 / 4

_load_template = lru_cache(maxsize=1)(load_template)  # once in each process


@dataclass(frozen=True)
class Patients:
    """The split of the patients. No patient is in two lists.

    Attributes:
        train: training patients in random order.
        val: validation patients in random order.
        test: test patients in random order.
    """

    train: list[str]
    val: list[str]
    test: list[str]


@dataclass(frozen=True)
class _Job:
    case: str
    part: str
    mask: Path
    seed: tuple[int, int, int]


def part_patients(patients: Sequence[str], seed: int = 0) -> Patients:
    """Split the patients at random: a third for testing, and a quarter of the others for validation.

    Args:
        patients: names of at least three patients, in any order.
        seed: seed of the random split.

    Raises:
        ValueError: if there are fewer than three patients, or if a name is given twice.

    Example:
        >>> parts = part_patients([f"patient{i:02d}" for i in range(27)])
        >>> len(parts.train), len(parts.val), len(parts.test)
        (14, 4, 9)
    """
    if len(patients) < 3 or len(set(patients)) < len(patients):
        raise ValueError(f"at least three different patients are required. Got: {sorted(patients)}")
    drawn = [str(name) for name in np.random.default_rng([seed, 2]).permutation(sorted(patients))]
    test = max(1, round(TEST_SHARE * len(drawn)))
    val = max(1, round(VALIDATION_SHARE * (len(drawn) - test)))
    return Patients(drawn[test + val :], drawn[test : test + val], drawn[:test])


def implant_lesions(
    masks: Path,
    raw: Path,
    *,
    dataset_id: int = 300,
    training: int = 24,
    testing: int = 9,
    seed: int = 0,
    spacing_mm: float = 1.0,
    processes: int = 2,
) -> Path:
    """Write the dataset. Its folder appears only when it is complete.

    The folder contains ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs``, ``dataset.json`` (one channel, FLAIR),
    ``splits_final.json`` with one fold, ``cases.csv`` with a row for each case, and ``distractors`` with maps of the
    distractors (not used by nnU-Net). Every training patient is used once before any patient is used twice. A case
    depends on the seed, the spacing, the masks, its patient and the number of earlier cases of this patient.

    Args:
        masks: folder with one mask per patient (``*.nii.gz``, 3D, in MNI space, 1 = lesion). The file names identify
            the patients.
        raw: nnU-Net's folder ``nnUNet_raw``. The folder ``DatasetXXX_Implants`` is created in it.
        dataset_id: dataset number XXX, 1 to 999.
        training: number of cases for training and validation, at least 2.
        testing: number of cases for testing.
        seed: seed of all random draws.
        spacing_mm: voxel spacing, 1 to 4.
        processes: number of processes.

    Returns:
        The folder of the dataset.

    Raises:
        BadInputError: if the settings or the masks have problems; all of them are listed, and nothing is written.
        ModuleNotFoundError: if nilearn, which provides the template, is not installed.
        ValueError: if all lesions of a patient lie outside the brain.
    """
    problems = _check_settings(raw, dataset_id, training, testing, spacing_mm)
    files, bad = _find_masks(masks)
    if problems or bad:
        raise BadInputError(problems + bad)
    parts = part_patients(list(files), seed)
    jobs = _jobs(files, parts, training, testing, seed)
    _load_template()  # fails before anything is written if nilearn is missing
    target = raw.resolve() / f"Dataset{dataset_id:03d}_{NAME}"
    with complete_or_absent(target) as folder:
        for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "distractors"):
            (folder / name).mkdir()
        rows = in_parallel(partial(_write, folder=folder, spacing_mm=spacing_mm), jobs, processes, "implant")
        with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        fold = {part: sorted(job.case for job in jobs if job.part == part) for part in ("train", "val")}
        write_json(folder / "splits_final.json", [fold])
        _write_dataset_json(folder, training)
    return target


def _check_settings(raw: Path, dataset_id: int, training: int, testing: int, spacing_mm: float) -> list[Problem]:
    problems = check_target(raw, dataset_id)
    if training < 2 or testing < 1:
        expected = "Expected: at least 2 for training, including 1 for validation, and at least 1 for testing"
        problems.append(Problem(raw, f"too few cases. {expected}. Got: {training} and {testing}"))
    if not SPACING_MM[0] <= spacing_mm <= SPACING_MM[1]:
        expected = f"Expected: {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm"
        problems.append(Problem(raw, f"the spacing is out of range. {expected}. Got: {spacing_mm:g}"))
    return problems


def _find_masks(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """The masks by patient, and the problems of the masks."""
    paths = sorted(folder.glob(f"*{FILE_ENDING}"))
    files = {_patient(path): path for path in paths}
    if len(files) < 3:
        expected = "Expected: *.nii.gz of at least three patients, for training, validation and testing"
        return {}, [Problem(folder, f"too few masks. {expected}. Got: {len(files)}")]
    problems = []
    for path in paths:
        if files[_patient(path)] != path:
            what = f"a second mask of {_patient(path)}. Expected: one mask. Got: {files[_patient(path)].name} as well"
            problems.append(Problem(path, what))
        try:
            mask = read_image(path)
            if mask.GetDimension() != 3:
                raise ValueError(f"not a volume. Expected: 3 axes. Got: {mask.GetDimension()}")
            if not binary_mask(sitk.GetArrayViewFromImage(mask), binarize=False).any():
                raise ValueError("an empty mask. Expected: at least one voxel of 1. Got: 0 only")
        except ValueError as error:
            problems.append(Problem(path, str(error).replace(f"{path} ", "")))
    return files, problems


def _patient(mask: Path) -> str:
    return mask.name.removesuffix(FILE_ENDING).removesuffix("_lesions")


def _jobs(files: dict[str, Path], parts: Patients, training: int, testing: int, seed: int) -> list[_Job]:
    """The cases, assigned to the patients in turn. A quarter of the training cases is for validation, even if there are
    fewer cases than patients."""
    val = min(len(parts.val), max(1, round(VALIDATION_SHARE * training)))
    train = min(len(parts.train), training - val)
    learning = [("train", name) for name in parts.train[:train]] + [("val", name) for name in parts.val[:val]]
    tests = [("test", name) for name in parts.test]
    order = sorted(files)
    jobs = []
    for turns, count in ((learning, training), (tests, testing)):
        for index in range(count):
            part, patient = turns[index % len(turns)]
            turn = 1 + index // len(turns)
            jobs.append(_Job(f"{patient}_{turn}", part, files[patient], (seed, order.index(patient), turn)))
    return jobs


def _write(job: _Job, folder: Path, spacing_mm: float) -> dict[str, object]:
    """Write a case.

    Returns:
        Its row of cases.csv.
    """
    try:
        case = make_case(_load_template(), read_image(job.mask), spacing_mm, np.random.default_rng(job.seed))
    except ValueError as error:
        raise ValueError(f"{job.mask}: {error}") from error
    part = "Ts" if job.part == "test" else "Tr"
    sitk.WriteImage(case.image, str(folder / f"images{part}" / f"{job.case}_0000{FILE_ENDING}"))
    sitk.WriteImage(case.label, str(folder / f"labels{part}" / f"{job.case}{FILE_ENDING}"))
    sitk.WriteImage(case.distractors, str(folder / "distractors" / f"{job.case}{FILE_ENDING}"))
    ids, components = label_array(sitk.GetArrayFromImage(case.label))
    sizes_mm3 = np.bincount(ids.ravel())[1:] * spacing_mm**3
    row: dict[str, object] = {
        "case": job.case,
        "part": job.part,
        "patient": _patient(job.mask),
        "flipped": int(case.flipped),
    }
    row |= {"lesions_of_patient": case.lesions_of_patient, "implanted": case.lesions, "restored": case.restored}
    row |= {"components": components, "lesion_volume_mm3": f"{sizes_mm3.sum():g}"}
    row |= {f"{q.__name__}_mm3": f"{q(sizes_mm3):g}" for q in (np.min, np.median, np.max)}
    return row | {kind: case.placed.count(kind) for kind in KINDS}


def _write_dataset_json(folder: Path, training: int) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    generate_dataset_json(
        str(folder),
        channel_names={0: "FLAIR"},
        labels={"background": 0, "lesion": 1},
        num_training_cases=training,
        file_ending=FILE_ENDING,
        dataset_name=NAME,
        description="SYNTHETIC: the MNI template (ICBM 2009a, as shipped with nilearn) made FLAIR-like and warped, "
        "with the shapes of real MS lesions and random contrasts. No images of patients.",
        reference="https://doi.org/10.1007/s12021-017-9348-7",
        citation="masks: Lesjak et al., Neuroinformatics 2017, doi 10.1007/s12021-017-9348-7",
        license="masks: CC-BY; template: (C) Louis Collins, McConnell Brain Imaging Centre, McGill University",
        converted_by="scripts/study/implants of nnunet-ici",
    )
