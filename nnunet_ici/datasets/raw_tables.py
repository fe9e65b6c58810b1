"""The tables beside the images of a converted data set, and its dataset.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nnunet_ici.datasets.atlas import Problem, Session
from nnunet_ici.datasets.atlas_checks import Report
from nnunet_ici.datasets.atlas_metadata import Metadata
from nnunet_ici.datasets.atlas_releases import Release

__all__ = [
    "EXCLUDED_NAME",
    "FILE_ENDING",
    "SKIPPED_NAME",
    "WARNINGS_NAME",
    "read_json",
    "write_dataset_json",
    "write_json",
    "write_tables",
]

FILE_ENDING = ".nii.gz"
SKIPPED_NAME = "skipped.csv"
WARNINGS_NAME = "warnings.csv"
EXCLUDED_NAME = "excluded.csv"


def write_tables(
    folder: Path,
    good: Sequence[tuple[Session, Report]],
    metadata: Metadata,
    bad: Sequence[Problem],
    warnings: Sequence[Problem],
    excluded: Mapping[str, str],
) -> None:
    """Write the tables; those without a row are left out.

    ``cases.csv`` has the sessions that were converted, ``skipped.csv`` the problems of others, ``warnings.csv`` what
    may be wrong with those converted, and ``excluded.csv`` the sessions that were to be left out. Volumes are in mm3,
    on each image's own grid.
    """
    header = ["case", "split", "site", "subject", "session", "lesion_count", "lesion_volume_mm3", *metadata.columns]
    rows = []
    for session, report in good:
        part = "test" if session.mask is None else "train"
        volume = "" if report.lesion_volume_mm3 is None else f"{report.lesion_volume_mm3:g}"
        count = "" if report.lesion_count is None else str(report.lesion_count)
        cells = metadata.of(session).values()
        rows.append([session.case, part, session.site, session.subject, session.session, count, volume, *cells])
    _write_csv(folder / "cases.csv", header, rows)
    for name, what, found in ((SKIPPED_NAME, "problem", bad), (WARNINGS_NAME, "warning", warnings)):
        if found:
            _write_csv(folder / name, ["path", what], ([str(each.path), each.what] for each in found))
    if excluded:
        _write_csv(folder / EXCLUDED_NAME, ["case", "ATLAS2_DATASET"], excluded.items())


def write_dataset_json(folder: Path, training: int, release: Release, space: str, reader: str | None) -> None:
    """Write nnU-Net's dataset.json.

    Args:
        folder: the data set.
        training: number of training cases.
        release: which one it is.
        space: the space of the images, in words.
        reader: the class of nnU-Net that should read the images; None where any can.
    """
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    generate_dataset_json(
        str(folder),
        channel_names={0: "T1w"},
        labels={"background": 0, "lesion": 1},
        num_training_cases=training,
        file_ending=FILE_ENDING,
        dataset_name="ATLAS",
        release=release.name,
        reference=release.reference,
        description=f"Anatomical Tracings of Lesions After Stroke, T1w in {space}",
        overwrite_image_reader_writer=reader,
        citation=release.citation,
        license="see the data-use agreement of ATLAS",
        converted_by="nnunet_ici convert-atlas",
    )


def read_json(path: Path) -> object:
    """The content; None for a file that is not JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def write_json(path: Path, content: object) -> None:
    """Write with an indent, as nnU-Net does."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
