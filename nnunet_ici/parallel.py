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
    """Hold back Ctrl-C until the end of the block, and keep it from the processes that are started there.

    The mask, which these processes inherit, is that of this thread alone. Another thread may take the signal, and
    Python then interrupts the main thread all the same, so its handler is replaced too.
    """
    held: list[int] = []
    # Handlers are those of the main thread; None is one that is not Python's.
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
    """In a worker: end when the process that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
