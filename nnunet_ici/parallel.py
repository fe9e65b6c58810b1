"""Work on many cases in several processes, with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

from tqdm import tqdm

__all__ = ["in_parallel", "uninterrupted"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int, description: str
) -> list[Result]:
    """The function's results, in order, with a progress bar. Ctrl-C and errors leave no process behind."""
    with tqdm(desc=description, unit="case", total=len(items)) as progress:
        if processes == 1 or len(items) < 2:
            return _all(map(function, items), progress)
        return _in_processes(function, items, min(processes, len(items)), progress)


def _all(results: Iterable[Result], progress: tqdm) -> list[Result]:
    done = []
    for result in results:
        done.append(result)
        progress.update()
    return done


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int, progress: tqdm
) -> list[Result]:
    # Spawned, as ITK's threads in this process would not survive a fork.
    context = multiprocessing.get_context("spawn")
    before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(processes, context, initializer=_end_with_parent)
    try:
        resource_tracker.ensure_running()  # it would take Ctrl-C off the mask
        with uninterrupted():  # the processes inherit the mask: Ctrl-C is for this process alone
            results = pool.map(function, items)
        return _all(results, progress)
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """In a worker: end when the process that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
