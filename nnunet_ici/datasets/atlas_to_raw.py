"""Conversion of ATLAS to nnU-Net raw data: all files are checked first, then everything is written, or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from nnunet_ici.command import InputError, Problems, check_folder
from nnunet_ici.datasets.atlas import Problem, Session, find_layout, find_sessions
from nnunet_ici.datasets.atlas_checks import Report, binary_mask, check_session, find_duplicates
from nnunet_ici.datasets.atlas_metadata import Metadata, exclude_atlas2, read_metadata, release_of
from nnunet_ici.datasets.splits import make_split
from nnunet_ici.images import copy_nifti, read_nifti
from nnunet_ici.output import complete_or_absent, write_file
from nnunet_ici.parallel import in_parallel

__all__ = ["BadInputError", "Converted", "check_target", "convert_atlas", "write_json"]

ATLAS_PAGE = "https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html"
LIEW = "Liew et al., Scientific Data 9:320, 2022, doi 10.1038/s41597-022-01401-7"
FILE_ENDING = ".nii.gz"
SKIPPED_NAME = "skipped.csv"
WARNINGS_NAME = "warnings.csv"
EXCLUDED_NAME = "excluded.csv"
SPLITS_NAME = "splits_final.json"
# nnU-Net's reader for files whose affine SimpleITK rejects.
NIBABEL_READER = "NibabelIOWithReorient"


class BadInputError(InputError):
    """The source data or the target folder cannot be used; nothing was written.

    Attributes:
        problems: all problems.
        skippable: whether the sessions without problems could be converted on their own.
    """

    def __init__(self, problems: Sequence[Problem], skippable: bool = False) -> None:
        super().__init__(problems, "--skip-bad converts the rest, and lists all problems" if skippable else "")
        self.skippable = skippable


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        folder: folder of the dataset.
        release: name of the release and the image space, such as "R3.0, native space".
        sessions: converted sessions, in the order of cases.csv.
        skipped: problems of the sessions and files that were skipped.
        warnings: possible problems with the converted sessions.
        excluded: value of ATLAS2_DATASET of each session excluded on request, by case.
        metadata: metadata of the sessions.
        splits: paths of all written copies of splits_final.json.
    """

    folder: Path
    release: str
    sessions: list[Session]
    skipped: list[Problem]
    warnings: list[Problem]
    excluded: dict[str, str]
    metadata: Metadata
    splits: list[Path] = field(default_factory=list)


def convert_atlas(
    source: Path,
    raw: Path,
    *,
    dataset_id: int = 100,
    preprocessed: Path | None = None,
    split: str | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
    binarize: bool = False,
    skip_bad: bool = False,
    symlink: bool = False,
    trust: str | None = None,
    processes: int = 2,
) -> Converted:
    """Convert ATLAS R2.0, R2.1 or R3.0 to nnU-Net raw data. The dataset's folder appears only once it is complete.

    Args:
        source: folder of the release, such as ``ATLAS_2``, the folder above it, or the folder that contains the sites,
            such as ``ATLAS3_Training_Raw``; see :mod:`~nnunet_ici.datasets.atlas`.
        raw: nnU-Net's folder ``nnUNet_raw``, in which ``DatasetXXX_ATLAS`` is created.
        dataset_id: number of the dataset (XXX), 1 to 999.
        preprocessed: nnU-Net's folder ``nnUNet_preprocessed``, which receives a copy of the split; None for no copy.
        split: "paper", "site" or "volume", see :mod:`~nnunet_ici.datasets.splits`; None to write no split.
        seed: seed of the split.
        exclude: values of ATLAS2_DATASET whose sessions are excluded and listed in ``excluded.csv``; see
            :func:`~nnunet_ici.datasets.atlas_metadata.exclude_atlas2`.
        binarize: whether to accept masks with values other than 0 and 1, taking voxels above 0 as lesion.
        skip_bad: whether to skip sessions with problems and list them in ``skipped.csv``.
        symlink: whether to link files that can be used unchanged, instead of copying them.
        trust: "sform" or "qform", the transform to keep in files with two that differ; None to accept no such file.
        processes: number of processes.

    Raises:
        InputError: if a folder cannot be written to, or the disk has too little space.
        BadInputError: if the source, the target folder or an argument cannot be used, or, without ``skip_bad``, any
            file is bad; with all problems found.
    """
    target = raw / f"Dataset{dataset_id:03d}_ATLAS"
    unusable = Problems(check_folder("nnUNet_raw", raw))
    if split is not None and preprocessed is not None:
        unusable += check_folder("nnUNet_preprocessed", preprocessed)
    unusable.raise_any()
    taken = check_target(raw, dataset_id)
    found, unknown = find_layout(source)
    if taken or found is None:
        raise BadInputError([*taken, *unknown])

    sessions, bad = find_sessions(found)
    metadata, bad_metadata = read_metadata(found, sessions)
    bad += bad_metadata
    release = release_of(found, metadata, sessions)
    try:
        sessions, excluded = exclude_atlas2(sessions, metadata, exclude)
    except ValueError as error:
        raise BadInputError([*bad, Problem(metadata.path or source, str(error))]) from error
    reports = in_parallel(partial(check_session, binarize=binarize, trust=trust), sessions, processes, "check")
    bad += [problem for report in reports for problem in report.problems]
    good = [(session, report) for session, report in zip(sessions, reports, strict=True) if not report.problems]
    warnings = [warning for _, report in good for warning in report.warnings]
    warnings += find_duplicates(*zip(*good, strict=True)) if good else []
    training = [session for session, _ in good if session.mask is not None]
    if not skip_bad and bad:
        raise BadInputError(bad, skippable=bool(training))
    if not training:
        what = "no case left to convert. Expected: at least one with a mask. Got: none"
        raise BadInputError([*bad, Problem(source, what)])

    splits: dict[Path, object] = {}
    if split is not None:
        volumes = [report.lesion_volume_mm3 for _, report in good if report.lesion_volume_mm3 is not None]
        try:
            made = make_split(split, training, volumes, seed)
        except ValueError as error:
            raise BadInputError([Problem(source, str(error))]) from error
        splits = dict.fromkeys([one / target.name / SPLITS_NAME for one in (raw, preprocessed) if one], made)
        for path in splits:
            if path.exists() and _read_json(path) != made:
                what = "a different split exists. Expected: none, or the same split. Got: another one; move it away"
                raise BadInputError([Problem(path, what)])
    copied = [] if symlink else [path for session, _ in good for path in (session.image, session.mask) if path]
    Problems(check_folder("nnUNet_raw", raw, sum(path.stat().st_size for path in copied))).raise_any()

    with complete_or_absent(target) as folder:
        write = partial(_write_session, folder=folder, binarize=binarize, symlink=symlink, trust=trust)
        in_parallel(write, good, processes, "convert")
        _write_tables(folder, good, metadata, bad, warnings, excluded)
        reader = found.layout.reader if all(report.is_straight for _, report in good) else NIBABEL_READER
        _write_dataset_json(folder, len(training), release, found.layout.space, reader)
        for path, content in splits.items():
            write_json(folder / SPLITS_NAME if path.parent == target else path, content)
    described = f"{release}, {found.layout.space}"
    converted = [session for session, _ in good]
    return Converted(target, described, converted, bad, warnings, excluded, metadata, list(splits))


def check_target(raw: Path, dataset_id: int) -> list[Problem]:
    """Problems that prevent the creation of a dataset with this number in nnUNet_raw; empty if there are none."""
    if not 1 <= dataset_id <= 999:
        return [Problem(raw, f"the dataset number is out of range. Expected: 1 to 999. Got: {dataset_id}")]
    what = "the target folder exists. Expected: no dataset with this number. Got: this one"
    return [Problem(path, what) for path in sorted(raw.glob(f"Dataset{dataset_id:03d}_*"))]


def _write_tables(
    folder: Path,
    good: Sequence[tuple[Session, Report]],
    metadata: Metadata,
    bad: Sequence[Problem],
    warnings: Sequence[Problem],
    excluded: Mapping[str, str],
) -> None:
    """Write the tables of a converted dataset into its folder.

    - ``cases.csv``: converted sessions, with lesion volumes in mm3 on each mask's own grid.
    - ``skipped.csv``: problems of the sessions and files that were skipped.
    - ``warnings.csv``: possible problems with the converted sessions.
    - ``excluded.csv``: sessions excluded on request.

    All but ``cases.csv`` are written only if they have a row.
    """
    rows = []
    for session, report in good:
        part = "test" if session.mask is None else "train"
        volume = None if report.lesion_volume_mm3 is None else f"{report.lesion_volume_mm3:g}"
        lesions = None if report.lesion_count is None else str(report.lesion_count)
        names = (session.case, part, session.site, session.subject, session.session)
        rows.append((*names, lesions, volume, *metadata.of(session).values()))
    header = ("case", "split", "site", "subject", "session", "lesion_count", "lesion_volume_mm3", *metadata.columns)
    tables: dict[str, tuple[Sequence[str], Iterable[Sequence[object]]]] = {
        "cases.csv": (header, rows),
        SKIPPED_NAME: (("path", "problem"), [(each.path, each.what) for each in bad]),
        WARNINGS_NAME: (("path", "warning"), [(each.path, each.what) for each in warnings]),
        EXCLUDED_NAME: (("case", "ATLAS2_DATASET"), list(excluded.items())),
    }
    for name, (columns, lines) in tables.items():
        if lines:
            pd.DataFrame(lines, columns=columns).to_csv(folder / name, index=False)


def _write_dataset_json(folder: Path, training: int, release: str, space: str, reader: str | None) -> None:
    """Write nnU-Net's dataset.json.

    Args:
        folder: folder of the dataset.
        training: number of training cases.
        release: name of the release; R2.1 and R3.0 have no known paper of their own.
        space: image space, in words.
        reader: class name of the nnU-Net reader for the images; None if any reader will do.
    """
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    generate_dataset_json(
        str(folder),
        channel_names={0: "T1w"},
        labels={"background": 0, "lesion": 1},
        num_training_cases=training,
        file_ending=FILE_ENDING,
        dataset_name="ATLAS",
        release=release,
        reference=ATLAS_PAGE + " and https://isles-26.grand-challenge.org" * (release == "R3.0"),
        description=f"Anatomical Tracings of Lesions After Stroke, T1w in {space}",
        overwrite_image_reader_writer=reader,
        citation="ATLAS R2.0: " * (release == "R3.0") + LIEW,
        license="see the data-use agreement of ATLAS",
        converted_by="nnunet_ici convert-atlas",
    )


def write_json(path: Path, content: object) -> None:
    """Write a JSON file with indentation, like nnU-Net."""
    write_file(path, json.dumps(content, indent=2) + "\n")


def _read_json(path: Path) -> object:
    """The content of a JSON file; None if it is not valid JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _write_session(
    item: tuple[Session, Report], folder: Path, binarize: bool, symlink: bool, trust: str | None
) -> None:
    """Write the image and the label of one session."""
    session, report = item
    target = _new_path(folder / ("imagesTs" if session.mask is None else "imagesTr"), f"{session.case}_0000")
    if report.image_is_ready:
        _place(session.image, target, symlink)
    else:
        copy_nifti(session.image, target, trust)
    if session.mask is None:
        return
    target = _new_path(folder / "labelsTr", session.case)
    if report.mask_is_ready:
        _place(session.mask, target, symlink)
    else:
        mask, values = read_nifti(session.mask, trust)
        mask.header.set_data_dtype(np.uint8)
        nib.save(nib.Nifti1Image(binary_mask(values, binarize), None, mask.header), target)


def _new_path(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / f"{name}{FILE_ENDING}"


def _place(source: Path, target: Path, symlink: bool) -> None:
    if symlink:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)
