"""Work on many cases: in parallel, with progress, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

__all__ = ["complete_or_absent", "in_parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, which must be absent or empty, that becomes it at the end; where there is
    an error it is removed."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int, description: str
) -> list[Result]:
    """The function's results, in order, with a progress bar."""
    if processes == 1 or len(items) < 2:
        return [function(item) for item in tqdm(items, desc=description, unit="case")]
    # Spawned, as ITK's threads in this process would not survive a fork.
    with ProcessPoolExecutor(min(processes, len(items)), multiprocessing.get_context("spawn")) as pool:
        try:
            return list(tqdm(pool.map(function, items), total=len(items), desc=description, unit="case"))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
