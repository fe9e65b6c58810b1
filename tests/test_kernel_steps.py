"""The steps that test_races.py schedules are those of the kernels: the same memory operations in the interpreter."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nnunet_ici.instances import components
from tests.kernel_steps import add_tile_lanes, draw_lane, insert_lane
from tests.schedules import launch
from tests.test_races import first_blocks, random_image

pytestmark = [
    pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="kernels run on the GPU, not in the interpreter"),
]


@pytest.fixture
def trace(monkeypatch):
    """Memory operations of kernels in the interpreter, as (kind, address, values ...); tried with Triton 3.8.0."""
    from triton.runtime import interpreter

    builder, found = interpreter.interpreter_builder, []

    def record(kind, pointers, mask, *values):
        shape = pointers.data.shape
        columns = [np.broadcast_to(data.data, shape).reshape(-1).astype(np.int64) for data in (pointers, *values)]
        active = np.broadcast_to(mask, shape).reshape(-1)
        found.extend((kind, *row) for row in np.stack(columns, 1)[active].tolist())

    names = ("atomic_cas", "atomic_rmw", "masked_load", "masked_store")
    originals = {name: getattr(builder, f"create_{name}") for name in names}

    def cas(pointer, compared, value, *rest):
        record("cas", pointer, True, compared, value)
        return originals["atomic_cas"](pointer, compared, value, *rest)

    def rmw(operation, pointer, value, mask, *rest):
        record(operation.name.lower().removeprefix("u"), pointer, mask.data, value)
        return originals["atomic_rmw"](operation, pointer, value, mask, *rest)

    def load(pointers, mask, other, cache, eviction, is_volatile):
        record("load" if is_volatile else "plain load", pointers, mask.data)
        return originals["masked_load"](pointers, mask, other, cache, eviction, is_volatile)

    def store(pointers, value, mask, *rest):
        record("store", pointers, mask.data, value)
        return originals["masked_store"](pointers, value, mask, *rest)

    for name, recording in {"atomic_cas": cas, "atomic_rmw": rmw, "masked_load": load, "masked_store": store}.items():
        monkeypatch.setattr(builder, f"create_{name}", recording)
    return found


def recorded(lanes, values):
    """Memory after running one lane after the other, and the operations."""
    operations = []

    def watched(lane):
        result = None
        while True:
            try:
                operation = next(lane) if result is None else lane.send(result)
            except StopIteration:
                return
            operations.append(operation)
            result = yield operation

    return launch(values, [watched(lane) for lane in lanes]), operations


def inside(trace, tensor, base=0):
    """The operations of a trace on a tensor, with indices for addresses, counted from base."""
    first, size = tensor.data_ptr(), tensor.element_size()
    return [
        (kind, base + (address - first) // size, *values)
        for kind, address, *values in trace
        if first <= address < first + tensor.numel() * size
    ]


def program_per_block(monkeypatch, shape):
    """A program for each block, so that programs and lanes run in the same order."""
    from nnunet_ici.instances import _triton_grid

    grid = _triton_grid.Grid(1, shape)
    monkeypatch.setattr(_triton_grid, "TILE", grid.corners)
    return grid


def bits_of(image):
    return (image.voxels.reshape(-1, 8) << np.arange(8)).sum(1).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])
def test_the_labelling_has_the_steps_of_the_kernels(seed, trace, monkeypatch):
    from nnunet_ici.instances import _triton_label, _triton_sums

    image = random_image(random.Random(seed))
    grid = program_per_block(monkeypatch, image.mask.shape)
    bits = torch.from_numpy(np.stack([bits_of(image), np.zeros(grid.blocks, np.uint8)]))
    parent = torch.tensor([image.start(), image.start()], dtype=torch.int32)
    expected, steps = recorded(image.union_lanes(), image.start())
    _triton_label.union_kernel[(grid.tiles,)](bits, parent, **grid.options)
    assert inside(trace, parent) == steps and parent[0].tolist() == expected
    assert any(kind == "min" for kind, *_ in steps)

    trace.clear()
    expected, steps = recorded(image.flatten_lanes(), expected)
    tables, values = torch.zeros(2, 4, grid.blocks, dtype=torch.int64), torch.ones(image.mask.shape)
    _triton_sums.measure_kernel[(grid.tiles,)](
        values, bits, parent, tables[0], tables[0], tables[1], tables[1], 0, 1, **grid.options,
        MODE=0, CLASSES=1, UNIT=1, COUNT=False, AXES=0,
    )  # fmt: skip
    assert inside(trace, parent) == steps and parent[0].tolist() == expected == first_blocks(image)
    assert tables[0, 0].tolist() == np.bincount(expected, image.voxels.sum((3, 4, 5)).ravel(), grid.blocks).tolist()


def test_pairs_and_sums_have_the_steps_of_the_kernel(trace, monkeypatch):
    """One row of blocks whose roots are given, each with voxels of the label and of the prediction."""
    from nnunet_ici.instances import _triton_grid, _triton_sums

    roots = np.array([[0, 0, 2, 2, 2, 5, 6, 6, 8, 8, 10], [0, 1, 1, 1, 4, 4, 6, 7, 7, 9, 9]])
    blocks, capacity = roots.shape[1], 16
    grid = _triton_grid.Grid(1, (2, 2 * blocks))
    monkeypatch.setattr(_triton_grid, "TILE", 64)
    bits = torch.tensor([[1] * blocks, [3] * blocks], dtype=torch.uint8)  # a voxel of both, and one outside the label
    count = torch.zeros(4, blocks, dtype=torch.int32)
    sums, slots = torch.zeros(4, blocks, dtype=torch.int64), torch.zeros(capacity, dtype=torch.int64)
    values = torch.arange(4.0 * blocks).reshape(grid.spatial)
    _triton_sums.measure_kernel[(1,)](
        values, bits, torch.tensor(roots, dtype=torch.int32), count, sums, sums, slots, capacity, 1, **grid.options,
        MODE=0, CLASSES=1, UNIT=1, COUNT=True, AXES=0,
    )  # fmt: skip

    both, outside = values[0, ::2].long().numpy(), values[0, 1::2].long().numpy()
    one = np.ones_like(both)
    for side, columns in enumerate(([both, both, one, one], [both + outside, outside, 2 * one, one])):
        lanes = add_tile_lanes(blocks, roots[side].tolist(), [column.tolist() for column in columns])
        expected, steps = recorded(lanes, [0] * 4 * blocks)
        found = inside(trace, sums[2 * side :][:2]) + inside(trace, count[2 * side :][:2], base=2 * blocks)
        assert sorted(found) == sorted(steps) and len(steps) > 0
        assert [*sums[2 * side :][:2].flatten().tolist(), *count[2 * side :][:2].flatten().tolist()] == expected

    keys = [int(key) for key in roots[0] * blocks + roots[1] + 1]
    expected, steps = recorded([insert_lane(key, capacity) for key in dict.fromkeys(keys)], [0] * capacity)
    assert sorted(slots.tolist()) == sorted(expected) and len(set(keys)) == (slots > 0).sum()
    changes = [step for step in inside(trace, slots) if step[0] == "cas" and step[2] == 0]
    assert {step[3] for step in changes} == set(keys) and len(changes) >= len(set(keys))


def test_cubes_have_the_steps_of_the_kernel(trace):
    """Three cubes of one voxel at two places, drawn by a program each."""
    from nnunet_ici.instances import _triton_cubes

    drawn, places = torch.zeros(4, dtype=torch.int32), [3, -1, 3, 1]  # label rows 0 and 1, predicted rows 0 and 1
    center = torch.tensor(places, dtype=torch.int32)
    count = torch.tensor([[1, 0], [0, 0], [1, 1], [1, 1]], dtype=torch.int32)
    prob = torch.tensor([[0.4, 0], [0, 0], [0.7, 0.6], [0.7, 0.6]])
    _triton_cubes.draw_kernel[(4,)](
        drawn, center, torch.tensor([3], dtype=torch.int32), count, prob, 9, 1, 1, 1, 4,
        HALF_Z=0, HALF_Y=0, HALF_X=0, ROWS=1, CUBE=1, LINE=1,
    )  # fmt: skip
    ranks = [4, 0, 7, 6]
    lanes = [draw_lane(at, 4 * (1 + cube) + 1 + cube // 2, ranks) for cube, at in enumerate(places) if at >= 0]
    expected, steps = recorded(lanes, [0] * 4)
    assert [step for step in inside(trace, drawn) if step[0] != "cas" or step[2] >= 0] == steps
    assert drawn.tolist() == expected
