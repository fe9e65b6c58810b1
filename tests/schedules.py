"""Memory of a GPU with relaxed ordering, and a scheduler that interleaves lanes of a kernel at random.

A lane is a generator. It yields one memory operation at a time and is sent what the operation returns:

    ("load", address)              a volatile load
    ("plain load", address)
    ("store", address, value)
    ("min", address, value)        atomic; returns the value before
    ("add", address, value)        atomic; returns the value before
    ("cas", address, compared, value)  atomic; returns the value before

Atomic operations act on the newest value. A volatile load returns any value that the address has held since the launch,
but none older than what the same lane has read from it or written to it before (coherence). A plain load returns any
value since the launch that is not older than the lane's own last write to the address. At the launch of a kernel every
earlier write is visible.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

Operation = tuple[Any, ...]
Lane = Generator[Operation, int, None]


class Memory:
    """Values by address, and for each address all values since the launch.

    Args:
        values: values at the launch, by address 0, 1, ...
        choose: index of the value that a load returns, given the oldest permitted index and the newest.
    """

    def __init__(self, values: Iterable[int], choose: Callable[[int, int], int]) -> None:
        self.history = [[value] for value in values]
        self.choose = choose
        self.read: dict[tuple[int, int], int] = defaultdict(int)  # by lane and address: the newest index read
        self.written: dict[tuple[int, int], int] = defaultdict(int)

    @property
    def values(self) -> list[int]:
        """The newest values."""
        return [history[-1] for history in self.history]

    def perform(self, lane: int, operation: Operation) -> int:
        """Perform an operation of a lane and return its result."""
        kind, address, *given = operation
        history, key = self.history[address], (lane, address)
        newest = len(history) - 1
        if kind in ("load", "plain load"):
            oldest = max(self.written[key], self.read[key] if kind == "load" else 0)
            at = self.choose(oldest, newest)
            if kind == "load":
                self.read[key] = at
            return history[at]
        before = history[-1]
        if kind == "store":
            history.append(given[0])
        elif kind == "min":
            history.append(min(before, given[0]))
        elif kind == "add":
            history.append(before + given[0])
        elif kind == "cas":
            history.append(given[1] if before == given[0] else before)
        else:
            raise ValueError(f"unknown operation. Got: {kind}")
        self.read[key] = self.written[key] = newest + 1
        return before


def launch(values: Sequence[int], lanes: Sequence[Lane], schedule: random.Random | None = None) -> list[int]:
    """Run the lanes of one kernel.

    Args:
        values: memory before the launch.
        lanes: one generator for each lane.
        schedule: source of the interleaving and of the values that loads return; None runs one lane after the other on
            the newest values.

    Returns:
        Memory after the launch.
    """
    if schedule is None:
        memory = Memory(values, lambda oldest, newest: newest)
        for number, lane in enumerate(lanes):
            result = None
            while (operation := _advance(lane, result)) is not None:
                result = memory.perform(number, operation)
        return memory.values

    stale = schedule.choice([0, 0.3, 0.9])

    def choose(oldest: int, newest: int) -> int:
        return schedule.randint(oldest, newest) if schedule.random() < stale else newest

    memory = Memory(values, choose)
    waiting = {number: (lane, _advance(lane, None)) for number, lane in enumerate(lanes)}
    waiting = {number: entry for number, entry in waiting.items() if entry[1] is not None}
    # Shares of the steps differ by a factor of up to 1,000, so that some lanes sleep while others finish.
    spread = schedule.choice([0, 1, 3])
    weight = {number: 10 ** schedule.uniform(0, spread) for number in waiting}
    burst = schedule.choice([1, 1, 4])
    while waiting:
        numbers = list(waiting)
        (number,) = schedule.choices(numbers, [weight[number] for number in numbers])
        for _ in range(schedule.randint(1, burst)):
            lane, operation = waiting[number]
            after = _advance(lane, memory.perform(number, operation))
            if after is None:
                del waiting[number]
                break
            waiting[number] = lane, after
    return memory.values


def _advance(lane: Lane, result: int | None) -> Operation | None:
    """The next operation of a lane, None at its end."""
    try:
        return next(lane) if result is None else lane.send(result)
    except StopIteration:
        return None
