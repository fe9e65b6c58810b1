"""Processing of many cases in parallel. Ctrl-C is tested in test_interrupt.py."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from nnunet_ici.parallel import in_parallel


def wait_for(seconds):
    """Return the argument after that many seconds."""
    time.sleep(seconds)
    return seconds


def process_id(_):
    """Return the id of this process, after a while."""
    time.sleep(0.1)
    return os.getpid()


def end(how):
    """End this process by a signal, or do nothing."""
    if how:
        os.kill(os.getpid(), how)
    time.sleep(0.01)


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("items", [[], [0.1], [0.3, 0.0, 0.1, 0.0, 0.0]])
def test_results_have_the_order_of_the_items(processes, items):
    assert in_parallel(wait_for, items, processes, "wait") == items


def test_every_process_works():
    assert len(set(in_parallel(process_id, range(6), 3, "wait"))) == 3  # each is sent one item at the start


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_error_in_the_order_of_the_items_is_raised(processes):
    with pytest.raises(ValueError, match=r"invalid literal for int.*'first'") as error:
        in_parallel(int, ["1", "first", "2", "second"], processes, "read")
    if processes == 2:
        assert "in _work" in str(error.value.__cause__)
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed():
    with pytest.raises(RuntimeError, match=r"A worker process ended unexpectedly\. It may have run out of memory"):
        in_parallel(end, [0, 0, signal.SIGKILL, *[0] * 1000], 2, "end")
    assert multiprocessing.active_children() == []
