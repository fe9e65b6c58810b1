"""Atomic output: files and folders are written completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnunet_ici.parallel import uninterrupted

__all__ = ["complete_or_absent", "replace_files", "write_file"]


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """A temporary folder next to the target that is renamed to the target at the end of the block.

    The target must be absent or empty. On an error the temporary folder is removed.
    """
    with _undone_on_error(target.with_name(f".{target.name}.{os.getpid()}.part")) as partial:
        partial.mkdir()
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
    with _undone_on_error(folder / f".{os.getpid()}.part") as partial:
        partial.mkdir()
        yield partial
        with uninterrupted():
            for path in sorted(partial.iterdir()):
                target = folder / path.name
                if target.is_dir():
                    shutil.rmtree(target)
                path.replace(target)
            partial.rmdir()


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, and create missing parent folders."""
    with _undone_on_error(path.with_name(f".{path.name}.{os.getpid()}.part")) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)


@contextmanager
def _undone_on_error(partial: Path) -> Iterator[Path]:
    """Create the parent folders of a path. After an error, remove them again, and what the block left at the path."""
    new = [folder for folder in partial.parents if not folder.exists()]
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.unlink()
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise
