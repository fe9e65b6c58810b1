"""The kernels whose programs share memory, step by step, with one generator per lane: see tests/schedules.py.

``_unite``, ``union_kernel`` and ``flatten_kernel`` of _triton_label.py, ``pairs_kernel`` and ``_add_tile`` of
_triton_sums.py. Names and order of the steps are those of the kernels; test_kernel_steps.py compares the memory
operations of both. Here the lanes of a program run independently. On a GPU some of them run in lockstep, which is one
of the interleavings.
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
        node = parent


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
    """One image and its tiles: bool (H, W) or (D, H, W); tiles of ``width`` voxels of a row."""

    def __init__(self, mask: np.ndarray, width: int, faces: bool) -> None:
        self.mask = mask
        self.bits = mask.reshape(-1).tolist()
        self.axes = mask.ndim
        self.height, self.width = mask.shape[-2:]
        self.tile_width, self.faces = width, faces

    @property
    def foreground(self) -> list[int]:
        return [voxel for voxel, bit in enumerate(self.bits) if bit]

    def run_starts(self) -> list[int]:
        """parent as ``init_kernel`` leaves it; -1 off the foreground."""
        starts: list[int] = []
        for voxel, bit in enumerate(self.bits):
            continues = voxel % self.width % self.tile_width > 0 and self.bits[voxel - 1]
            starts.append(-1 if not bit else starts[-1] if continues else voxel)
        return starts

    def union_lanes(self) -> list[Lane]:
        return [self._union(voxel) for voxel in self.foreground]

    def _union(self, voxel: int) -> Lane:
        row, x = divmod(voxel, self.width)
        left = x > 0 and self.bits[voxel - 1]
        right = x < self.width - 1 and self.bits[voxel + 1]
        if left and x % self.tile_width == 0:
            yield from unite(voxel, voxel - 1)
        y = row % self.height
        if y > 0:
            yield from self._join_row(voxel, voxel - self.width, x, left, right)
        if self.axes == 3 and row >= self.height:
            for dy in (0,) if self.faces else (-1, 0, 1):
                if 0 <= y + dy < self.height:
                    yield from self._join_row(voxel, voxel + (dy - self.height) * self.width, x, left, right)

    def _join_row(self, voxel: int, other: int, x: int, left: bool, right: bool) -> Lane:
        straight = self.bits[other]
        before = x > 0 and self.bits[other - 1]
        after = x < self.width - 1 and self.bits[other + 1]
        if straight and not (left and before):
            yield from unite(voxel, other)
        if not self.faces:
            if before and not straight and not left:
                yield from unite(voxel, other - 1)
            if after and not straight and not right:
                yield from unite(voxel, other + 1)

    def flatten_lanes(self) -> list[Lane]:
        return [self._flatten(voxel) for voxel in self.foreground]

    @staticmethod
    def _flatten(voxel: int) -> Lane:
        root = yield from find(voxel)
        yield "store", voxel, root


def pairs_lane(at: int, candidates: int, preds: int, capacity: int) -> Lane:
    """Memory: pair (2, candidates), then seen (capacity + 1,)."""
    label = yield "plain load", at
    pred = yield "plain load", candidates + at
    key = label * (preds + 1) + pred
    slot = (_wrapped(key * -7046029254386353131) >> 20) & (capacity - 1)
    while True:
        found = yield from atomic_cas(2 * candidates + slot, 0, key)
        if found in (0, key):
            break
        slot = (slot + 1) & (capacity - 1)
    if found != 0:
        yield "store", at, 0
        yield "store", candidates + at, 0


def _wrapped(value: int) -> int:
    """The value as int64."""
    return (value + 2**63) % 2**64 - 2**63


def add_tile_lanes(columns: int, ids: Sequence[int], rows: Sequence[Sequence[int]]) -> list[Lane]:
    """The lanes of one tile: first the lane that adds whole instances, then one lane per voxel.

    Memory: table (len(rows), columns). ids: the instance of each voxel, 0 for none; rows: what each voxel adds.
    """
    left = [i for i, id_ in enumerate(ids) if id_ > 0]
    at_once: list[tuple[int, int]] = []
    turn = 0
    while left and turn < 4:
        first = min(ids[i] for i in left)
        mine = [i for i in left if ids[i] == first]
        at_once.extend((r * columns + first, sum(row[i] for i in mine)) for r, row in enumerate(rows))
        turn += 1
        left = [i for i in left if ids[i] != first]
    by_voxel = [[(r * columns + ids[i], row[i]) for r, row in enumerate(rows)] for i in left]
    return [_add(at_once), *map(_add, by_voxel)]


def _add(steps: Sequence[tuple[int, int]]) -> Lane:
    for address, value in steps:
        yield from atomic_add(address, value)
