"""What may be wrong with the files of one ATLAS session, found by reading them to the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_ici.datasets.atlas import Problem, Session
from nnunet_ici.images import read_nifti
from nnunet_ici.instances._cc3d import label_array

__all__ = ["Report", "binary_mask", "check_session"]

# In mm; headers are stored in single precision.
GEOMETRY_TOLERANCE = 1e-3
# Of a mask's values: some masks of R2.1 and R3.0 are stored with a scale, and read as 0.99999998.
VALUE_TOLERANCE = 1e-6
SHOWN_VALUES = 8


@dataclass
class Report:
    """What a check found.

    Attributes:
        problems: nothing, for a session that can be converted.
        lesion_count: 26-connected components of the mask; None without a mask.
        lesion_volume_mm3: volume of the mask, by its own affine; None without a mask.
        mask_is_ready: whether the mask file can be used as it is: 8-bit integers, 0 and 1, .nii.gz.
    """

    problems: list[Problem] = field(default_factory=list)
    lesion_count: int | None = None
    lesion_volume_mm3: float | None = None
    mask_is_ready: bool = False


def check_session(session: Session, binarize: bool = False) -> Report:
    """Read the image and the mask of a session, and say everything that is wrong with them.

    Args:
        session: its files.
        binarize: accept a mask with other values than 0 and 1: what is above 0 is lesion.
    """
    report = Report()
    image = _read(session.image, report)
    if image is not None:
        wrong = np.count_nonzero(~np.isfinite(image[1]))
        if wrong:
            what = f"NaN or infinity in the image. Expected: finite values. Got: {wrong} voxels"
            report.problems.append(Problem(session.image, what))
    if session.mask is None:
        return report
    mask = _read(session.mask, report)
    if mask is None:
        return report
    header, values = mask
    if image is not None:
        report.problems += _compare_geometry(session.mask, image[0], header)
    try:
        lesion = binary_mask(values, binarize)
    except ValueError as error:
        report.problems.append(Problem(session.mask, str(error)))
        return report
    if not lesion.any():
        report.problems.append(Problem(session.mask, "an empty mask. Expected: at least one voxel of 1. Got: 0 only"))
    report.lesion_count = label_array(lesion)[1]
    voxel_mm3 = abs(np.linalg.det(header.affine[:3, :3]))
    report.lesion_volume_mm3 = float(lesion.sum() * voxel_mm3)
    is_8_bit = header.get_data_dtype() == values.dtype == np.uint8  # stored so, and not scaled
    report.mask_is_ready = is_8_bit and np.array_equal(values, lesion) and session.mask.name.endswith(".nii.gz")
    return report


def binary_mask(values: npt.NDArray[np.generic], binarize: bool) -> npt.NDArray[np.uint8]:
    """The mask as 0 and 1; what is closer than 1e-6 to them is taken for them.

    Args:
        values: of any shape and real dtype.
        binarize: take what is above 0 for 1.

    Returns:
        uint8, the same shape.

    Raises:
        ValueError: if there is NaN or infinity, or, unless ``binarize``, anything but 0 and 1; says what.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"NaN in the mask. Expected: 0 and 1. Got: {np.count_nonzero(~finite)} voxels")
    if np.issubdtype(values.dtype, np.floating):
        nearest = np.rint(values)
        values = np.where(np.abs(values - nearest) <= VALUE_TOLERANCE, nearest, values)
    lesion = np.greater(values, 0)
    if not binarize and not np.array_equal(values, lesion):
        found = np.unique(values)
        shown = ", ".join(f"{value:g}" for value in found[:SHOWN_VALUES])
        more = f" and {len(found) - SHOWN_VALUES} more" if len(found) > SHOWN_VALUES else ""
        raise ValueError(
            f"a mask that is not 0/1. Expected: 0 and 1 (--binarize takes what is above 0 for 1). Got: {shown}{more}"
        )
    return lesion.astype(np.uint8)


def _read(path: Path, report: Report) -> tuple[nib.Nifti1Image, npt.NDArray[np.generic]] | None:
    """Header and voxels; None, with the problem in the report, where the file cannot be read or holds no volume."""
    try:
        image, values = read_nifti(path)
    except ValueError as error:
        report.problems.append(Problem(path, "unreadable. " + str(error).split(" cannot be read. ", 1)[-1]))
        return None
    if values.ndim != 3:
        report.problems.append(Problem(path, f"not a volume. Expected: 3 axes. Got: shape {values.shape}"))
        return None
    return image, values


def _compare_geometry(path: Path, image: nib.Nifti1Image, mask: nib.Nifti1Image) -> list[Problem]:
    """Size and affine of the mask against those of the image."""
    if image.shape != mask.shape:
        return [Problem(path, f"another size than its image. Expected: {image.shape}. Got: {mask.shape}")]
    if not np.allclose(image.affine, mask.affine, rtol=0, atol=GEOMETRY_TOLERANCE):
        expected, found = (np.round(volume.affine[:3], 4).tolist() for volume in (image, mask))
        return [Problem(path, f"another affine than its image. Expected: {expected}. Got: {found}")]
    return []
