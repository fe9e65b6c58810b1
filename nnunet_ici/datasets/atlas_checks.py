"""Checks of the files of one ATLAS session, which are read completely."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_ici.command import plural
from nnunet_ici.datasets.atlas import Problem, Session
from nnunet_ici.geometry import Grid, TwoTransformsError, is_orthonormal, one_transform, turn_between
from nnunet_ici.images import read_nifti, whole_numbers
from nnunet_ici.instances.labelling_cc3d import label_array

__all__ = ["Report", "binary_mask", "check_session", "find_duplicates"]

SHOWN_VALUES = 8

Array = npt.NDArray[np.generic]


@dataclass
class Report:
    """The result of checking a session.

    Attributes:
        problems: problems that prevent the conversion of the session.
        warnings: problems that do not.
        lesion_count: number of 26-connected components in the mask; None without a usable mask.
        lesion_volume_mm3: volume of the lesions in mm3, from the affine of the mask; None without a usable mask.
        mask_is_ready: whether the mask file can be used unchanged: unsigned 8-bit, values 0 and 1, .nii.gz.
        image_is_ready: whether the image file can be used unchanged: one transform, .nii.gz.
        is_straight: whether SimpleITK accepts the affines; nnU-Net needs nibabel to read other files.
        fingerprint: hashes of the voxels of image and mask; "" for a file that could not be read.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    lesion_count: int | None = None
    lesion_volume_mm3: float | None = None
    mask_is_ready: bool = False
    image_is_ready: bool = False
    is_straight: bool = True
    fingerprint: tuple[str, ...] = ("", "")


@dataclass(frozen=True, eq=False)
class _Volume:
    path: Path
    header: nib.Nifti1Image
    values: Array
    as_it_is: bool  # whether the file can be used unchanged: one transform, .nii.gz

    @property
    def grid(self) -> Grid:
        return Grid(self.path, self.header.shape, self.header.affine, in_mm=True)


def check_session(session: Session, binarize: bool = False, trust: str | None = None) -> Report:
    """Read the image and the mask of a session and report all problems with them.

    Args:
        session: the session.
        binarize: whether to accept masks with values other than 0 and 1, taking voxels above 0 as lesion.
        trust: "sform" or "qform", the transform to keep where a file has two that differ; None to accept none.
    """
    report = Report()
    for path in session.unused_masks:
        used = "none" if session.mask is None else session.mask.name
        report.warnings.append(Problem(path, f"an additional mask of the case, which is ignored. Mask used: {used}"))
    image = _read(session.image, report, trust)
    mask = None if session.mask is None else _read(session.mask, report, trust)
    report.fingerprint = tuple("" if one is None else _hash(one.values) for one in (image, mask))
    if image is not None:
        report.image_is_ready = image.as_it_is
        report.problems += [Problem(session.image, what) for what in _image_faults(image.values)]
    if mask is None:
        return report
    if image is not None:
        report.problems += _compare_grids(image, mask)
    try:
        lesion = binary_mask(mask.values, binarize)
    except ValueError as error:
        report.problems.append(Problem(mask.path, str(error)))
        return report
    if not lesion.any():
        report.problems.append(Problem(mask.path, "an empty mask. Expected: at least one voxel of 1. Got: 0 only"))
    report.warnings += [Problem(mask.path, what) for what in _changes(mask.values)]
    report.lesion_count = label_array(lesion)[1]
    report.lesion_volume_mm3 = float(lesion.sum() * mask.grid.voxel_mm3)
    is_8_bit = mask.header.get_data_dtype() == mask.values.dtype == np.uint8  # in the file, and without scaling
    report.mask_is_ready = mask.as_it_is and is_8_bit and np.array_equal(mask.values, lesion)
    return report


def binary_mask(values: Array, binarize: bool) -> npt.NDArray[np.uint8]:
    """Convert a mask to integers 0 and 1; values within 1e-6 of a whole number are rounded to it.

    Args:
        values: any shape, any real dtype.
        binarize: whether all values above 0 become 1, and all others 0.

    Returns:
        uint8, the same shape.

    Raises:
        ValueError: if a value is NaN or infinite, or, without ``binarize``, anything but 0 or 1.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"NaN or infinity in the mask. Expected: 0 and 1. Got: {_count(finite)}")
    values = whole_numbers(values)
    lesion = np.greater(values, 0)
    if not binarize and not np.array_equal(values, lesion):
        raise ValueError(
            "a mask that is not binary. Expected: 0 and 1 (--binarize makes voxels above 0 lesion). "
            f"Got: {_shown(np.unique(values))}"
        )
    return lesion.astype(np.uint8)


def find_duplicates(sessions: Sequence[Session], reports: Sequence[Report]) -> list[Problem]:
    """Find images shared by several subjects, which can leak from training to validation in a cross-validation.

    Args:
        sessions: all sessions.
        reports: report of each session, in the same order.

    Returns:
        A warning for each session whose image is identical to that of another subject's earlier session.
    """
    seen: dict[str, list[tuple[Session, Report]]] = defaultdict(list)
    warnings = []
    for session, report in zip(sessions, reports, strict=True):
        image, mask = report.fingerprint
        twins = [twin for twin in seen[image] if twin[0].subject != session.subject] if image else []
        if twins:
            twin, its_report = twins[0]
            what = "image and mask" if mask and its_report.fingerprint[1] == mask else "image"
            warnings.append(Problem(session.image, f"{session.case} has the same {what} as {twin.case}: {twin.image}"))
        seen[image].append((session, report))
    return warnings


def _read(path: Path, report: Report, trust: str | None) -> _Volume | None:
    """Read a volume; None, and a problem in the report, if the file cannot be read or is not a volume."""
    try:
        header, values = read_nifti(path, trust)
        original = nib.load(path).header
        as_it_is = one_transform(original, path, trust) is original and path.name.endswith(".nii.gz")
    except TwoTransformsError as error:
        report.problems.append(Problem(path, str(error).removeprefix(f"{path} has ")))
        return None
    except ValueError as error:
        report.problems.append(Problem(path, "unreadable. " + str(error).split(" cannot be read. ", 1)[-1]))
        return None
    what = ""
    if values.dtype.names is not None:
        what = f"a color image. Expected: one number per voxel. Got: {''.join(values.dtype.names)}"
    elif np.issubdtype(values.dtype, np.complexfloating):
        what = f"a complex image. Expected: one real number per voxel. Got: {values.dtype}"
    elif values.ndim != 3 or not values.size:
        what = f"not a volume. Expected: 3 axes. Got: shape {values.shape}"
    elif not (np.isfinite(header.affine).all() and np.linalg.det(header.affine)):
        what = f"a singular affine. Expected: three independent axes. Got: {np.round(header.affine[:3], 4).tolist()}"
    if what:
        report.problems.append(Problem(path, what))
        return None
    axes = header.affine[:3, :3]
    report.is_straight &= is_orthonormal(axes / np.linalg.norm(axes, axis=0))
    return _Volume(path, header, values, as_it_is)


def _image_faults(values: Array) -> list[str]:
    finite = np.isfinite(values)
    if not finite.all():
        return [f"NaN or infinity in the image. Expected: finite values. Got: {_count(finite)}"]
    low, high = values.min(), values.max()
    return [f"a constant image. Expected: at least two values. Got: {low:g} only"] if low == high else []


def _compare_grids(image: _Volume, mask: _Volume) -> list[Problem]:
    """Compare the grid of the mask with that of its image."""
    try:
        turn = turn_between(mask.grid, image.grid, "its image", by_nibabel=False)
    except ValueError as error:
        return [Problem(mask.path, str(error).removeprefix(f"{mask.path} "))]
    if turn is None:
        return []
    expected, got = ("".join(nib.aff2axcodes(volume.header.affine)) for volume in (image, mask))
    return [
        Problem(mask.path, f"differs in orientation from its image. Expected: {expected}, as {image.path}. Got: {got}")
    ]


def _changes(values: Array) -> Iterable[str]:
    """A sentence on the values that :func:`binary_mask` changes; nothing for a mask of 0 and 1."""
    found = np.unique(whole_numbers(values))
    above, below = found[(found > 0) & (found != 1)], found[found < 0]
    if above.size or below.size:
        changed = [f"{_shown(some)} became {into}" for some, into in ((above, 1), (below, 0)) if some.size]
        yield f"made binary: {'; '.join(changed)}"


def _hash(values: Array) -> str:
    return hashlib.blake2b(
        np.ascontiguousarray(values).data, digest_size=16, key=str(values.shape).encode()
    ).hexdigest()


def _count(finite: npt.NDArray[np.bool_]) -> str:
    return plural(int(np.count_nonzero(~finite)), "voxel")


def _shown(values: Array) -> str:
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(f"{value:g}" for value in values[:SHOWN_VALUES]) + more
