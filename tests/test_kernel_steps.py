"""The steps that test_races.py schedules are those of the kernels: the same memory operations in the interpreter."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nnunet_ici.instances import components
from tests.kernel_steps import add_tile_lanes, pairs_lane
from tests.schedules import launch
from tests.test_races import first_voxels, random_image

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


@pytest.mark.parametrize("seed", range(6))
def test_the_labelling_has_the_steps_of_the_kernels(seed, trace):
    from nnunet_ici.instances import _triton_label as kernels
    from nnunet_ici.instances._triton_grid import Grid

    image = random_image(random.Random(seed))
    image.tile_width = 1  # a program for each voxel, so that programs and lanes run in the same order
    shape = (len(image.bits) // (image.height * image.width), image.height, image.width)[-image.axes :]
    grid = Grid(1, shape, block=1)
    bits = torch.tensor(image.bits, dtype=torch.uint8)
    parent = torch.tensor(image.run_starts(), dtype=torch.int32)
    count = torch.zeros(grid.tiles, dtype=torch.int32)
    options = {**grid.options, "MASKS": 1}
    n = (grid.tiles,)

    expected, steps = recorded(image.union_lanes(), parent.tolist())
    kernels.union_kernel[n](bits, parent, 1, **options, NDIM=image.axes, FACES=image.faces)
    assert inside(trace, parent) == steps and parent.tolist() == expected
    assert any(kind == "min" for kind, *_ in steps)

    trace.clear()
    expected, steps = recorded(image.flatten_lanes(), expected)
    kernels.flatten_kernel[n](bits, parent, count, 1, **options)
    assert inside(trace, parent) == steps and parent.tolist() == expected == first_voxels(image)


def test_the_pairs_have_the_steps_of_the_kernel(trace):
    from nnunet_ici.instances._triton_sums import pairs_kernel

    pairs = torch.tensor([[1, 1, 2, 1, 3, 2, 1, 3], [1, 2, 2, 1, 1, 2, 2, 2]], dtype=torch.int32)
    candidates, preds, capacity = pairs.shape[1], 2, 32
    seen = torch.zeros(capacity + 1, dtype=torch.int64)
    lanes = [pairs_lane(at, candidates, preds, capacity) for at in range(candidates)]
    expected, steps = recorded(lanes, [*pairs.reshape(-1).tolist(), *seen.tolist()])
    pairs_kernel[(candidates,)](pairs, seen, preds, candidates, capacity, LANES=1)
    assert sorted(inside(trace, pairs) + inside(trace, seen, base=pairs.numel())) == sorted(steps)
    assert [kind for kind, *_ in trace] == [kind for kind, *_ in steps]
    assert [*pairs.reshape(-1).tolist(), *seen.tolist()] == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_sums_have_the_steps_of_the_kernel(seed, trace):
    from nnunet_ici.instances._triton_grid import Grid
    from nnunet_ici.instances._triton_sums import measure_kernel

    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 7, (2, 2, 8))  # of label and prediction, for tiles of a row of 8 voxels
    grid = Grid(1, ids.shape[1:], block=8)
    flat = ids.reshape(2, -1)
    first = [[row.tolist().index(id_) for id_ in row] for row in flat]
    parent = np.where(first == np.arange(16), -flat, first).astype(np.int32)
    bits = ((flat[0] > 0) + 2 * (flat[1] > 0)).astype(np.uint8)
    both = (bits == 3).reshape(2, 8)
    begins = (both & ~np.pad(both, ((0, 0), (1, 0)))[:, :-1]).sum(1)
    end = np.zeros((3, 2), np.int64)
    end[2] = begins.cumsum()
    tables = torch.zeros(2, 6, 7, dtype=torch.int64)
    pairs = torch.zeros(2, int(begins.sum()), dtype=torch.int32)
    arguments = [torch.from_numpy(array) for array in (bits, parent, end)]
    measure_kernel[(2,)](*arguments, *tables, pairs, 6, 6, pairs.shape[1], 1, **grid.options, NDIM=2)

    y, x = np.indices((2, 8))
    parts = [ids[1] > 0, ids[0] == 0]
    for table, own, part in zip(tables, ids, parts, strict=True):
        rows = [np.ones_like(own), part.astype(int), y, x]
        lanes = [lane for t in range(2) for lane in add_tile_lanes(7, own[t].tolist(), [r[t].tolist() for r in rows])]
        expected, steps = recorded(lanes, [0] * 28)
        found = [step for step in inside(trace, table) if step[0] == "add"]
        assert sorted(found) == sorted(steps) and len(steps) > 0
        assert table[:4].reshape(-1).tolist() == expected
