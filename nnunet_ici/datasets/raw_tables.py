"""The files beside the images of a converted data set: cases.csv, skipped.csv, excluded.csv, dataset.json, splits."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nnunet_ici.datasets.atlas import Problem, Session
from nnunet_ici.datasets.atlas_checks import Report
from nnunet_ici.datasets.atlas_layouts import Layout
from nnunet_ici.datasets.atlas_metadata import Metadata
from nnunet_ici.datasets.atlas_releases import Release

__all__ = [
    "EXCLUDED_NAME",
    "FILE_ENDING",
    "SKIPPED_NAME",
    "read_json",
    "write_dataset_json",
    "write_json",
    "write_tables",
]

FILE_ENDING = ".nii.gz"
SKIPPED_NAME = "skipped.csv"
EXCLUDED_NAME = "excluded.csv"


def write_tables(
    folder: Path,
    good: Sequence[tuple[Session, Report]],
    metadata: Metadata,
    bad: Sequence[Problem],
    excluded: Mapping[str, str],
) -> None:
    """Write cases.csv, of what was converted, and, where there is any, skipped.csv, of what has problems, and
    excluded.csv, of what was to be left out.

    Volumes are in mm3, on each image's own grid.
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
    if bad:
        _write_csv(folder / SKIPPED_NAME, ["path", "problem"], ([str(each.path), each.what] for each in bad))
    if excluded:
        _write_csv(folder / EXCLUDED_NAME, ["case", "ATLAS2_DATASET"], excluded.items())


def write_dataset_json(folder: Path, training: int, release: Release, layout: Layout) -> None:
    """Write nnU-Net's dataset.json."""
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
        description=f"Anatomical Tracings of Lesions After Stroke, T1w in {layout.space}",
        overwrite_image_reader_writer=layout.reader,
        citation=release.citation,
        license="see the data-use agreement of ATLAS",
        converted_by="nnunet_ici convert-atlas",
    )


def read_json(path: Path) -> object:
    """The content, None for what is no JSON."""
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
