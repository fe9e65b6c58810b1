"""Exact Euclidean distances and Voronoi regions, in voxels, on the device of the images.

On the CPU, edt and SciPy compute them. On other devices the separable definition is evaluated one axis at a time: the
new squared distance of a voxel is the minimum over its line of the squared distance so far plus the squared offset. The
id of the nearest instance is carried along. Unlike jump flooding this is exact, and nothing is copied to the host.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_ici.instances.kernels import runs_on

__all__ = ["NOTHING", "along_lines_in_torch", "distance_to", "nearest_instance"]

# Keys hold the squared distance in the high 32 bits and the instance id in the low 32 bits; this one means no instance.
NOTHING = 2**62


def distance_to(mask: Tensor) -> Tensor:
    """Distance of every voxel to the nearest foreground voxel of a mask in the same image.

    Args:
        mask: bool (N, *spatial), 2D or 3D.

    Returns:
        float32, same shape as ``mask``, in voxels: 0 on the foreground, infinity in an image without foreground.
    """
    if mask.device.type == "cpu":
        import edt

        distances = np.full(mask.shape, np.inf, np.float32)
        for image, distance in zip(mask.numpy(), distances, strict=True):
            if image.any():
                # edt is twice as fast on bytes as on bools.
                distance[...] = edt.edtsq((~image).view(np.uint8), parallel=torch.get_num_threads())
        return torch.from_numpy(distances).sqrt_()
    keys = _spread_keys(torch.where(mask, 0, NOTHING))
    squared = (keys >> 32).to(torch.float32)
    return torch.where(keys >= NOTHING, torch.inf, squared.sqrt())


def nearest_instance(ids: Tensor) -> Tensor:
    """Voronoi regions of instances: the id of the nearest instance in the same image for every voxel.

    Args:
        ids: int32 (N, *spatial), 2D or 3D, 0 for background.

    Returns:
        int32, same shape as ``ids``; 0 everywhere in an image without instances. Ties between instances at the same
        distance are broken by SciPy on the CPU, and by the lowest id on other devices.
    """
    if ids.device.type == "cpu":
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # SciPy releases the GIL
            nearest = list(pool.map(_nearest_in_image, ids.numpy()))
        return torch.from_numpy(np.stack(nearest)) if nearest else torch.zeros_like(ids)
    keys = _spread_keys(torch.where(ids > 0, ids.to(torch.int64), NOTHING))
    return torch.where(keys >= NOTHING, 0, keys & (2**32 - 1)).to(torch.int32)


def _nearest_in_image(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """:func:`nearest_instance` for one image (*spatial)."""
    if not ids.any():
        return np.zeros_like(ids)
    at = ndimage.distance_transform_edt(ids == 0, return_distances=False, return_indices=True)
    nearest: npt.NDArray[np.int32] = ids[tuple(at)]
    return nearest


def _spread_keys(keys: Tensor) -> Tensor:
    """For every voxel, the minimum over its image of key plus squared distance; keys int64 (N, *spatial)."""
    for axis in range(1, keys.ndim):
        lines = keys.reshape(keys.shape[:axis].numel(), keys.shape[axis], -1)
        keys = _along_lines(lines).reshape(keys.shape)
    return keys


def _along_lines(lines: Tensor) -> Tensor:
    if lines.numel() and runs_on(lines.device):
        from nnunet_ici.instances._triton_distance import along_lines

        return along_lines(lines)
    return along_lines_in_torch(lines)


def along_lines_in_torch(lines: Tensor) -> Tensor:
    """out[o, i, k] = min over j of lines[o, j, k] + (i - j)^2 * 2^32, int64 (outer, n, inner)."""
    along = torch.arange(lines.shape[1], device=lines.device)
    nearest = torch.full_like(lines, 2 * NOTHING - 1)
    for j in range(lines.shape[1]):
        step = ((along - j) ** 2) << 32
        nearest = torch.minimum(nearest, lines[:, j : j + 1] + step[:, None])
    return nearest
