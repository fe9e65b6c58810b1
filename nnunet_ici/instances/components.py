"""Connected components of a batch of binary images, with the fastest exact method for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nnunet_ici.instances.kernels import HAS_TRITON, launching, runs_on
from nnunet_ici.instances.labelling_cc3d import label_array
from nnunet_ici.instances.labelling_torch import label_union_find

__all__ = ["HAS_TRITON", "label_components", "labelling_backend"]


def labelling_backend(device: torch.device | str) -> str:
    """Name of the backend that labels on a device.

    Returns:
        "triton" where the kernels run, see :mod:`~nnunet_ici.instances.kernels`, "cc3d" on the CPU, "torch" otherwise.
    """
    return "triton" if runs_on(device) else "cc3d" if torch.device(device).type == "cpu" else "torch"


def label_components(mask: Tensor, faces: bool = False) -> tuple[Tensor, Tensor]:
    """Label the connected components of each image of a batch.

    The result is exact for components of any size and shape.

    Args:
        mask: bool (B, H, W) or (B, D, H, W), on any device. B and the spatial axes may be 0.
        faces: whether to connect only voxels that share a face (an edge in 2D): 4-connectivity in 2D and 6-connectivity
            in 3D. By default components are 8-connected in 2D and 26-connected in 3D.

    Returns:
        ids: int32, same shape and device as ``mask``; 0 is background, and the components of each image are numbered
            1..n.
        counts: int64 (B,), number of components of each image, same device as ``mask``; 0 for an image without
            foreground.

    Raises:
        TypeError: if ``mask`` is not bool.
        ValueError: if ``mask`` has neither 3 nor 4 axes.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor. Got: {mask.dtype}")
    if mask.ndim not in (3, 4):
        raise ValueError(f"mask must have shape (B, H, W) or (B, D, H, W). Got: {tuple(mask.shape)}")
    if mask.numel() == 0:
        return (
            torch.zeros(mask.shape, dtype=torch.int32, device=mask.device),
            torch.zeros(len(mask), dtype=torch.int64, device=mask.device),
        )
    return _BACKENDS[labelling_backend(mask.device)](mask, faces)


def _label_cc3d(mask: Tensor, faces: bool) -> tuple[Tensor, Tensor]:
    ids = torch.empty(mask.shape, dtype=torch.int32)
    counts = torch.empty(len(mask), dtype=torch.int64)
    for image, image_ids, count in zip(mask.numpy(), ids.numpy(), counts.numpy()[:, None], strict=True):
        image_ids[...], count[...] = label_array(image, faces)
    return ids, counts


def _label_triton(mask: Tensor, faces: bool) -> tuple[Tensor, Tensor]:
    if faces:
        return label_union_find(mask, faces)
    from nnunet_ici.instances._triton_label import label_triton

    with launching(mask.device):
        return label_triton(mask)


_BACKENDS: dict[str, Callable[[Tensor, bool], tuple[Tensor, Tensor]]] = {
    "cc3d": _label_cc3d,
    "torch": label_union_find,
    "triton": _label_triton,
}
