"""Single instances: how large each is, whether it was found or false, and what follows for all cases together."""

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

# One line of instances.csv, besides model, case and class.
INSTANCE_COLUMNS = ("kind", "id", "voxels", "size", "touched", "dice", "peak_probability")
InstanceRow = dict[str, "str | float"]

# Numbers of false predictions per case at which FROC is read off, as in LUNA16 (Setio et al., 2017).
FALSE_PER_CASE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# The definitions that tables, report and documentation print.
FROC_NOTE = (
    "FROC: the mean of the sensitivities at 0.125, 0.25, 0.5, 1, 2, 4 and 8 false predictions per case. The "
    "sensitivity is the share of the lesions of all cases together that are found when predictions of low confidence "
    "are dropped; the confidence of a prediction is its highest probability. Beyond the end of the curve the last "
    "sensitivity counts."
)
SIZE_NOTE = (
    "A lesion, found or missed, counts in the range of its own size, and a false prediction in the range of its own. "
    "Recall = found / (found + missed), precision = found / (found + false), F1 = 2 found / (2 found + missed + false)."
)


def instance_rows(
    matching: Matching, voxel_size: float = 1.0, probability: npt.NDArray[np.float32] | None = None
) -> list[InstanceRow]:
    """A row for each instance of the label and of the prediction.

    Args:
        matching: matching of one case, class and model.
        voxel_size: size of one voxel, in the unit of ``size``: mm3, mm2, or 1 for voxels.
        probability: the shape of the masks; without it ``peak_probability`` is NaN.

    Returns:
        The label's instances, then the predicted ones, with the keys :data:`INSTANCE_COLUMNS`. ``kind`` is "label"
        or "predicted"; ``touched`` 1 or 0; ``dice`` from :func:`~nnunet_ici.evaluation.metrics.instance_dice`, NaN
        for predicted ones; ``peak_probability`` the highest probability in a predicted instance, and for one of the
        label the highest among the predicted instances that touch it (NaN if none does). Without instances there are no
        rows.

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
    """Recall, precision and F1 of the instances of each size, over all cases.

    Args:
        rows: rows of one model and class.
        edges: ascending limits between ``len(edges) + 1`` ranges; a range begins at an edge and ends below the next.

    Returns:
        For each range: ``from`` (included), ``to`` (not included, inf for the last), the numbers of ``label``,
        ``found``, ``missed`` and ``false`` instances, and ``recall``, ``precision`` and ``f1``, as :data:`SIZE_NOTE`
        defines them. 0 / 0 is NaN.

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
    """Free-response ROC: the share of lesions found against false predictions per case, over all cases.

    Candidates are the predicted instances, with their peak probability as confidence: the curve shows what is left when
    the less certain ones are dropped, and ends at the prediction itself.

    Args:
        rows: rows of one model and class, with peak probabilities.
        cases: number of cases, including those without instances.

    Returns:
        ``false_per_case`` and ``sensitivity``, the points of the curve from the highest confidence to the lowest;
        ``at``: the sensitivity at each of :data:`FALSE_PER_CASE`, read off at the last point not beyond it (0 if there
        is none). Without lesions the sensitivity is NaN. No candidates give the single point (0, 0).

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
    """The FROC score, as :data:`FROC_NOTE` defines it, of what :func:`froc` returns; NaN without lesions.

    Example:
        >>> froc_score({"at": [0.0, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75]})
        0.5
    """
    return fmean(curve["at"])
