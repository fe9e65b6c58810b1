"""The cases on which a rule is chosen: their files, and what of them is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.folders import list_cases
from nnunet_ici.evaluation.grids import read_probabilities_for
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.matching import bounding_box
from nnunet_ici.evaluation.probabilities import probability_of
from nnunet_ici.postprocessing.rule import Rule

__all__ = ["Case", "CaseFiles", "find_files", "read_case"]

Number = TypeVar("Number", bound=np.generic)

# Voxels around everything that counts, for metrics that dilate the label.
MARGIN = 4


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        name: name of the case.
        label: path of the ground truth.
        probabilities: path of CASE.npz.
        prediction: path of the label map beside the probabilities; None if there is none.
    """

    name: str
    label: Path
    probabilities: Path
    prediction: Path | None


@dataclass(frozen=True, eq=False)
class Case:
    """Label and probabilities of one case, stored only at the V voxels that any threshold to be tried can reach.

    Attributes:
        name: name of the case.
        shape: shape of the part of the image that holds these voxels, 2D or 3D.
        spacing_mm: voxel spacing, one value per axis.
        voxel_mm3: volume of a voxel in mm³; in 2D its area in mm².
        at: uint32 (V,), flat indices of the voxels.
        label: (V,), values of the ground truth, which is 0 everywhere else.
        plain: uint16 (V,), values of nnU-Net's own label map.
        probabilities: float32 (C, V).
        turned: path of the label map beside the probabilities if its axes had to be turned, else None.
    """

    name: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    voxel_mm3: float
    at: npt.NDArray[np.uint32]
    label: npt.NDArray[np.generic]
    plain: npt.NDArray[np.uint16]
    probabilities: npt.NDArray[np.float32]
    turned: Path | None = None

    @classmethod
    def of(
        cls,
        name: str,
        label: npt.NDArray[np.generic],
        probabilities: npt.NDArray[np.float32],
        spacing_mm: Sequence[float],
        rule: Rule,
        lowest: float,
        voxel_mm3: float | None = None,
        turned: Path | None = None,
    ) -> Case:
        """Reduce a case to the voxels that thresholds from ``lowest`` on can reach.

        Args:
            name: name of the case.
            label: (H, W) or (D, H, W), any integer dtype.
            probabilities: float32 (C, *shape of the label), in [0, 1].
            spacing_mm: voxel spacing, one value per axis.
            rule: its classes and their order of writing; the settings do not matter.
            lowest: lowest threshold.
            voxel_mm3: volume of a voxel in mm³; by default the product of the spacing.
            turned: see the attributes.
        """
        plain = rule.plain(probabilities)
        kept = (label != 0) | (plain != 0)
        for of_class in rule.scheme.classes:
            kept |= probability_of(probabilities, rule.scheme, of_class) > np.float32(lowest)
        box = tuple(
            slice(max(one.start - MARGIN, 0), min(one.stop + MARGIN, size))
            for one, size in zip(bounding_box(kept), kept.shape, strict=True)
        )
        inside = kept[box]
        return cls(
            name,
            inside.shape,
            tuple(spacing_mm),
            math.prod(spacing_mm) if voxel_mm3 is None else voxel_mm3,
            np.flatnonzero(inside).astype(np.uint32),
            label[box][inside],
            plain[box][inside],
            probabilities[:, kept],
            turned,
        )

    def spread(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Values (..., V) of the voxels as an image (..., *shape), 0 elsewhere."""
        image = np.zeros((*values.shape[:-1], math.prod(self.shape)), dtype=values.dtype)
        image[..., self.at] = values
        return image.reshape((*values.shape[:-1], *self.shape))

    @property
    def half_precision(self) -> bool:
        """Whether all probabilities are numbers of half precision, of which the last below 1 is 0.9995."""
        return bool((self.probabilities == self.probabilities.astype(np.float16)).all())


def read_case(files: CaseFiles, rule: Rule, lowest: float) -> Case | str:
    """Read a case, see :meth:`Case.of`; or one sentence on what is wrong with its files."""
    scheme: LabelScheme = rule.scheme
    try:
        label_map = read_label_map(files.label, scheme)
        probabilities, turned = read_probabilities_for(label_map, files.probabilities, scheme, files.prediction)
    except ValueError as error:
        return str(error)
    grid = label_map.grid
    of_files = files.name, label_map.array, probabilities, label_map.spacing_mm
    return Case.of(*of_files, rule, lowest, grid.voxel_mm3, files.prediction if turned else None)


def find_files(
    label_folder: Path, probability_folders: Sequence[Path], file_ending: str
) -> tuple[list[CaseFiles], list[str]]:
    """Pair the probabilities in all folders with the ground truth, by case name.

    Returns:
        The cases, sorted by name, and the problems, one sentence each.
    """
    problems = []
    labels = list_cases(label_folder, file_ending)
    files: dict[str, CaseFiles] = {}
    for folder in dict.fromkeys(probability_folders):
        found = list_cases(folder, ".npz")
        if not found:
            problems.append(
                f"{folder} holds no probabilities. Expected: *.npz from nnUNetv2_train --npz, nnUNetv2_predict "
                f"--save_probabilities or nnUNetv2_ensemble --save_npz. Got: {sum(1 for _ in folder.iterdir())} "
                "other files"
            )
        for name, path in found.items():
            if name in files:
                problems.append(
                    f"case {name} has two files of probabilities. Expected: one. Got: {files[name].probabilities} "
                    f"and {path}"
                )
            elif name not in labels:
                expected = label_folder / f"{name}{file_ending}"
                problems.append(f"{path} has no ground truth. Expected: {expected}. Got: no such file")
            else:
                beside = folder / f"{name}{file_ending}"
                files[name] = CaseFiles(name, labels[name], path, beside if beside.is_file() else None)
    return [files[name] for name in sorted(files)], problems
