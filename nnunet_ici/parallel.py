"""Processing of many cases in parallel, with a progress bar."""

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
    """Apply a function to all items in several processes, with a progress bar.

    Ctrl-C and errors terminate all processes.

    Args:
        function: picklable function of one item.
        items: picklable items.
        processes: number of processes; with 1, or fewer than 2 items, everything runs in this process.
        description: text of the progress bar.

    Returns:
        The results, in the order of the items.
    """
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
    # Spawn instead of fork, because ITK's threads in this process would not survive a fork.
    context = multiprocessing.get_context("spawn")
    before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(processes, context, initializer=_end_with_parent)
    try:
        resource_tracker.ensure_running()  # starting it inside the block would unblock Ctrl-C
        with uninterrupted():  # the processes inherit the signal mask, so that only this process receives Ctrl-C
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
    """Defer Ctrl-C until the end of the block, and block it in processes that are started in the block.

    These processes inherit the signal mask of this thread. The mask does not stop other threads from receiving the
    signal, in which case Python would still interrupt the main thread. Its handler is therefore replaced as well.
    """
    held: list[int] = []
    # Handlers can be set in the main thread only; getsignal returns None for a handler not installed from Python.
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
            if held:
                signal.raise_signal(signal.SIGINT)


def _end_with_parent() -> None:
    """In a worker process: exit as soon as the parent process has ended, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
