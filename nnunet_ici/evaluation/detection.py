"""Detection of single instances: size and outcome of each, and detection by size and warnings over all cases."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nnunet_ici.command import plural
from nnunet_ici.evaluation.matching import Matching
from nnunet_ici.evaluation.metrics import f1_of_counts, instance_dice
from nnunet_ici.evaluation.summary import Row, group_rows

__all__ = ["INSTANCE_COLUMNS", "SIZE_NOTE", "by_size", "flood_warnings", "instance_rows", "sizes_of"]

# Columns of instances.csv after model, case and class.
INSTANCE_COLUMNS = ("kind", "id", "voxels", "size", "found", "lesion_share", "dice", "peak_probability")

# A predicted volume above this multiple of the label's is a flood.
FLOOD = 10
# The definitions printed below the tables and in the report.
SIZE_NOTE = (
    "Found and missed lesions are assigned to a range by the size of the lesion, false predictions by their own size. "
    "Recall = found / (found + missed), precision = found / (found + false), F1 = 2 found / (2 found + missed + false)."
)


def instance_rows(
    matching: Matching, voxel_size: float = 1.0, probability: npt.NDArray[np.float32] | None = None
) -> list[Row]:
    """One row per instance, first those of the label, then those of the prediction.

    Args:
        matching: matching of one case, class and model.
        voxel_size: size of a voxel in the unit of ``size``: mm3, mm2, or 1 for voxels.
        probability: float32, the shape of the masks; None makes ``peak_probability`` NaN.

    Returns:
        Rows with the keys :data:`INSTANCE_COLUMNS`:

        - ``kind``: "label" or "predicted".
        - ``found``: 1 if an instance of the other mask overlaps it, by the minimum IoU of the matching, else 0.
        - ``lesion_share``: share of a predicted instance that lies inside the label; NaN for a label instance.
        - ``dice``: :func:`~nnunet_ici.evaluation.metrics.instance_dice` of a label instance; NaN for a predicted one.
        - ``peak_probability``: highest probability inside a predicted instance. For a label instance, the highest peak
          among the predicted instances that overlap it; NaN if there are none.

    Example:
        >>> import numpy as np
        >>> from nnunet_ici.evaluation.matching import match_instances
        >>> matching = match_instances(np.array([[1, 1, 0, 1]]), np.array([[0, 1, 0, 0]]))
        >>> [(row["kind"], row["size"], row["found"]) for row in instance_rows(matching, voxel_size=2.0)]
        [('label', 4.0, 1), ('label', 2.0, 0), ('predicted', 2.0, 1)]
    """
    peaks = np.full(matching.predicted_instances, np.nan)
    best = np.full(matching.label_instances, np.nan)
    label, predicted = (matching.pairs - 1).T
    if probability is not None:
        inside = matching.predicted_ids > 0
        peaks.fill(-np.inf)
        np.maximum.at(peaks, matching.predicted_ids[inside] - 1, probability[matching.box][inside])
        best[label] = -np.inf
        np.maximum.at(best, label, peaks[predicted])
    of_label = matching.label_voxels, matching.label_found, np.full(best.size, np.nan), instance_dice(matching), best
    of_predicted = matching.predicted_voxels, matching.predicted_true, matching.lesion_share
    rows: list[Row] = []
    for kind, voxels, found, share, dice, peak in (
        ("label", *of_label),
        ("predicted", *of_predicted, np.full(peaks.size, np.nan), peaks),
    ):
        columns = (voxels, voxels * voxel_size, found.astype(int), share, dice, peak)
        for number, values in enumerate(zip(*(column.tolist() for column in columns), strict=True), start=1):
            rows.append(dict(zip(INSTANCE_COLUMNS, (kind, number, *values), strict=True)))
    return rows


def by_size(rows: Iterable[Row], edges: Sequence[float]) -> list[dict[str, float]]:
    """Recall, precision and F1 of the instances in each size range, pooled over all cases.

    Args:
        rows: rows of one model and class.
        edges: ascending limits between the ``len(edges) + 1`` size ranges; a lower limit belongs to its range.

    Returns:
        A dictionary for each range: ``from`` (inclusive), ``to`` (exclusive, inf for the last range), the numbers of
        ``label``, ``found``, ``missed`` and ``false`` instances, and ``recall``, ``precision`` and ``f1`` as defined in
        :data:`SIZE_NOTE`. A ratio of 0 / 0 is NaN.

    Example:
        >>> rows = [{"kind": "label", "size": 5, "found": 1}, {"kind": "label", "size": 50, "found": 0}]
        >>> [(group["from"], group["recall"]) for group in by_size(rows, [10])]
        [(0.0, 1.0), (10.0, 0.0)]
    """
    limits = [0.0, *map(float, edges), math.inf]
    numbers = Counter((bisect.bisect_right(limits, row["size"]), row["kind"], int(row["found"])) for row in rows)
    groups = []
    for at, (low, high) in enumerate(itertools.pairwise(limits), start=1):
        found, missed, false = numbers[at, "label", 1], numbers[at, "label", 0], numbers[at, "predicted", 0]
        counts = {"from": low, "to": high, "label": found + missed, "found": found, "missed": missed, "false": false}
        recall, precision = (found / (found + other) if found + other else math.nan for other in (missed, false))
        f1 = f1_of_counts(found, missed, false, empty=math.nan)
        groups.append(counts | {"recall": recall, "precision": precision, "f1": f1})
    return groups


def sizes_of(
    rows: Iterable[Row], instances: Iterable[Row], edges: Sequence[float]
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """:func:`by_size` for each model and class of the rows of cases.csv, also for those without instances."""
    groups = group_rows(instances)
    return {
        (model, name): by_size(groups.get(model, {}).get(name, []), edges)
        for model, classes in group_rows(rows).items()
        for name in classes
    }


def flood_warnings(rows: Iterable[Row], unit: str) -> list[str]:
    """Warnings about predictions that cover far more than the lesions.

    A prediction whose volume is more than ten times that of the label's lesions is a flood; a case without lesions has
    none. A predicted instance that touches lesions is named if less than a tenth of it is lesion; if there are several,
    the largest one.

    Args:
        rows: rows of instances.csv.
        unit: unit of the sizes.

    Returns:
        One text for each model and class with floods or such instances, without a full stop.
    """
    import pandas as pd  # not with the module, which the workers of evaluate_cases load

    frame = pd.DataFrame(rows)
    if frame.empty:
        return []
    frame = frame.reindex(columns=frame.columns.union(["lesion_share", "overlaps"]))  # which version 0.2 lacks
    warnings = []
    for (model, of_class), group in frame.groupby(["model", "class"], sort=False):
        parts = []
        sizes = group.pivot_table("size", "case", "kind", "sum", sort=False).reindex(columns=["label", "predicted"])
        ratio = sizes["predicted"] / sizes["label"]  # NaN without lesions
        if floods := int((ratio > FLOOD).sum()):
            label, predicted = sizes.loc[ratio.idxmax()]
            parts.append(
                f"predicted volume above {FLOOD} times the label's in {plural(floods, 'case')}, as in "
                f"{ratio.idxmax()}: {_size(predicted)} {unit} for {_size(label)} {unit}"
            )
        outside = group[(group["lesion_share"] > 0) & (group["lesion_share"] < 1 / FLOOD)]
        for named in outside.nlargest(1, "size").itertuples():
            parts.append(
                f"{plural(len(outside), 'component')} of which less than a tenth is lesion; component {int(named.id)} "
                f"of {named.case} covers {plural(len(named.overlaps.split()), 'lesion')}, "
                f"{100 * named.lesion_share:.2g} % of it is lesion"
            )
        called = model if frame["class"].nunique() == 1 else f"{model}, {of_class}"
        warnings += [f"{called}: {'; '.join(parts)}"] * bool(parts)
    return warnings


def _size(size: float) -> str:
    """A size in digits, never in powers of ten: "1,001,100", "64.2"."""
    return f"{size:,.0f}" if size >= 1000 else f"{size:.4g}"
