"""Lesion-wise Dice and HD95 as the BraTS challenges have counted since 2023.

The facts are those of the challenge's public script (github.com/rachitsaluja/BraTS-2023-Metrics, ``eval.py``). The code
is ours, and equal to the script on every mask compared.

1. The label is dilated. Its components that the dilation joins are one lesion; the voxels of a lesion stay those of the
   label.
2. A predicted component belongs to every lesion whose dilation shares a voxel with it, and is false if there is none.
3. Each lesion is compared with all the components that belong to it, whole. What they share with another lesion counts
   as false voxels here: Eq. 3 of Rachmadi et al. (MIDL 2023), not Eq. 5.
4. A lesion up to the smallest volume is left out. Predicted components that belong to it stay true.
5. A missed lesion and a false component have a Dice of 0 and a distance of 374 mm. The means run over all lesions and
   false components.

The challenges of 2026 count differently: their package ``brats-evaluation`` pairs instances one to one and takes 373
mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching, as_mask, bounding_box, match_instances
from nnunet_ici.evaluation.metrics import dice, lesion_dice
from nnunet_ici.evaluation.surface import hausdorff95_mm

__all__ = ["CHALLENGES", "WORST_MM", "BratsRule", "BratsScores", "brats_scores", "lesion_wise_dice"]

Array = npt.NDArray[np.generic]

# The distance of a missed or false lesion: the diagonal of the challenges' 240 x 240 x 155 volumes at 1 mm, rounded up.
WORST_MM = 374.0


@dataclass(frozen=True)
class BratsRule:
    """How lesions are counted.

    Attributes:
        dilation: number of dilations of the label, each by the neighbours that share a face or an edge (2D: all 8).
        smallest_mm3: lesions up to this volume are left out (2D: up to this area in mm2); 0 leaves out none.
    """

    dilation: int
    smallest_mm3: float

    def problems(self) -> list[str]:
        """Problems with the values, one sentence each."""
        return [
            f"{name} is not usable. Expected: 0 or more. Got: {value}"
            for name, value in vars(self).items()
            if not 0 <= value < math.inf
        ]

    def __str__(self) -> str:
        times = "once" if self.dilation == 1 else f"{self.dilation} times"
        return f"Label dilated {times}, lesions up to {self.smallest_mm3:g} mm3 left out"


# Metastases, meningioma, glioma, glioma in Sub-Saharan Africa, paediatric tumours.
CHALLENGES = {
    "met": BratsRule(1, 2.0),
    "men": BratsRule(1, 50.0),
    "gli": BratsRule(3, 50.0),
    "ssa": BratsRule(3, 50.0),
    "ped": BratsRule(3, 50.0),
}


@dataclass(frozen=True)
class BratsScores:
    """What BraTS counts in one case and one class.

    Attributes:
        found: number of lesions above the smallest volume to which a predicted component belongs.
        missed: number of those to which none belongs.
        false: number of predicted components that belong to no lesion.
        lesion_dice: in [0, 1]; 1 where nothing is counted.
        lesion_hd95_mm: 0 or more; 0 where nothing is counted.
    """

    found: int
    missed: int
    false: int
    lesion_dice: float
    lesion_hd95_mm: float


def brats_scores(label: Array, prediction: Array, spacing_mm: Sequence[float], rule: BratsRule) -> BratsScores:
    """Count one case and one class as BraTS does.

    Nothing is counted in two empty masks, nor where all lesions are up to the smallest volume and no component is
    false: then Dice is 1 and the distance 0. Only false components: 0 and 374 mm. Only missed lesions: the same.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        spacing_mm: edge lengths of a voxel, one for each axis.
        rule: dilation and smallest volume, such as ``CHALLENGES["met"]``.

    Raises:
        TypeError, ValueError: if one is not a mask, the shapes differ, or they are neither 2D nor 3D.

    Example:
        Three lesions in a row. The first two are joined and found, the third is missed, and one component is false:

        >>> import numpy as np
        >>> label      = np.array([[1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]])
        >>> prediction = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]])
        >>> scores = brats_scores(label, prediction, (1.0, 1.0), BratsRule(dilation=1, smallest_mm3=0))
        >>> scores.found, scores.missed, scores.false, round(scores.lesion_dice, 4)  # (2 / 3 + 0 + 0) / 3
        (1, 1, 1, 0.2222)
    """
    label, prediction = as_mask(label, "label"), as_mask(prediction, "prediction")
    # A component of the dilated label is the dilation of the one lesion inside.
    matching = match_instances(_dilated(label, rule.dilation), prediction)
    lesion_ids = np.where(label[matching.box], matching.label_ids, 0)
    voxels = np.bincount(lesion_ids.ravel(), minlength=matching.label_instances + 1)[1:]
    counted = np.flatnonzero(voxels * float(np.prod(spacing_mm)) > rule.smallest_mm3)
    scores = _compare(matching, lesion_ids, counted + 1, spacing_mm)
    found = int(np.count_nonzero(matching.label_found[counted]))
    false = matching.false_instances
    total = len(scores) + false
    return BratsScores(
        found,
        counted.size - found,
        false,
        sum(overlap for overlap, _ in scores) / total if total else 1.0,
        (sum(distance for _, distance in scores) + false * WORST_MM) / total if total else 0.0,
    )


def _dilated(label: npt.NDArray[np.bool_], times: int) -> npt.NDArray[np.bool_]:
    from scipy import ndimage  # here, so that the help of evaluate does not wait for it

    if times == 0 or not label.any():  # SciPy reads 0 iterations as "until nothing changes"
        return label
    box = tuple(slice(max(one.start - times, 0), one.stop + times) for one in bounding_box(label))
    dilated = np.zeros_like(label)
    dilated[box] = ndimage.binary_dilation(label[box], ndimage.generate_binary_structure(label.ndim, 2), times)
    return dilated


def _compare(
    matching: Matching, lesion_ids: npt.NDArray[np.int32], lesions: npt.NDArray[np.int64], spacing_mm: Sequence[float]
) -> list[tuple[float, float]]:
    """Dice and HD95 in mm of each lesion with all components that belong to it; 0 and 374 mm where there is none."""
    from scipy import ndimage  # here, so that the help of evaluate does not wait for it

    if not lesions.size:
        return []
    lesion_boxes, predicted_boxes = map(ndimage.find_objects, (lesion_ids, matching.predicted_ids))
    scores = []
    for lesion in lesions:
        belonging = matching.pairs[matching.pairs[:, 0] == lesion, 1]
        if not belonging.size:
            scores.append((0.0, WORST_MM))
            continue
        boxes = [lesion_boxes[lesion - 1], *(predicted_boxes[component - 1] for component in belonging)]
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
        mask = lesion_ids[box] == lesion
        components = np.isin(matching.predicted_ids[box], belonging)
        scores.append((dice(mask, components), hausdorff95_mm(mask, components, spacing_mm)))
    return scores


def lesion_wise_dice(label: Array, prediction: Array, exclude_other_instances: bool = False) -> float:
    """Lesion-wise Dice without dilation and without smallest volume: the Dice of every lesion / (TP + FN + FP).

    Lesions are components with full connectivity. Each is compared with all the predicted components that share a voxel
    with it. TP and FN are the lesions found and missed, FP the predicted components that share no voxel with the label;
    FN and FP add a Dice of 0.

    Where a predicted component touches several lesions, there are two ways to count its voxels in the Dice of one:

    - all voxels outside of this lesion are false: Eq. 3 of Rachmadi et al. (MIDL 2023). BraTS counts this way, and so
      does the column ``detection.lesion_dice``.
    - only those outside of every lesion are false: Eq. 5, ``exclude_other_instances=True``. On a binary prediction this
      is 1 minus the lesion-wise loss by default, in the limit of ``smooth`` = 0.

    Args:
        label: (H, W) or (D, H, W), bool or integers 0 and 1.
        prediction: the same shape, bool or integers 0 and 1.
        exclude_other_instances: whether to leave the voxels of other lesions out, as the losses do by default.

    Returns:
        A number in [0, 1]. No instance in either mask: 1, by convention. None in one of them: 0.

    Raises:
        TypeError, ValueError: if one is not a mask, the shapes differ, or they are neither 2D nor 3D.

    Example:
        >>> import numpy as np
        >>> label, prediction = np.array([[1, 0, 1]]), np.array([[1, 1, 1]])
        >>> lesion_wise_dice(label, prediction)  # twice 2 / (1 + 3)
        0.5
        >>> lesion_wise_dice(label, prediction, exclude_other_instances=True)  # twice 2 / (1 + 2)
        0.6666666666666666
    """
    return lesion_dice(match_instances(label, prediction), exclude_other_instances)
