"""Union-find, hash table and sums of the kernels under random interleavings and stale reads, against SciPy.

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
from tests.kernel_steps import Image, add_tile_lanes, find, pairs_lane
from tests.schedules import launch

FAST = 300


def first_voxels(image: Image) -> list[int]:
    """By SciPy: the first voxel of the component of each voxel, -1 off the foreground."""
    labels, _ = ndimage.label(image.mask, None if image.faces else np.ones((3,) * image.axes))
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.where(image.mask.reshape(-1), first[inverse.reshape(-1)], -1).tolist()


def random_image(rng: random.Random) -> Image:
    shape = rng.choice([(4, 5), (6, 4), (3, 9), (2, 3, 4), (3, 3, 3), (1, 4, 4)])
    mask = np.array([rng.random() for _ in range(int(np.prod(shape)))]).reshape(shape) < rng.choice([0.3, 0.5, 0.7, 1])
    return Image(mask, rng.choice([1, 2, 4, 64]), rng.random() < 0.3)


def union_find_fails(seed: int) -> bool:
    """Label one random image under one random schedule, and compare its roots with SciPy's components."""
    rng = random.Random(seed)
    image = random_image(rng)
    joined = launch(image.run_starts(), image.union_lanes(), rng)
    return launch(joined, image.flatten_lanes(), rng) != first_voxels(image)


def pairs_fail(seed: int) -> bool:
    """Whether a pair is lost or kept twice."""
    rng = random.Random(seed)
    candidates, preds = rng.randint(1, 14), rng.randint(1, 4)
    pairs = [(rng.randint(1, 3), rng.randint(1, preds)) for _ in range(candidates)]
    capacity = 1 << rng.choice([candidates, 2 * candidates]).bit_length()
    memory = [pair[side] for side in range(2) for pair in pairs] + [0] * (capacity + 1)
    lanes = [pairs_lane(at, candidates, preds, capacity) for at in range(candidates)]
    after = launch(memory, lanes, rng)
    kept = zip(after[:candidates], after[candidates : 2 * candidates], strict=True)
    return Counter(pair for pair in kept if pair != (0, 0)) != Counter(set(pairs))


def sums_fail(seed: int) -> bool:
    """Whether a sum of several tiles differs from the sum of its voxels."""
    rng = random.Random(seed)
    columns = rng.randint(2, 8)
    table, lanes = np.zeros((rng.choice([2, 4, 5]), columns), np.int64), []
    for _ in range(4):
        ids = [rng.randrange(columns) for _ in range(8)]
        rows = np.array([[rng.randrange(-(2**33), 2**33) for _ in ids] for _ in table])
        lanes += add_tile_lanes(columns, ids, rows.tolist())
        np.add.at(table.T, ids, rows.T)
    table[:, 0] = 0
    return launch([0] * table.size, lanes, rng) != table.reshape(-1).tolist()


CHECKS = {"union-find": union_find_fails, "hash table of pairs": pairs_fail, "sums": sums_fail}


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


@pytest.mark.parametrize(
    ("name", "step", "broken"),
    [
        ("union-find", "atomic_min", min_in_three_steps),
        ("union-find", "unite", unite_without_the_displaced_parent),
        ("union-find", "find", find_one_step),
        ("hash table of pairs", "atomic_cas", cas_in_three_steps),
        ("sums", "atomic_add", add_in_three_steps),
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
