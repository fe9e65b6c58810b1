"""The tables and the dataset.json of a converted dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_ici.datasets.atlas import Problem, Session
from nnunet_ici.datasets.atlas_checks import Report
from nnunet_ici.datasets.atlas_metadata import Metadata
from nnunet_ici.output import write_file

__all__ = ["EXCLUDED_NAME", "FILE_ENDING", "SKIPPED_NAME", "WARNINGS_NAME", "write_dataset_json", "write_json"]
__all__ += ["write_tables"]

ATLAS_PAGE = "https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html"
LIEW = "Liew et al., Scientific Data 9:320, 2022, doi 10.1038/s41597-022-01401-7"
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


def write_dataset_json(folder: Path, training: int, release: str, space: str, reader: str | None) -> None:
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
