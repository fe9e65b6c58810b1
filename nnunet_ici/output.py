"""Atomic output: files and folders are written completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_ici.parallel import uninterrupted

__all__ = ["complete_or_absent", "replace_files", "write_file"]


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """A temporary folder next to the target that is renamed to the target at the end of the block.

    The target must be absent or empty. On an error the temporary folder is removed.
    """
    with _removed_on_error(target.with_name(f".{target.name}.{os.getpid()}.part")) as partial:
        yield partial
        with uninterrupted():
            if target.exists():
                target.rmdir()
            partial.rename(target)


@contextmanager
def replace_files(folder: Path) -> Iterator[Path]:
    """A temporary folder whose content is moved into a folder at the end of the block, replacing existing entries.

    Other entries of the folder are kept. On an error in the block, the folder stays unchanged.
    """
    new = not folder.exists()
    try:
        with _removed_on_error(folder / f".{os.getpid()}.part") as partial:
            yield partial
            with uninterrupted():
                for path in sorted(partial.iterdir()):
                    target = folder / path.name
                    if target.is_dir():
                        shutil.rmtree(target)
                    path.replace(target)
                partial.rmdir()
    except BaseException:  # Ctrl-C too
        if new:
            folder.rmdir()
        raise


@contextmanager
def _removed_on_error(partial: Path) -> Iterator[Path]:
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, and create missing parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise
