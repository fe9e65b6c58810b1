"""ATLAS R2.0 as released to nnU-Net raw data: all of it checked first, then written, whole or not at all."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from nnunet_ici.datasets.atlas import Metadata, Problem, Session, find_sessions, read_metadata
from nnunet_ici.datasets.atlas_checks import Report, binary_mask, check_session
from nnunet_ici.datasets.splits import Split, paper_split
from nnunet_ici.datasets.work import complete_or_absent, in_parallel
from nnunet_ici.images import read_image

__all__ = ["SKIPPED_NAME", "BadInputError", "Converted", "convert_atlas"]

FILE_ENDING = ".nii.gz"
SPLITS_NAME = "splits_final.json"
SKIPPED_NAME = "skipped.csv"


class BadInputError(Exception):
    """The data, or the place they should go to, are not usable; nothing was written.

    Attributes:
        problems: all that is wrong.
        skippable: whether the rest could be converted without what has problems.
    """

    def __init__(self, problems: Sequence[Problem], skippable: bool = False) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{count}, nothing was written:", *(f"- {problem}" for problem in problems)]))
        self.problems = list(problems)
        self.skippable = skippable


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        folder: the data set.
        sessions: converted, in the order of cases.csv.
        skipped: the problems of what was left out.
        metadata: the sheet used.
        splits: where splits_final.json was written to, if it was.
    """

    folder: Path
    sessions: list[Session]
    skipped: list[Problem]
    metadata: Metadata
    splits: list[Path]


def convert_atlas(
    source: Path,
    raw: Path,
    *,
    dataset_id: int = 100,
    preprocessed: Path | None = None,
    split: str | None = None,
    seed: int = 0,
    binarize: bool = False,
    skip_bad: bool = False,
    symlink: bool = False,
    processes: int = 2,
) -> Converted:
    """Convert ATLAS R2.0. The data set's folder appears only when it is complete.

    Args:
        source: ``ATLAS_2`` or its parent.
        raw: nnU-Net's ``nnUNet_raw``; the folder ``DatasetXXX_ATLAS`` is made in it.
        dataset_id: XXX, 1 to 999.
        preprocessed: nnU-Net's ``nnUNet_preprocessed``, where a split goes to; None leaves it in the data set only.
        split: "paper" for :func:`~nnunet_ici.datasets.splits.paper_split`, None for none.
        seed: of the split.
        binarize: accept masks with other values than 0 and 1: what is above 0 is lesion.
        skip_bad: leave out what has a problem, and list it in ``skipped.csv``.
        symlink: link the files that can be used as they are, in the place of copying them.
        processes: that read and write.

    Raises:
        BadInputError: with everything that is wrong, by path; without ``skip_bad`` that includes any bad file.
    """
    name = f"Dataset{dataset_id:03d}_ATLAS"
    problems = _check_target(raw, dataset_id)
    if problems:
        raise BadInputError(problems)

    sessions, bad = find_sessions(source)
    metadata, bad_metadata = read_metadata(source)
    bad += bad_metadata
    reports = in_parallel(partial(check_session, binarize=binarize), sessions, processes, "check")
    bad += [problem for report in reports for problem in report.problems]
    good = [(session, report) for session, report in zip(sessions, reports, strict=True) if not report.problems]
    training = [session for session, _ in good if session.mask is not None]
    if not skip_bad and bad:
        raise BadInputError(bad, skippable=bool(training))
    if not training:
        raise BadInputError([*bad, Problem(source, "no case left to convert. Expected: one with a mask. Got: none")])

    splits: Split | None = None
    split_target = None if preprocessed is None else preprocessed / name / SPLITS_NAME
    if split == "paper":
        try:
            splits = paper_split(training, seed)
        except ValueError as error:
            raise BadInputError([Problem(source, str(error))]) from error
        if split_target is not None and split_target.exists() and _read_json(split_target) != splits:
            what = "another split is there. Expected: none, or the same. Got: a different one; move it away"
            raise BadInputError([Problem(split_target, what)])

    with complete_or_absent(raw / name) as folder:
        write = partial(_write_session, folder=folder, binarize=binarize, symlink=symlink)
        in_parallel(write, good, processes, "convert")
        _write_tables(folder, good, metadata, bad)
        _write_dataset_json(folder, len(training))
        if splits is not None:
            _write_json(folder / SPLITS_NAME, splits)
    written = []
    if splits is not None:
        written.append(raw / name / SPLITS_NAME)
        if split_target is not None:
            split_target.parent.mkdir(parents=True, exist_ok=True)
            _write_json(split_target, splits)
            written.append(split_target)
    return Converted(raw / name, [session for session, _ in good], bad, metadata, written)


def _check_target(raw: Path, dataset_id: int) -> list[Problem]:
    if not 1 <= dataset_id <= 999:
        return [Problem(raw, f"no such data set number. Expected: 1 to 999. Got: {dataset_id}")]
    taken = sorted(raw.glob(f"Dataset{dataset_id:03d}_*"))
    return [Problem(path, "the target folder exists. Expected: none with this number. Got: this one") for path in taken]


def _write_session(item: tuple[Session, Report], folder: Path, binarize: bool, symlink: bool) -> None:
    """Write the image and the label of one session."""
    session, report = item
    part = "Ts" if session.mask is None else "Tr"
    images = folder / f"images{part}"
    images.mkdir(exist_ok=True)
    target = images / f"{session.case}_0000{FILE_ENDING}"
    if session.image.name.endswith(FILE_ENDING):
        _place(session.image, target, symlink)
    else:
        sitk.WriteImage(read_image(session.image), str(target))
    if session.mask is None:
        return
    labels = folder / "labelsTr"
    labels.mkdir(exist_ok=True)
    target = labels / f"{session.case}{FILE_ENDING}"
    if report.mask_is_ready:
        _place(session.mask, target, symlink)
        return
    mask = read_image(session.mask)
    label = sitk.GetImageFromArray(binary_mask(sitk.GetArrayFromImage(mask), binarize))
    label.CopyInformation(mask)
    sitk.WriteImage(label, str(target))


def _place(source: Path, target: Path, symlink: bool) -> None:
    if symlink:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)


def _write_tables(
    folder: Path, good: Sequence[tuple[Session, Report]], metadata: Metadata, bad: Sequence[Problem]
) -> None:
    """Write cases.csv and, where something was left out, skipped.csv."""
    header = ["case", "split", "site", "subject", "session", "lesion_count", "lesion_volume_mm3", *metadata.columns]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for session, report in good:
            part = "test" if session.mask is None else "train"
            volume = "" if report.lesion_volume_mm3 is None else f"{report.lesion_volume_mm3:g}"
            count = "" if report.lesion_count is None else report.lesion_count
            cells = metadata.of(session).values()
            writer.writerow([session.case, part, session.site, session.subject, session.session, count, volume, *cells])
    if bad:
        with (folder / SKIPPED_NAME).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["path", "problem"], *([problem.path, problem.what] for problem in bad)])


def _write_dataset_json(folder: Path, training: int) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    generate_dataset_json(
        str(folder),
        channel_names={0: "T1w"},
        labels={"background": 0, "lesion": 1},
        num_training_cases=training,
        file_ending=FILE_ENDING,
        dataset_name="ATLAS",
        release="R2.0",
        reference="https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
        description="Anatomical Tracings of Lesions After Stroke, T1w in MNI152NLin2009aSym",
        citation="Liew et al., Scientific Data 9:320, 2022, doi 10.1038/s41597-022-01401-7",
        license="see the data-use agreement of ATLAS",
        converted_by="nnunet_ici convert-atlas",
    )


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
