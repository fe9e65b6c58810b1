"""Labeling on the CPU with connected-components-3d (cc3d)."""

from __future__ import annotations

import cc3d
import numpy as np
import numpy.typing as npt


def label_array(mask: npt.NDArray[np.generic], faces: bool = False) -> tuple[npt.NDArray[np.int32], int]:
    """Label the connected components of one binary image.

    In 2D, the 8-connected binary path of cc3d (bool input, or ``binary_image=True``) mislabels about one random image
    in 13 (versions 3.29.0 and 4.1.1, compared with ``scipy.ndimage.label``). 2D images therefore use its multi-label
    path, which was correct in every trial. Axes of length 1 are squeezed first, so that flat volumes take the same
    path.

    Args:
        mask: (H, W) or (D, H, W), bool or uint8, 0 for background and 1 for foreground.
        faces: whether to connect only voxels that share a face (an edge in 2D): 4-connectivity in 2D and 6-connectivity
            in 3D. By default components are 8-connected in 2D and 26-connected in 3D.

    Returns:
        int32 ids of the same shape, 0 for background and 1..n for the components; and n, which is 0 for an image
        without foreground or without voxels.

    Raises:
        ValueError: if the image is neither 2D nor 3D.
    """
    if mask.ndim not in (2, 3):
        raise ValueError(f"mask must be a 2D or 3D image. Got: shape {mask.shape}")
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.int32), 0
    squeezed = np.ascontiguousarray(mask).view(np.uint8).squeeze()
    if squeezed.ndim == 3:
        connectivity = 6 if faces else 26
        ids, count = cc3d.connected_components(squeezed.view(bool), connectivity=connectivity, return_N=True)
    else:
        squeezed = np.atleast_2d(squeezed)
        connectivity = 4 if faces else 8
        ids, count = cc3d.connected_components(squeezed, connectivity=connectivity, binary_image=False, return_N=True)
    signed = ids.view(np.int32) if ids.dtype == np.uint32 else ids.astype(np.int32)  # a view copies nothing
    return signed.reshape(mask.shape), int(count)
