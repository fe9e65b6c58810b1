"""Cubes drawn voxel by voxel and by a moving maximum, against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from nnunet_ici.instances.cubes import Cubes, half_widths, spread
from nnunet_ici.settings import check_size


def naive(shape, positions, values, halves):
    drawn = np.zeros(shape, np.int32)
    for (image, *center), value in zip(positions, values, strict=True):
        box = tuple(slice(max(0, c - h), c + h + 1) for c, h in zip(center, halves, strict=True))
        drawn[image][box] = np.maximum(drawn[image][box], value)
    return drawn


@pytest.mark.parametrize("shape", [(2, 9, 11), (1, 16, 5, 7), (3, 1, 3, 20), (2, 4, 4)])
@pytest.mark.parametrize("size", [1, 3, 5, 7, 11])
def test_both_ways_draw_the_same(shape, size, rng):
    halves = half_widths(size, shape[1:])
    positions = [tuple(rng.integers(0, n) for n in shape) for _ in range(5)]
    values = range(1, 6)
    expected = naive(shape, positions, values, halves)

    centers = torch.zeros(shape, dtype=torch.int32)
    for position, value in zip(positions, values, strict=True):
        centers[position] = max(value, int(centers[position]))
    np.testing.assert_array_equal(spread(centers, halves, torch.maximum).numpy(), expected)

    where = torch.tensor(positions)
    voxels = Cubes(where[:, 0], where[:, 1:]).voxels(shape[1:], halves)
    drawn = torch.zeros(int(np.prod(shape)), dtype=torch.int32)
    for value, of_cube in zip(values, voxels, strict=True):
        drawn[of_cube] = torch.maximum(drawn[of_cube], torch.tensor(value, dtype=torch.int32))
    np.testing.assert_array_equal(drawn.reshape(shape).numpy(), expected)


def test_no_cube_at_all():
    empty = Cubes(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64))
    assert empty.voxels((4, 5, 6), (1, 1, 1)).numel() == 0


@pytest.mark.parametrize(
    ("size", "shape", "reference", "expected"),
    [
        (7, (128, 128, 128), None, (3, 3, 3)),
        (7, (16, 96, 96), None, (1, 3, 3)),  # ceil(3 * 16 / 96) = 1
        (7, (64, 96, 33), None, (2, 3, 2)),
        (5, (64, 64), None, (2, 2)),
        (1, (64, 64), None, (0, 0)),
        ((3, 5, 9), (8, 8, 8), None, (1, 2, 4)),
        (7, (64, 64, 64), (128, 128, 128), (1, 1, 1)),  # 3.5 voxels: 3
        (7, (8, 8, 8), (128, 128, 128), (1, 1, 1)),  # at least 3
        (11, (64, 64, 64), (128, 128, 128), (2, 2, 2)),  # 5.5 voxels: 5
        (7, (16, 48, 48), (16, 96, 96), (1, 1, 1)),  # the thin axis keeps its 3
        (7, (128, 128), (128, 128), (3, 3)),
    ],
)
def test_half_widths(size, shape, reference, expected):
    assert half_widths(size, shape, reference) == expected


def test_half_widths_follow_the_published_formula():
    for shape in itertools.product((5, 16, 31, 96), repeat=3):
        assert half_widths(7, shape) == tuple(int(np.ceil(3 * n / max(shape))) for n in shape)


@pytest.mark.parametrize("size", [0, 2, -3, 2.5, True, (), (3, 4)])
def test_a_size_must_be_odd(size):
    with pytest.raises(ValueError, match="size must be an odd positive integer"):
        check_size(size)


def test_the_number_of_sizes_must_fit():
    with pytest.raises(ValueError, match=r"one for each of the 3 axes\. Got: \(3, 3\)"):
        half_widths((3, 3), (8, 8, 8))
    with pytest.raises(ValueError, match=r"reference_shape must have 2 axes\. Got: \(8, 8, 8\)"):
        half_widths(7, (8, 8), (8, 8, 8))
