"""Which network a threshold belongs to: the files in the folder of a fold, and fingerprints of checkpoints."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["BEST", "FINAL", "THRESHOLD_FILE", "TUNED", "fingerprint", "outdated", "read_choice"]

FINAL, BEST, TUNED = "checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_tuned.pth"
# Beside them: the choice, and the checkpoint whose probabilities it was made on.
THRESHOLD_FILE = "threshold.json"


def fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits that change with any tensor of a checkpoint.

    They are computed from the sizes and checksums in the directory of the file (torch writes zip files), so that
    nothing is loaded. Training logs in the checkpoint do not count, and copies have the same fingerprint.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as file:
            found = [(one.filename.partition("/")[2], one.file_size, one.CRC) for one in file.infolist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read. Expected: a checkpoint of nnU-Net. Got: {error}") from error
    tensors = sorted(one for one in found if one[0].startswith("data/"))
    return hashlib.sha256(repr(tensors).encode()).hexdigest()[:16]


def read_choice(fold: Path) -> dict[str, Any]:
    """The content of :data:`THRESHOLD_FILE` in a fold's folder; empty if there is none, or it cannot be read."""
    try:
        content = json.loads((fold / THRESHOLD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def outdated(fold: Path, record: Mapping[str, Any] | None = None) -> str:
    """One sentence if the network of a fold was trained again after its threshold was chosen, else an empty string.

    Args:
        fold: folder of the fold.
        record: record of a tuned checkpoint of this fold; by default the one in :data:`THRESHOLD_FILE`.
    """
    known = (read_choice(fold) if record is None else record).get("network", {}).get(fold.name)
    if not isinstance(known, dict) or not (fold / TUNED).is_file():
        return ""
    path = fold / str(known.get("checkpoint"))
    try:
        now = fingerprint(path)
    except ValueError:
        return ""  # nothing to compare with, as after an export of the tuned checkpoint alone
    if now == known.get("fingerprint"):
        return ""
    return (
        f"{fold / TUNED} belongs to an earlier network. Expected: that of {path.name}, fingerprint "
        f"{known.get('fingerprint')}. Got: {path.name} with fingerprint {now}, which has changed since; choose again "
        "(nnUNetv2_train ... --val) or delete it"
    )
