"""label_components against SciPy, for every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunet_ici.instances import KernelStatus, components, kernels, label_components, labelling_backend
from nnunet_ici.instances.labelling_cc3d import label_array
from tests.conftest import comb, corners, snake, spiral

NEEDS_TRITON = pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed")
BACKENDS = [
    ("cc3d", 2),
    ("cc3d", 3),
    ("torch", 2),
    ("torch", 3),
    pytest.param("triton", 2, marks=NEEDS_TRITON),
    pytest.param("triton", 3, marks=NEEDS_TRITON),
]


@pytest.fixture
def _large_tiles_in_the_interpreter(monkeypatch):
    """Fewer programs for a large image."""
    if components.HAS_TRITON and not torch.cuda.is_available():
        monkeypatch.setattr("nnunet_ici.instances._triton_grid.TILE", 2**18)


def assert_same_as_scipy(backend: str, mask: np.ndarray, faces: bool = False) -> torch.Tensor:
    """mask (B, *spatial): same partition as SciPy's, ids 1..n per image, int32, counts int64. Returns the counts."""
    device = "cuda" if backend != "cc3d" and torch.cuda.is_available() else "cpu"
    ids, counts = (found.cpu() for found in components._BACKENDS[backend](torch.from_numpy(mask).to(device), faces))
    assert ids.dtype == torch.int32 and counts.dtype == torch.int64
    assert ids.shape == mask.shape and counts.shape == mask.shape[:1]
    for image, found, count in zip(mask, ids.numpy(), counts.tolist(), strict=True):
        expected, number = ndimage.label(image, None if faces else np.ones((3,) * image.ndim))
        assert count == number
        np.testing.assert_array_equal(found > 0, image)
        assert set(np.unique(found[image])) == set(range(1, number + 1))
        pairs = np.unique(np.stack([found[image], expected[image]]), axis=1)
        assert pairs.shape[1] == number  # one id of ours for each of theirs
    return counts


@pytest.mark.parametrize("faces", [False, True])
@pytest.mark.parametrize(("backend", "axes"), BACKENDS)
def test_random_images_of_every_density(backend, axes, faces, rng):
    for _ in range(200 if backend != "triton" else 0 if faces else 20):  # the interpreter is slow
        shape = tuple(rng.integers(1, 40 if axes == 2 else 14, size=axes))
        mask = rng.random((rng.integers(1, 4), *shape)) < rng.random()
        assert_same_as_scipy(backend, mask, faces)


@pytest.mark.parametrize(("backend", "axes"), BACKENDS)
def test_shapes_that_break_labellings(backend, axes):
    flat = {"snake": snake(), "spiral": spiral(), "comb": comb(), "checkerboard": np.indices((30, 31)).sum(0) % 2 == 0}
    expected = dict.fromkeys(flat, 1)
    for name, image in flat.items():
        mask = image[None] if axes == 2 else image[None, None]
        assert assert_same_as_scipy(backend, mask).tolist() == [expected[name]], name
    shape = (9, 8, 7)[-axes:]
    assert assert_same_as_scipy(backend, corners(shape)[None]).tolist() == [2**axes]
    assert assert_same_as_scipy(backend, np.ones((1, *shape), bool)).tolist() == [1]
    assert assert_same_as_scipy(backend, np.zeros((2, *shape), bool)).tolist() == [0, 0]
    assert assert_same_as_scipy(backend, np.ones((1, *(1,) * axes), bool)).tolist() == [1]


def assert_faces_as_scipy(mask):
    ids, count = label_array(mask, faces=True)
    expected, number = ndimage.label(mask)  # its default structure
    assert count == number and ids.shape == mask.shape and ids.dtype == np.int32
    np.testing.assert_array_equal(ids > 0, mask > 0)
    assert np.unique(np.stack([ids[mask > 0], expected[mask > 0]]), axis=1).shape[1] == number
    return count


@pytest.mark.parametrize("axes", [2, 3])
def test_faces_only(axes, rng):
    for _ in range(200):
        shape = tuple(rng.integers(1, 40 if axes == 2 else 14, size=axes))
        assert_faces_as_scipy(rng.random(shape) < rng.random())
    for flat in [(9, 8, 1), (9, 1, 8), (1, 9, 8), (1, 1, 8), (1, 9, 1)][: 5 * (axes - 2)]:
        for _ in range(20):
            assert_faces_as_scipy(rng.random(flat) < 0.6)


def test_faces_of_shapes_by_hand():
    assert assert_faces_as_scipy(np.eye(5, dtype=np.uint8)) == 5  # one with corners
    assert assert_faces_as_scipy(np.indices((4, 5)).sum(0) % 2 == 0) == 10
    assert assert_faces_as_scipy(np.indices((3, 3, 3)).sum(0) % 2 == 0) == 14
    assert [assert_faces_as_scipy(shape()) for shape in (snake, spiral, comb)] == [1, 1, 1]
    assert assert_faces_as_scipy(np.zeros((3, 4), bool)) == assert_faces_as_scipy(np.zeros((0, 4, 2), bool)) == 0


@pytest.mark.parametrize(("backend", "axes"), BACKENDS)
def test_images_of_a_batch_do_not_connect(backend, axes):
    mask = np.zeros((3, *(4,) * axes), bool)
    mask[0, -1], mask[1, 0], mask[1, -1], mask[2, 0] = True, True, True, True
    assert assert_same_as_scipy(backend, mask).tolist() == [1, 2, 1]


@pytest.mark.parametrize(("backend", "axes"), BACKENDS)
def test_rows_do_not_wrap_around(backend, axes):
    mask = np.zeros((1, *(6,) * axes), bool)
    mask[..., 0, -1] = mask[..., 1, 0] = True
    assert_same_as_scipy(backend, mask)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a program of a GPU needs a voxel per thread")
@NEEDS_TRITON
@pytest.mark.parametrize("tile", [2**9, 2**18])
def test_every_neighbour_is_seen_whether_in_the_same_block_or_tile_or_not(tile, monkeypatch):
    """Two voxels at every offset of up to 2, far from other pairs; an image for each position in a block."""
    monkeypatch.setattr("nnunet_ici.instances._triton_grid.TILE", tile)
    mask = np.zeros((8, 40, 40, 40), bool)
    for image, place in zip(mask, np.ndindex(2, 2, 2), strict=True):
        for offset in np.ndindex(5, 5, 5):
            first = [8 * i + 2 + j for i, j in zip(offset, place, strict=True)]
            image[tuple(first)] = image[tuple(i + j - 2 for i, j in zip(first, offset, strict=True))] = True
    mask = mask if tile == 2**18 else mask[5:6]  # a program for each tile
    assert set(assert_same_as_scipy("triton", mask).tolist()) == {27 + 2 * 98}


@pytest.mark.usefixtures("_large_tiles_in_the_interpreter")
@pytest.mark.parametrize(("backend", "axes"), BACKENDS)
def test_one_hundred_thousand_components(backend, axes):
    shape = (640, 640) if axes == 2 else (94, 94, 94)
    mask = np.zeros((1, *shape), bool)
    mask[(0, *[slice(0, None, 2)] * axes)] = True
    count = assert_same_as_scipy(backend, mask)
    assert count.item() == np.prod([(n + 1) // 2 for n in shape]) > 100_000


def test_the_public_function_takes_the_cpu_backend(rng):
    mask = torch.from_numpy(rng.random((2, 9, 10)) < 0.4)
    ids, counts = label_components(mask)
    assert ids.device == counts.device == mask.device
    for image, found, count in zip(mask, ids, counts, strict=True):
        assert ndimage.label(image, np.ones((3, 3)))[1] == count == found.max()


def test_strided_input(rng):
    mask = torch.from_numpy(rng.random((9, 8, 2, 7)) < 0.5).permute(2, 1, 3, 0)
    ids, _ = label_components(mask)
    assert torch.equal(ids, label_components(mask.contiguous())[0])


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 3, 0, 4)])
def test_nothing_to_label(shape):
    ids, counts = label_components(torch.zeros(shape, dtype=torch.bool))
    assert ids.shape == shape and ids.dtype == torch.int32
    assert counts.tolist() == [0] * shape[0] and counts.dtype == torch.int64


def test_backend_of_a_device(monkeypatch):
    assert labelling_backend("cpu") == "cc3d"
    assert labelling_backend("mps") == "torch"
    for runs, backend in ((True, "triton"), (False, "torch")):
        monkeypatch.setattr(kernels, "kernel_status", lambda device, runs=runs: KernelStatus(runs, "for a test"))
        assert labelling_backend("cuda") == backend


def test_errors_name_what_was_got():
    with pytest.raises(TypeError, match=r"mask must be a bool tensor\. Got: torch\.uint8"):
        label_components(torch.zeros(1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(B, H, W\) or \(B, D, H, W\)\. Got: \(4, 4\)"):
        label_components(torch.zeros(4, 4, dtype=torch.bool))
