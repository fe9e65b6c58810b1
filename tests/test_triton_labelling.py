"""The Triton labeling where its tiles meet: borders of tiles, chunks of rows, images of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunet_ici.instances import components
from tests.conftest import comb, snake, spiral

pytestmark = pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def labelled(mask: np.ndarray, block: int) -> tuple[np.ndarray, list[int]]:
    from nnunet_ici.instances._triton_label import label_triton

    # A tile holds at least one voxel per thread; the interpreter has no threads.
    ids, counts = label_triton(torch.from_numpy(mask).to(DEVICE), block=block if DEVICE == "cpu" else max(block, 128))
    return ids.cpu().numpy(), counts.tolist()


def assert_same_partition(mask: np.ndarray, block: int) -> None:
    ids, counts = labelled(mask, block)
    for image, found, count in zip(mask, ids, counts, strict=True):
        expected, number = ndimage.label(image, np.ones((3,) * image.ndim))
        assert count == number
        np.testing.assert_array_equal(found > 0, image)
        pairs = np.unique(np.stack([found[image], expected[image]]), axis=1)
        assert pairs.shape[1] == number
        np.testing.assert_array_equal(np.unique(pairs[0]), np.arange(1, number + 1))


@pytest.mark.parametrize("block", [16, 64, 128])
@pytest.mark.parametrize("shape", [(2, 9, 70), (1, 3, 5, 17), (3, 2, 2, 2), (1, 1, 130), (1, 5, 1, 3)])
@pytest.mark.parametrize("density", [0.15, 0.5])
def test_tiles_of_every_size(block, shape, density, rng):
    assert_same_partition(rng.random(shape) < density, block)


@pytest.mark.parametrize("draw", [snake, spiral, comb])
def test_one_component_through_many_tiles(draw):
    for image in (draw(21), draw(21).T):
        assert_same_partition(np.ascontiguousarray(image)[None], 64)
        assert_same_partition(np.ascontiguousarray(image)[None, :, None, :], 64)


def test_runs_longer_than_a_tile_are_one_component():
    mask = np.ones((2, 2, 150), bool)
    mask[1, :, 100] = False
    assert labelled(mask, 64)[1] == [1, 2]


def test_every_earlier_neighbour_is_seen():
    """Each of the 13 earlier neighbors of a voxel joins it on its own, also across tiles."""
    for offset in np.ndindex(3, 3, 3):
        if offset < (1, 1, 1):
            mask = np.zeros((1, 3, 3, 3), bool)
            mask[0, 1, 1, 1] = mask[(0, *offset)] = True
            assert labelled(mask, 4)[1] == [1], offset


def test_the_same_ids_at_every_run(rng):
    mask = rng.random((2, 4, 9, 20)) < 0.2
    first = labelled(mask, 128)[0]
    for _ in range(3):
        np.testing.assert_array_equal(labelled(mask, 128)[0], first)


def test_images_too_large_for_int32_indices_are_refused():
    from nnunet_ici.instances._triton_grid import Grid

    with pytest.raises(ValueError, match=r"fewer than 2\^31 voxels\. Got: \(2048, 1024, 1024\)"):
        Grid(1, (2048, 1024, 1024))
