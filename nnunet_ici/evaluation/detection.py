"""Detection of single instances: size and outcome of each, and detection by size and FROC pooled over all cases."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.matching import Matching
from nnunet_ici.evaluation.metrics import f1_of_counts, instance_dice

__all__ = [
    "FALSE_PER_CASE",
    "FROC_NOTE",
    "INSTANCE_COLUMNS",
    "SIZE_NOTE",
    "InstanceRow",
    "by_size",
    "froc",
    "froc_score",
    "instance_rows",
]

# Columns of instances.csv after model, case and class.
INSTANCE_COLUMNS = ("kind", "id", "voxels", "size", "touched", "dice", "peak_probability")
InstanceRow = dict[str, "str | float"]

# False positives per case at which the FROC curve is read off, as in LUNA16 (Setio et al., 2017).
FALSE_PER_CASE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# The definitions printed below the tables and in the report.
FROC_NOTE = (
    "FROC: the mean of the sensitivities at 0.125, 0.25, 0.5, 1, 2, 4 and 8 false predictions per case. The "
    "sensitivity is the fraction of all lesions, pooled over the cases, that are still found when predictions below a "
    "confidence are dropped. The confidence of a prediction is its peak probability. Beyond the end of the curve, its "
    "last sensitivity is used."
)
SIZE_NOTE = (
    "Found and missed lesions are assigned to a range by the size of the lesion, false predictions by their own size. "
    "Recall = found / (found + missed), precision = found / (found + false), F1 = 2 found / (2 found + missed + false)."
)


def instance_rows(
    matching: Matching, voxel_size: float = 1.0, probability: npt.NDArray[np.float32] | None = None
) -> list[InstanceRow]:
    """One row per instance, first those of the label, then those of the prediction.

    Args:
        matching: matching of one case, class and model.
        voxel_size: size of a voxel in the unit of ``size``: mm3, mm2, or 1 for voxels.
        probability: float32, the shape of the masks; None makes ``peak_probability`` NaN.

    Returns:
        Rows with the keys :data:`INSTANCE_COLUMNS`; an empty list without instances.

        - ``kind``: "label" or "predicted".
        - ``touched``: 1 if the instance overlaps one of the other mask, else 0.
        - ``dice``: :func:`~nnunet_ici.evaluation.metrics.instance_dice` of a label instance; NaN for a predicted one.
        - ``peak_probability``: highest probability inside a predicted instance. For a label instance, the highest peak
          among the predicted instances that overlap it; NaN if there are none.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> matching = match_instances(np.array([[1, 1, 0, 1]]), np.array([[0, 1, 0, 0]]))
        >>> [(row["kind"], row["size"], row["touched"]) for row in instance_rows(matching, voxel_size=2.0)]
        [('label', 4.0, 1), ('label', 2.0, 0), ('predicted', 2.0, 1)]
    """
    peaks = np.full(matching.predicted_instances, np.nan)
    best = np.full(matching.label_instances, np.nan)
    if probability is not None:
        inside = matching.predicted_ids > 0
        label, predicted = (matching.pairs - 1).T
        peaks.fill(-np.inf)
        np.maximum.at(peaks, matching.predicted_ids[inside] - 1, probability[matching.box][inside])
        best[label] = -np.inf
        np.maximum.at(best, label, peaks[predicted])
    no_dice = np.full(matching.predicted_instances, np.nan)
    rows: list[InstanceRow] = []
    for kind, voxels, touched, dice, peak in (
        ("label", matching.label_voxels, matching.label_found, instance_dice(matching), best),
        ("predicted", matching.predicted_voxels, matching.predicted_true, no_dice, peaks),
    ):
        for at in range(voxels.size):
            values = (kind, at + 1, int(voxels[at]), float(voxels[at] * voxel_size), int(touched[at]))
            rows.append(dict(zip(INSTANCE_COLUMNS, (*values, float(dice[at]), float(peak[at])), strict=True)))
    return rows


def by_size(rows: Iterable[InstanceRow], edges: Sequence[float]) -> list[dict[str, float]]:
    """Recall, precision and F1 of the instances in each size range, pooled over all cases.

    Args:
        rows: rows of one model and class.
        edges: ascending limits between the ``len(edges) + 1`` size ranges; a lower limit belongs to its range.

    Returns:
        A dictionary for each range: ``from`` (inclusive), ``to`` (exclusive, inf for the last range), the numbers of
        ``label``, ``found``, ``missed`` and ``false`` instances, and ``recall``, ``precision`` and ``f1`` as defined in
        :data:`SIZE_NOTE`. A ratio of 0 / 0 is NaN.

    Example:
        >>> rows = [{"kind": "label", "size": 5, "touched": 1}, {"kind": "label", "size": 50, "touched": 0}]
        >>> [(group["from"], group["recall"]) for group in by_size(rows, [10])]
        [(0.0, 1.0), (10.0, 0.0)]
    """
    rows = list(rows)
    groups = []
    for low, high in itertools.pairwise((0.0, *map(float, edges), math.inf)):
        inside = [row for row in rows if low <= float(row["size"]) < high]
        numbers = Counter((row["kind"], int(row["touched"])) for row in inside)
        found, missed, false = numbers["label", 1], numbers["label", 0], numbers["predicted", 0]
        groups.append(
            {
                "from": low,
                "to": high,
                "label": found + missed,
                "found": found,
                "missed": missed,
                "false": false,
                "recall": found / (found + missed) if found + missed else math.nan,
                "precision": found / (found + false) if found + false else math.nan,
                "f1": f1_of_counts(found, missed, false, empty=math.nan),
            }
        )
    return groups


def froc(rows: Iterable[InstanceRow], cases: int) -> dict[str, list[float]]:
    """Free-response ROC curve: lesion-wise sensitivity against false positives per case, pooled over all cases.

    The candidates are the predicted instances, and the confidence of each is its peak probability. The curve follows a
    decreasing confidence threshold and ends at the full prediction.

    Args:
        rows: rows of one model and class, with peak probabilities.
        cases: number of cases, including those without instances.

    Returns:
        Three lists.

        - ``false_per_case`` and ``sensitivity``: points of the curve, from (0, 0) to the full prediction.
        - ``at``: sensitivity at each of :data:`FALSE_PER_CASE`, taken from the last point of the curve that does not
          exceed it.

        Without lesions every sensitivity is NaN. Without candidates the curve is the single point (0, 0).

    Example:
        >>> found = {"kind": "label", "touched": 1, "peak_probability": 0.9}
        >>> false = {"kind": "predicted", "touched": 0, "peak_probability": 0.6}
        >>> curve = froc([found, {**found, "touched": 0}, false], cases=2)
        >>> curve["false_per_case"], curve["sensitivity"]
        ([0.0, 0.0, 0.5], [0.0, 0.5, 0.5])
    """
    rows = list(rows)
    lesions = sum(row["kind"] == "label" for row in rows)
    found = np.array([row["peak_probability"] for row in rows if row["kind"] == "label" and row["touched"]], float)
    false = np.array(
        [row["peak_probability"] for row in rows if row["kind"] == "predicted" and not row["touched"]], float
    )
    levels = -np.unique(-np.concatenate([found, false]))  # descending
    number_found, number_false = (
        np.append(0, peaks.size - np.searchsorted(np.sort(peaks), levels)) for peaks in (found, false)
    )
    false_per_case = number_false / max(cases, 1)
    sensitivity = number_found / lesions if lesions else np.full(number_found.shape, np.nan)
    last = np.searchsorted(false_per_case, FALSE_PER_CASE, side="right") - 1
    return {
        "false_per_case": false_per_case.tolist(),
        "sensitivity": sensitivity.tolist(),
        "at": sensitivity[last].tolist(),
    }


def froc_score(curve: Mapping[str, Sequence[float]]) -> float:
    """The FROC score (:data:`FROC_NOTE`) of a curve returned by :func:`froc`; NaN without lesions.

    Example:
        >>> froc_score({"at": [0.0, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75]})
        0.5
    """
    return fmean(curve["at"])
