"""Processing of many cases in parallel, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from traceback import format_exc
from typing import TypeVar, cast

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

    Raises:
        Exception: the exception that the function raised, of the first item for which it did.
        RuntimeError: if a worker process ended unexpectedly.
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
    # Not a Pool, a ProcessPoolExecutor or joblib: they wait forever if a worker is killed halfway through sending a
    # result, because all workers share one pipe, and this process holds both of its ends.
    # Spawn instead of fork, because ITK's threads in this process would not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, BaseProcess] = {}
    resource_tracker.ensure_running()  # starting it inside the block would unblock Ctrl-C
    try:
        with uninterrupted():  # the processes inherit the signal mask, so that only this process receives Ctrl-C
            for _ in range(processes):
                connection, of_worker = context.Pipe()
                worker = context.Process(target=_work, args=(function, of_worker))
                worker.start()
                workers[connection] = worker
                of_worker.close()  # with no other copy open, the pipe ends when the worker does
        return _all(_in_order(items, list(workers)), progress)
    except BaseException:
        for process in workers.values():
            process.kill()
        raise
    finally:
        for connection, process in workers.items():
            connection.close()  # ends the worker
            process.join()


def _in_order(items: Sequence[Item], connections: Sequence[Connection]) -> Iterator[Result]:
    """Yield the results in the order of the items. Each worker is sent its next item as soon as it is free."""
    waiting = iter(enumerate(items))
    number_at: dict[Connection, int] = {}
    done: dict[int, tuple[Result, None] | tuple[Exception, str]] = {}
    free = list(connections)
    for number in range(len(items)):
        while number not in done:
            try:
                for connection, (next_number, item) in zip(free, waiting, strict=False):
                    number_at[connection] = next_number
                    connection.send(item)
                free = cast(list[Connection], wait(list(number_at)))
                for connection in free:
                    done[number_at.pop(connection)] = connection.recv()
            except (EOFError, ConnectionError) as error:
                raise RuntimeError("A worker process ended unexpectedly. It may have run out of memory.") from error
        result, traceback = done.pop(number)
        if traceback is not None:
            raise cast(Exception, result) from RuntimeError(f"in a worker process:\n{traceback}")
        yield cast(Result, result)


def _work(function: Callable[[Item], Result], connection: Connection) -> None:
    """In a worker process: apply the function to every item received, until the other end of the pipe is closed."""
    _end_with_parent()
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            connection.send((function(item), None))
        except Exception as error:  # raised again by _in_order
            connection.send((error, format_exc()))


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
