"""Evaluate cases from their files, several at a time."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_ici.evaluation.detection import InstanceRow, instance_rows
from nnunet_ici.evaluation.ensemble import probability_path
from nnunet_ici.evaluation.families import Pair, metrics_of
from nnunet_ici.evaluation.folders import Case, LabelScheme, read_label_image
from nnunet_ici.evaluation.probabilities import probability_of, read_probabilities
from nnunet_ici.evaluation.summary import Row

__all__ = ["Evaluated", "Settings", "available_extras", "evaluate_all", "evaluate_files"]


@dataclass(frozen=True)
class Settings:
    """How cases are evaluated.

    Attributes:
        scheme: the meaning of the label maps.
        families: of metrics.
        available: "probability" and "panoptica", whichever there is.
        file_ending: of the label maps.
        in_voxels: whether sizes of instances are counted in voxels, not in mm3 (mm2 in 2D).
    """

    scheme: LabelScheme
    families: tuple[str, ...]
    available: tuple[str, ...]
    file_ending: str
    in_voxels: bool = False


@dataclass
class Evaluated:
    """What came out: a row for each model and class, one for each instance, and the problems, one sentence each.

    A file with a problem has no rows, and a ground truth with one has none at all.
    """

    rows: list[Row] = field(default_factory=list)
    instances: list[InstanceRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def available_extras(cases: Sequence[Case], file_ending: str) -> tuple[tuple[str, ...], list[str]]:
    """What metrics can be had: "probability" where a model has nnU-Net's .npz, "panoptica" where that is installed.

    Returns:
        The names, and the problems: a model that has probabilities for some of its predictions only.
    """
    problems = []
    found = False
    for model in cases[0].predictions if cases else ():
        paths = [path for case in cases if (path := case.predictions[model]) is not None]
        missing = [path for path in paths if not probability_path(path, file_ending).is_file()]
        if missing and len(missing) < len(paths):
            problems += [
                f"{model}: no probabilities beside {path}, as there are beside others. "
                f"Expected: {probability_path(path, file_ending)}. Got: no such file"
                for path in missing
            ]
        found |= not missing and bool(paths)
    extras = ["probability"] if found else []
    if importlib.util.find_spec("panoptica") is not None:
        extras.append("panoptica")
    return tuple(extras), problems


def evaluate_files(case: Case, settings: Settings) -> Evaluated:
    """Evaluate all models on one case. A prediction that is None counts as empty."""
    result = Evaluated()
    scheme = settings.scheme
    try:
        label, spacing_mm = _read(case.label, scheme)
    except ValueError as error:
        result.problems.append(str(error))
        return result
    for model, path in case.predictions.items():
        probabilities = None
        try:
            prediction = np.zeros_like(label) if path is None else _read(path, scheme)[0]
            if prediction.shape != label.shape:
                raise ValueError(
                    f"{path} has another shape than its ground truth. Expected: {label.shape}, as {case.label}. "
                    f"Got: {prediction.shape}"
                )
            if path is not None and "probability" in settings.available:
                npz = probability_path(path, settings.file_ending)
                probabilities = read_probabilities(npz, scheme, label.shape) if npz.is_file() else None
        except ValueError as error:
            result.problems.append(str(error))
            continue
        for name in scheme.classes:
            of_class = None if probabilities is None else probability_of(probabilities, scheme, name)
            pair = Pair(*scheme.masks(name, label, prediction), spacing_mm, scheme.counted(label, of_class))
            keys: Row = {"model": model, "case": case.name, "class": name}
            metrics = metrics_of(settings.families, settings.available)
            result.rows.append(keys | {metric.name: metric.compute(pair) for metric in metrics})
            voxel_size = 1.0 if settings.in_voxels else pair.voxel_mm
            result.instances += [keys | row for row in instance_rows(pair.matching, voxel_size, pair.probability)]
    return result


def _read(path: Path, scheme: LabelScheme) -> tuple[np.ndarray, tuple[float, ...]]:
    label_map, spacing_mm = read_label_image(path)
    undeclared = scheme.undeclared(label_map)
    if undeclared:
        more = "" if len(undeclared) <= 8 else f" and {len(undeclared) - 8} more"
        raise ValueError(
            f"{path} holds values that stand for no class. Expected: {scheme}. "
            f"Got: {', '.join(map(str, undeclared[:8]))}{more}"
        )
    return label_map, spacing_mm


def evaluate_all(cases: Sequence[Case], settings: Settings, processes: int) -> Evaluated:
    """Evaluate the cases in parallel, with a progress bar; rows by model, then case, then class."""
    results = dict(tqdm(_results(cases, settings, processes), total=len(cases), desc="evaluate", unit="case"))
    models = list(cases[0].predictions) if cases else []
    joined = Evaluated()
    for case in cases:
        joined.rows += results[case.name].rows
        joined.instances += results[case.name].instances
        joined.problems += results[case.name].problems
    joined.rows.sort(key=lambda row: models.index(str(row["model"])))
    joined.instances.sort(key=lambda row: models.index(str(row["model"])))
    return joined


def _results(cases: Sequence[Case], settings: Settings, processes: int) -> Iterator[tuple[str, Evaluated]]:
    if processes == 1 or len(cases) < 2:
        yield from ((case.name, evaluate_files(case, settings)) for case in cases)
        return
    # Spawned, as ITK's threads in this process would not survive a fork.
    with ProcessPoolExecutor(min(processes, len(cases)), multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(evaluate_files, case, settings): case.name for case in cases}
        for future in as_completed(futures):
            yield futures[future], future.result()
