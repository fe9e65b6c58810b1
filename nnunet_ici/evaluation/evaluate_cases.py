"""Evaluation of cases from their files, in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_ici.evaluation.average_precision import count_at_thresholds
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule
from nnunet_ici.evaluation.detection import instance_rows
from nnunet_ici.evaluation.ensemble import probability_path
from nnunet_ici.evaluation.families import IN_VOXELS, METRICS, Metric, Pair, metrics_of
from nnunet_ici.evaluation.folders import Case
from nnunet_ici.evaluation.grids import PredictedMap, read_prediction
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.locations import locate_instances, write_map
from nnunet_ici.evaluation.probabilities import probability_of
from nnunet_ici.evaluation.summary import Row
from nnunet_ici.evaluation.verdict import COLUMNS
from nnunet_ici.parallel import in_parallel

__all__ = ["Evaluated", "Settings", "evaluate_all", "evaluate_files"]


@dataclass(frozen=True)
class Settings:
    """The settings of an evaluation.

    Attributes:
        scheme: meaning of the label values.
        families: names of the metric families.
        file_ending: file ending of the label maps.
        sizes: limits between the size ranges of instances.
        in_mm: whether the label maps have a voxel size in mm.
        in_voxels: whether instance sizes are given in voxels instead of mm3 (mm2 in 2D).
        with_probabilities: names of the models with nnU-Net's probabilities.
        brats_rule: dilation and smallest volume of the family brats.
        maps: folder for the maps of outcomes; None to write none.
        overlap: minimum IoU of a found lesion; 0 for any shared voxel.
    """

    scheme: LabelScheme
    families: tuple[str, ...]
    file_ending: str
    sizes: tuple[float, ...] = ()
    in_mm: bool = True
    in_voxels: bool = False
    with_probabilities: tuple[str, ...] = ()
    brats_rule: BratsRule = CHALLENGES["met"]
    maps: Path | None = None
    overlap: float = 0.0

    @property
    def metrics(self) -> list[Metric]:
        """The metrics to compute: of the families, and of the verdict; some only if a model has probabilities."""
        chosen = metrics_of(self.families, bool(self.with_probabilities), self.in_mm)
        names = (column.metric if self.in_mm else IN_VOXELS.get(column.metric, column.metric) for column in COLUMNS)
        return list(dict.fromkeys([*chosen, *map(METRICS.__getitem__, names)]))


@dataclass
class Evaluated:
    """The results of an evaluation.

    Attributes:
        rows: one row per model, case and class.
        instances: one row per instance.
        counts: by model and class, the sum over the cases of
            :func:`~nnunet_ici.evaluation.average_precision.count_at_thresholds`; for models with probabilities, if the
            family detection is computed.
        problems: problems with the files, one sentence each. A bad prediction has no rows; a bad ground truth leaves
            its case without rows for any model.
        turned: paths of the predictions that were turned to the axes of their ground truth.
        unit: unit of the sizes: "mm3", "mm2" or "voxels".
    """

    rows: list[Row] = field(default_factory=list)
    instances: list[Row] = field(default_factory=list)
    counts: dict[tuple[str, str], npt.NDArray[np.int64]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    turned: list[Path] = field(default_factory=list)
    unit: str = ""

    def add(self, other: Evaluated) -> None:
        """Append the results of other cases or models."""
        for name in ("rows", "instances", "problems", "turned"):
            getattr(self, name).extend(getattr(other, name))
        for key, counts in other.counts.items():
            self.counts[key] = self.counts[key] + counts if key in self.counts else counts
        self.unit = self.unit or other.unit


def evaluate_files(case: Case, settings: Settings) -> Evaluated:
    """Evaluate all models on one case; a missing prediction (None) counts as empty, with probability 0 everywhere."""
    result = Evaluated()
    scheme = settings.scheme
    metrics = settings.metrics
    try:
        label = read_label_map(case.label, scheme)
    except ValueError as error:
        result.problems.append(str(error))
        return result
    result.unit = "voxels" if settings.in_voxels else f"mm{label.array.ndim}"
    for model, path in case.predictions.items():
        has_probability = model in settings.with_probabilities
        prediction = PredictedMap(np.zeros_like(label.array))
        try:
            if path is not None:
                beside = probability_path(path, settings.file_ending) if has_probability else None
                prediction = read_prediction(path, label, scheme, beside)
                result.turned += [path] if prediction.turned else []
        except ValueError as error:
            result.problems.append(str(error))
            continue
        for name in scheme.classes:
            of_class = np.zeros(label.array.shape, np.float32) if has_probability else None
            if prediction.probabilities is not None:
                of_class = probability_of(prediction.probabilities, scheme, name)
            masks = scheme.masks(name, label.array, prediction.array)
            counted = scheme.counted(label.array, of_class)
            pair = Pair(*masks, label.spacing_mm, label.grid.voxel_mm3, counted, settings.brats_rule, settings.overlap)
            keys: Row = {"model": model, "case": case.name, "class": name}
            result.rows.append(keys | {metric.name: metric.compute(pair) for metric in metrics})
            voxel_size = 1.0 if settings.in_voxels else pair.voxel_mm3
            instances = instance_rows(pair.matching, voxel_size, pair.probability)
            places = locate_instances(pair.matching, label.grid)
            result.instances += [keys | row | place for row, place in zip(instances, places, strict=True)]
            if settings.maps is not None:
                folder = settings.maps / model
                if len(scheme.classes) > 1:
                    folder /= name.replace("/", "_")
                write_map(pair.matching, label.grid, folder / case.label.name)
            if pair.probability is not None and "detection" in settings.families:
                counts = count_at_thresholds(pair.label, pair.probability, overlap=settings.overlap)
                result.counts[model, name] = counts
    return result


def evaluate_all(cases: Sequence[Case], settings: Settings, processes: int) -> Evaluated:
    """Evaluate the cases in parallel, with a progress bar; rows are sorted by model, then case, then class."""
    joined = Evaluated()
    for result in in_parallel(partial(evaluate_files, settings=settings), cases, processes, "evaluate"):
        joined.add(result)
    models = list(cases[0].predictions) if cases else []
    for rows in (joined.rows, joined.instances):
        rows.sort(key=lambda row: models.index(str(row["model"])))
    return joined
