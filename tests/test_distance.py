"""Distances, Voronoi regions and dilations against brute force, on the CPU and by the method for other devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ici.instances import components
from nnunet_ici.instances.dilation import dilate
from nnunet_ici.instances.distance import NOTHING, _along_lines, _spread_keys, distance_to, nearest_instance
from tests.terms import in_2d_and_3d


def brute_force(mask):
    """Distances (N, *spatial) to the nearest voxel of a mask."""
    distances = np.full(mask.shape, np.inf)
    for image, distance in zip(mask, distances, strict=True):
        places = np.argwhere(image)
        for voxel in np.ndindex(image.shape):
            if len(places):
                distance[voxel] = np.sqrt(((places - voxel) ** 2).sum(1)).min()
    return distances


def random_mask(rng, axes):
    mask = rng.random((3, *rng.integers(1, 12 if axes == 2 else 7, size=axes))) < rng.choice([0.02, 0.1, 0.5])
    mask[0] = False
    return mask


@in_2d_and_3d
def test_distances_and_dilations(axes, rng):
    for _ in range(10):
        mask = random_mask(rng, axes)
        expected = brute_force(mask)
        given = torch.from_numpy(mask)
        np.testing.assert_allclose(distance_to(given).numpy(), expected, rtol=1e-6)
        assert distance_to(given).dtype == torch.float32
        keys = _spread_keys(torch.where(given, 0, NOTHING))
        np.testing.assert_array_equal(keys.numpy() >= NOTHING, np.isinf(expected))
        finite = np.isfinite(expected)
        np.testing.assert_array_equal((keys >> 32).numpy()[finite], np.rint(expected[finite] ** 2))
        for radius in (0, 1, 2, 4):
            np.testing.assert_array_equal(dilate(given, radius).numpy(), expected <= radius)


@in_2d_and_3d
def test_the_nearest_instance_is_one_of_the_nearest(axes, rng):
    for _ in range(6):
        mask = random_mask(rng, axes)
        ids, _ = components.label_components(torch.from_numpy(mask))
        travelled = _spread_keys(torch.where(ids > 0, ids.to(torch.int64), NOTHING))
        travelled = torch.where(travelled >= NOTHING, 0, travelled & (2**32 - 1))
        for found in (nearest_instance(ids), travelled):
            for image, region, distance in zip(ids.numpy(), found.numpy(), brute_force(mask), strict=True):
                if not image.any():
                    assert (region == 0).all()
                    continue
                assert (region[image > 0] == image[image > 0]).all()
                for n in range(1, image.max() + 1):
                    own = brute_force(image[None] == n)[0]
                    np.testing.assert_allclose(own[region == n], distance[region == n], rtol=1e-6)


@pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed")
def test_lines_in_triton(rng):
    from nnunet_ici.instances._triton_distance import along_lines

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for shape in ((1, 1, 1), (2, 17, 70), (5, 40, 3), (3, 33, 1)):
        keys = torch.from_numpy(rng.integers(1, 50, shape) + (rng.integers(0, 9, shape) << 32))
        keys[torch.from_numpy(rng.random(shape) < 0.7)] = NOTHING
        assert torch.equal(along_lines(keys.to(device)).cpu(), _along_lines(keys))
