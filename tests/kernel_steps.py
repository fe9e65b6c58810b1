"""The kernels whose programs share memory, step by step, with one generator per lane: see tests/schedules.py.

``union_kernel``, the roots of ``measure_kernel``, its hash table of pairs, its sums, and ``draw_kernel``. Names and
order of the steps are those of the kernels; test_kernel_steps.py compares the memory operations of both. Here the lanes
of a program run independently. On a GPU some of them run in lockstep, which is one of the interleavings.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from tests.schedules import Lane, Operation

Step = Generator[Operation, int, int]


def atomic_min(address: int, value: int) -> Step:
    return (yield "min", address, value)


def atomic_cas(address: int, compared: int, value: int) -> Step:
    return (yield "cas", address, compared, value)


def atomic_add(address: int, value: int) -> Step:
    return (yield "add", address, value)


def find(node: int) -> Step:
    while True:
        parent = yield "load", node
        if parent == node:
            return node
        above = yield "load", parent
        if above == parent:
            return parent
        yield from atomic_min(node, above)
        node = above


def unite(a: int, b: int) -> Step:
    while True:
        a = yield from find(a)
        b = yield from find(b)
        high, low = max(a, b), min(a, b)
        if high == low:
            return low
        found = yield from atomic_min(high, low)
        if found == high:
            return low
        a, b = found, low


class Image:
    """The blocks of one image, bool (D, H, W); parents by index of the block."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        padded = np.pad(mask, [(0, n % 2) for n in mask.shape])
        depth, height, width = (n // 2 for n in padded.shape)
        self.shape = (depth, height, width)
        self.voxels = padded.reshape(depth, 2, height, 2, width, 2).transpose(0, 2, 4, 1, 3, 5)
        self.foreground = [int(block) for block in np.flatnonzero(self.voxels.any((3, 4, 5)))]

    def start(self) -> list[int]:
        return list(range(int(np.prod(self.shape))))

    def touch(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Whether voxels of two blocks, given by position, touch: all those on the sides that face each other do."""
        if not all(0 <= i < n for place in (a, b) for i, n in zip(place, self.shape, strict=True)):
            return False
        steps = [j - i for i, j in zip(a, b, strict=True)]
        sides = [{-1: 0, 0: slice(None), 1: 1}[step] for step in steps]
        opposite = [{-1: 1, 0: slice(None), 1: 0}[step] for step in steps]
        return bool(self.voxels[(*a, *sides)].any() and self.voxels[(*b, *opposite)].any())

    def union_lanes(self) -> list[Lane]:
        return [self._union(block) for block in self.foreground]

    def _union(self, block: int) -> Lane:
        z, y, x = (int(i) for i in np.unravel_index(block, self.shape))
        if self.touch((z, y, x), (z, y, x - 1)):
            yield from unite(block, block - 1)
        yield from find(block)
        for dz, dy in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
            yield from self._join_row(block, (z, y, x), dz, dy)

    def _join_row(self, block: int, place: tuple[int, int, int], dz: int, dy: int) -> Lane:
        z, y, x = place
        left, right = (z, y, x - 1), (z, y, x + 1)
        straight, before, after = ((z + dz, y + dy, x + dx) for dx in (0, -1, 1))
        other = block + (dz * self.shape[1] + dy) * self.shape[2]
        meets = self.touch(place, straight)
        by_left = self.touch(place, left) and self.touch(left, before)
        by_right = self.touch(place, right) and self.touch(right, after)
        if meets and not (by_left and self.touch(straight, before)):
            yield from unite(block, other)
        if self.touch(place, before) and not by_left and not (meets and self.touch(straight, before)):
            yield from unite(block, other - 1)
        if self.touch(place, after) and not by_right and not (meets and self.touch(straight, after)):
            yield from unite(block, other + 1)

    def flatten_lanes(self) -> list[Lane]:
        return [self._flatten(block) for block in self.foreground]

    @staticmethod
    def _flatten(block: int) -> Lane:
        root = yield from find(block)
        yield "store", block, root


def insert_lane(key: int, capacity: int) -> Lane:
    """Memory: slots (capacity,)."""
    slot = (_wrapped(key * -7046029254386353131) >> 20) & (capacity - 1)
    while True:
        found = yield "load", slot
        if found == 0:
            found = yield from atomic_cas(slot, 0, key)
        if found in (0, key):
            return
        slot = (slot + 1) & (capacity - 1)


def _wrapped(value: int) -> int:
    """The value as int64."""
    return (value + 2**63) % 2**64 - 2**63


def merge(a: int, b: int, ranks: Sequence[int]) -> int:
    """Two entries of a voxel: 4 * (1 + cube) + flags."""
    higher = max((entry for entry in (a, b) if entry), key=lambda entry: (ranks[entry // 4 - 1], -(entry // 4)))
    return higher // 4 * 4 | (a | b) & 3


def draw_lane(address: int, entry: int, ranks: Sequence[int]) -> Lane:
    """One voxel of a cube. Memory: the map."""
    while True:
        found = yield "load", address
        merged = merge(entry, found, ranks)
        if merged == found or (yield from atomic_cas(address, found, merged)) == found:
            return


def add_tile_lanes(rows: int, roots: Sequence[int], columns: Sequence[Sequence[int]]) -> list[Lane]:
    """The lanes of one tile: first the lane that adds whole instances, then one lane per block.

    Memory: tables (len(columns), rows). roots: the row of each block, -1 for none; columns: what each block adds.
    """
    left = [i for i, root in enumerate(roots) if root >= 0]
    at_once: list[tuple[int, int]] = []
    turn = 0
    while left and turn < 4:
        first = min(roots[i] for i in left)
        mine = [i for i in left if roots[i] == first]
        at_once.extend((c * rows + first, sum(column[i] for i in mine)) for c, column in enumerate(columns))
        turn += 1
        left = [i for i in left if roots[i] != first]
    by_block = [[(c * rows + roots[i], column[i]) for c, column in enumerate(columns)] for i in left]
    return [_add(at_once), *map(_add, by_block)]


def _add(steps: Sequence[tuple[int, int]]) -> Lane:
    for address, value in steps:
        yield from atomic_add(address, value)
