"""Union-find, hash table, sums and cubes of the kernels under random interleavings and stale reads, against SciPy.

    python -m tests.test_races 10000

runs that many schedules of each; the tests run a few hundred, and check that broken algorithms are detected.
"""

from __future__ import annotations

import random
import sys
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from tests import kernel_steps
from tests.kernel_steps import Image, add_tile_lanes, draw_lane, find, insert_lane, merge
from tests.schedules import launch

FAST = 300


def first_blocks(image: Image) -> list[int]:
    """By SciPy: the first block of the component of each block, its own index off the foreground."""
    padded = np.pad(image.mask, [(0, n % 2) for n in image.mask.shape])
    labels, _ = ndimage.label(padded, np.ones((3, 3, 3)))
    of_block = labels[::2, ::2, ::2].copy()
    for corner in np.ndindex(2, 2, 2):
        np.maximum(of_block, labels[tuple(slice(i, None, 2) for i in corner)], out=of_block)
    _, first, inverse = np.unique(of_block, return_index=True, return_inverse=True)
    return np.where(of_block.ravel() > 0, first[inverse.ravel()], np.arange(of_block.size)).tolist()


def random_image(rng: random.Random) -> Image:
    shape = rng.choice([(1, 8, 9), (1, 12, 7), (1, 6, 18), (4, 5, 8), (5, 6, 6), (6, 3, 4)])
    mask = np.array([rng.random() for _ in range(int(np.prod(shape)))]).reshape(shape) < rng.choice([0.1, 0.2, 0.4, 1])
    return Image(mask)


def union_find_fails(seed: int) -> bool:
    """Label one random image under one random schedule, and compare its roots with SciPy's components."""
    rng = random.Random(seed)
    image = random_image(rng)
    joined = launch(image.start(), image.union_lanes(), rng)
    return launch(joined, image.flatten_lanes(), rng) != first_blocks(image)


def pairs_fail(seed: int) -> bool:
    """Whether a pair is lost or kept twice, also where the table is full."""
    rng = random.Random(seed)
    keys = [rng.randint(1, 12) for _ in range(rng.randint(1, 14))]
    capacity = 1 << (len(keys) - 1).bit_length()
    after = launch([0] * capacity, [insert_lane(key, capacity) for key in keys], rng)
    return Counter(key for key in after if key) != Counter(set(keys))


def sums_fail(seed: int) -> bool:
    """Whether a sum of several tiles differs from the sum of its blocks."""
    rng = random.Random(seed)
    rows = rng.randint(2, 8)
    table, lanes = np.zeros((rng.choice([2, 4, 7]), rows), np.int64), []
    for _ in range(4):
        roots = np.array([rng.randrange(-1, rows) for _ in range(8)])
        columns = np.array([[rng.randrange(-(2**33), 2**33) for _ in roots] for _ in table])
        lanes += add_tile_lanes(rows, roots.tolist(), columns.tolist())
        np.add.at(table.T, roots[roots >= 0], columns[:, roots >= 0].T)
    return launch([0] * table.size, lanes, rng) != table.reshape(-1).tolist()


def cubes_fail(seed: int) -> bool:
    """Whether a voxel does not end with the highest of the cubes drawn there, and all flags."""
    rng = random.Random(seed)
    ranks = [rng.randint(1, 3) for _ in range(8)]
    drawn = [(rng.randrange(3), 4 * (1 + cube) + rng.randint(1, 2)) for cube in range(8)]
    expected = [0] * 3
    for address, entry in drawn:
        expected[address] = merge(entry, expected[address], ranks)
    return launch([0] * 3, [draw_lane(*one, ranks) for one in drawn], rng) != expected


CHECKS = {
    "union-find": union_find_fails,
    "hash table of pairs": pairs_fail,
    "sums": sums_fail,
    "center cubes": cubes_fail,
}


@pytest.mark.parametrize("name", CHECKS)
def test_every_schedule_gives_the_same_result(name):
    assert [seed for seed in range(FAST) if CHECKS[name](seed)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_ten_thousand_schedules(name):
    assert [seed for seed in range(FAST, FAST + 10_000) if CHECKS[name](seed)] == []


def min_in_three_steps(address, value):
    before = yield "load", address
    yield "store", address, min(before, value)
    return before


def cas_in_three_steps(address, compared, value):
    before = yield "load", address
    if before == compared:
        yield "store", address, value
    return before


def add_in_three_steps(address, value):
    before = yield "load", address
    yield "store", address, before + value
    return before


def unite_without_the_displaced_parent(a, b):
    a = yield from find(a)
    b = yield from find(b)
    if a != b:
        yield from kernel_steps.atomic_min(max(a, b), min(a, b))
    return min(a, b)


def find_one_step(node):
    return (yield "load", node)


def find_with_plain_stores(node):
    """A late store may take its root away from a node again."""
    while (parent := (yield "load", node)) != node:
        above = yield "load", parent
        if above != parent:
            yield "store", node, above
        node = above
    return node


@pytest.mark.parametrize(
    ("name", "step", "broken"),
    [
        ("union-find", "atomic_min", min_in_three_steps),
        ("union-find", "unite", unite_without_the_displaced_parent),
        ("union-find", "find", find_one_step),
        ("union-find", "find", find_with_plain_stores),
        ("hash table of pairs", "atomic_cas", cas_in_three_steps),
        ("sums", "atomic_add", add_in_three_steps),
        ("center cubes", "atomic_cas", cas_in_three_steps),
    ],
)
def test_broken_algorithms_are_detected(name, step, broken, monkeypatch):
    monkeypatch.setattr(kernel_steps, step, broken)
    assert any(CHECKS[name](seed) for seed in range(FAST))


if __name__ == "__main__":
    schedules = int(sys.argv[1])
    for title, check in CHECKS.items():
        wrong = [seed for seed in range(schedules) if check(seed)]
        print(f"{title}: {schedules} schedules, {len(wrong)} wrong {wrong[:5]}", flush=True)
