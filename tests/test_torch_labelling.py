"""The labeling in plain torch: raster order of its ids, components of any shape, and its memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunet_ici.instances import labelling_torch
from nnunet_ici.instances.labelling_torch import label_union_find
from tests.conftest import comb, snake, spiral

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class PeakMemory(TorchDispatchMode):
    """The peak of the bytes in all storages that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in given | self.held.keys():
                self.held[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.held.pop, storage._cdata, None)
                self.peak = max(self.peak, sum(self.held.values()))
        return result


def raster_ids(image: np.ndarray, faces: bool) -> np.ndarray:
    """SciPy's labels, renumbered by their first voxels."""
    labels, count = ndimage.label(image, None if faces else np.ones((3,) * image.ndim))
    _, first = np.unique(labels[image], return_index=True)
    ids = np.zeros(count + 1, np.int32)
    ids[labels[image][np.sort(first)]] = np.arange(1, count + 1)
    return ids[labels]


def assert_raster_ids(mask: np.ndarray, faces: bool = False) -> None:
    ids, counts = label_union_find(torch.from_numpy(mask).to(DEVICE), faces)
    for image, found, count in zip(mask, ids.cpu().numpy(), counts.tolist(), strict=True):
        np.testing.assert_array_equal(found, raster_ids(image, faces))
        assert count == found.max()


def random_mask(rng: np.random.Generator, axes: int) -> np.ndarray:
    """Noise, smoothed or not, of every density, also with axes of length 1."""
    shape = (int(rng.integers(1, 4)), *rng.integers(1, 40 if axes == 2 else 16, size=axes))
    noise = rng.random(shape)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, (0, *[1] * axes))
    return noise < np.quantile(noise, rng.random())


@pytest.mark.parametrize("faces", [False, True])
@pytest.mark.parametrize("axes", [2, 3])
def test_ids_follow_the_first_voxels(axes, faces, rng):
    for _ in range(300):
        assert_raster_ids(random_mask(rng, axes), faces)


@pytest.mark.parametrize("draw", [snake, spiral, comb])
def test_one_component_in_every_orientation(draw):
    flat = draw()
    for image in (flat, flat.T, flat[::-1, ::-1]):
        assert_raster_ids(np.ascontiguousarray(image)[None])
    for axes in [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1)]:
        volume = np.zeros((5, *flat.shape), bool)
        volume[::2] = flat
        volume[1, 0, 0] = volume[3, 0, 0] = True
        assert_raster_ids(np.ascontiguousarray(volume.transpose(axes))[None])


def test_positions_of_64_bits(rng, monkeypatch):
    monkeypatch.setattr(labelling_torch, "INT32_VOXELS", 0)
    for axes in (2, 3) * 20:
        assert_raster_ids(random_mask(rng, axes))


@pytest.mark.parametrize("density", [0.01, 0.05, 0.2, 0.5, 0.8, 1])
def test_less_than_40_bytes_for_each_foreground_voxel(density, rng):
    mask = torch.from_numpy(rng.random((2, 64, 64, 64)) < density)
    with PeakMemory() as memory:
        ids, _ = label_union_find(mask)
    assert 0 < memory.peak - ids.nbytes < 40 * int(mask.sum())
