"""Read the output of ``nnunet_ici evaluate``, and report missing or broken files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nnunet_ici.command import Problems
from nnunet_ici.evaluation.brats import CHALLENGES, BratsRule
from nnunet_ici.evaluation.detection import flood_warnings, sizes_of
from nnunet_ici.evaluation.evaluate_cases import Settings
from nnunet_ici.evaluation.evaluation_tables import evaluation_tables
from nnunet_ici.evaluation.families import FAMILIES, OLD_NAMES, Metric, metrics_of
from nnunet_ici.evaluation.folders import Case
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.summary import Row, group_rows, read_rows
from nnunet_ici.evaluation.tables import Table
from nnunet_ici.evaluation.verdict import Verdict, make_verdict

__all__ = ["Evaluation", "Lesions", "read_evaluation"]

FILES = ("cases.csv", "instances.csv", "summary.json")
KEYS = ("model", "case", "class")
NEEDED = {"cases.csv": KEYS, "instances.csv": (*KEYS, "kind", "size", "found")}

# Scores of whole cases, if they were computed.
SCORES = ("dice", "lesion_dice")
UNITS = {"mm3": "mm³", "mm2": "mm²"}

# Results of by_size and of froc for one model and class.
SizeGroups = list[dict[str, float]]
Curve = dict[str, list[float]]


class Lesions(NamedTuple):
    """Counts and sizes of lesions and predictions, for one model, case and class.

    Attributes:
        label: number of lesions in the label.
        missed, false: numbers of missed lesions and of false predictions.
        label_size, predicted_size: total size of all lesions and of all predictions, in the unit of the evaluation.
    """

    label: int
    missed: int
    false: int
    label_size: float
    predicted_size: float


@dataclass(frozen=True)
class Evaluation:
    """Content of an output folder of ``nnunet_ici evaluate``.

    Attributes:
        folder: output folder.
        version, date: version of this package and date, both at the time of the evaluation.
        arguments: arguments of the command line, by name.
        settings: settings of the evaluation.
        unit: unit of the sizes: "mm3", "mm2" or "voxels".
        rows: rows of cases.csv.
        instances: rows of instances.csv.
        cases: files of each case, with their paths at the time of the evaluation.
        froc: FROC curves by model and class; empty without probabilities.
        name_end: end of all model names that :meth:`shortened` has left out.
    """

    folder: Path
    version: str
    date: str
    arguments: dict[str, Any]
    settings: Settings
    unit: str
    rows: list[Row]
    instances: list[Row]
    cases: dict[str, Case]
    froc: dict[tuple[str, str], Curve]
    name_end: str = ""

    @property
    def day(self) -> str:
        """Date and time of the evaluation in a readable format."""
        return self.date.replace("T", " ").replace("+00:00", " UTC")

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the evaluation."""
        return list(dict.fromkeys(str(row["model"]) for row in self.rows))

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.settings.scheme.classes)

    @property
    def metrics(self) -> list[Metric]:
        """Metrics in cases.csv. A folder of an earlier version lacks those that are new."""
        return [metric for metric in self.settings.metrics if metric.name in self.rows[0]]

    @property
    def scores(self) -> dict[str, str]:
        """Scores of whole cases, if they were computed: name of the metric by title."""
        return {metric.title: metric.name for metric in self.metrics if metric.name in SCORES}

    @property
    def unit_title(self) -> str:
        """Unit of the sizes, as shown to readers."""
        return UNITS.get(self.unit, self.unit)

    def rows_of(self, model: str, of_class: str) -> list[Row]:
        """Rows of cases.csv for one model and class."""
        return [row for row in self.rows if row["model"] == model and row["class"] == of_class]

    def instances_of(self, model: str, of_class: str) -> list[Row]:
        """Rows of instances.csv for one model and class."""
        return [row for row in self.instances if row["model"] == model and row["class"] == of_class]

    @cached_property
    def lesions(self) -> dict[tuple[str, str, str], Lesions]:
        """Counts and sizes of lesions and predictions, by model, case and class."""
        keys = pd.DataFrame(self.rows)[list(KEYS)]
        frame = pd.DataFrame(self.instances, columns=[*KEYS, "kind", "size", "found"])
        lesion, lost = frame["kind"].eq("label"), frame["found"].eq(0)
        values = (lesion, lesion & lost, ~lesion & lost, frame["size"].where(lesion, 0), frame["size"].mask(lesion, 0))
        columns = dict(zip(Lesions._fields, values, strict=True))
        sums = frame[list(KEYS)].assign(**columns).groupby(list(KEYS)).sum()
        sums = sums.reindex(pd.MultiIndex.from_frame(keys), fill_value=0)
        return {key: Lesions(*values) for key, *values in sums.itertuples(name=None)}

    def shortened(self) -> Evaluation:
        """The evaluation without the end that all model names share, such as "__nnUNetPlans__3d_fullres"."""
        ends = {name.partition("__")[2] for name in self.models}
        if len(self.models) == 1 or len(ends) > 1 or ends == {""}:
            return self
        end = f"__{ends.pop()}"
        tables = self.rows, self.instances
        rows, instances = ([row | {"model": str(row["model"]).removesuffix(end)} for row in rows] for rows in tables)
        cases = {
            name: replace(case, predictions={model.removesuffix(end): path for model, path in case.predictions.items()})
            for name, case in self.cases.items()
        }
        froc = {(model.removesuffix(end), name): curve for (model, name), curve in self.froc.items()}
        return replace(self, rows=rows, instances=instances, cases=cases, froc=froc, name_end=end)

    @property
    def warnings(self) -> list[str]:
        """Predictions that cover far more than the lesions, one sentence each."""
        return flood_warnings(self.instances, self.unit_title)

    def sizes(self) -> dict[tuple[str, str], SizeGroups]:
        """Recall and false predictions in each size range, by model and class."""
        return sizes_of(self.rows, self.instances, self.settings.sizes)

    @property
    def verdict(self) -> Verdict | None:
        """The first table, and two sentences that say what it means; None if no column of it was computed."""
        return make_verdict(self.rows)

    def tables(self) -> list[Table]:
        """The other tables: one per family, then the sizes, then the differences from the first model."""
        return evaluation_tables(self.rows, self.instances, self.settings, self.froc, self.unit_title)


def read_evaluation(folder: Path) -> tuple[Evaluation | None, list[str]]:
    """Read an output folder of ``nnunet_ici evaluate``.

    Returns:
        The evaluation, or None if there are problems; and the problems, one sentence each.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        got = f"no {', no '.join(missing)}" if folder.is_dir() else "no such folder"
        problem = f"{folder} holds no evaluation. Expected: {', '.join(FILES)}, written by nnunet_ici evaluate -o. "
        return None, Problems([f"{problem}Got: {got}"])
    problems = Problems()
    tables: dict[str, list[Row]] = {}
    for name, needed in NEEDED.items():
        with problems.collecting():
            rows = read_rows(folder / name, text=(*KEYS, "kind", "overlaps"))
            tables[name] = [{OLD_NAMES.get(column, column): value for column, value in row.items()} for row in rows]
            if lacking := [column for column in needed if rows and column not in rows[0]]:
                raise ValueError(f"{folder / name} lacks columns. Expected: {', '.join(needed)}. Got: no {lacking[0]}")
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read. Expected: JSON written by nnunet_ici evaluate. Got: {error}")
    if problems:
        return None, problems
    try:
        evaluation = _evaluation(folder, summary, tables["cases.csv"], tables["instances.csv"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problems.append(
            f"{path} is not usable. Expected: the output of this version of nnunet_ici evaluate. "
            f"Got: {type(error).__name__} {error}"
        )
        return None, problems
    with problems.collecting():
        _check(evaluation)
    return (None if problems else evaluation), problems


def _evaluation(folder: Path, summary: Mapping[str, Any], rows: list[Row], instances: list[Row]) -> Evaluation:
    """Convert everything to its type. Any error means that summary.json was not written by this version."""
    arguments = dict(summary["arguments"])
    classes = {str(name): tuple(map(int, values)) for name, values in summary["classes"].items()}
    scheme = LabelScheme(classes, summary["ignore"], summary["file_ending"])
    families = tuple(family for family in arguments["family"] if family in FAMILIES)
    columns = rows[0] if rows else {}
    probabilities = any(metric.needs_probability and metric.name in columns for metric in metrics_of(families))
    models = tuple(dict.fromkeys(str(row["model"]) for row in rows))
    rule = BratsRule(**summary["brats"]) if "brats" in summary else CHALLENGES["met"]
    return Evaluation(
        folder=folder,
        version=str(summary["nnunet_ici"]),
        date=str(summary["date"]),
        arguments=arguments,
        settings=Settings(
            scheme,
            families,
            str(summary["file_ending"]),
            sizes=tuple(map(float, arguments["sizes"])),
            in_mm=bool(summary.get("in_mm", True)),
            with_probabilities=models if probabilities else (),
            brats_rule=rule,
            overlap=float(summary.get("overlap", 0)),
        ),
        unit=str(summary["size_unit"]),
        rows=rows,
        instances=instances,
        cases={
            str(name): Case(
                str(name),
                Path(files["label"]),
                {str(model): None if path is None else Path(path) for model, path in files["predictions"].items()},
            )
            for name, files in summary["files"].items()
        },
        froc={
            (str(model), str(name)): {
                key: [math.nan if value is None else float(value) for value in values] for key, values in curve.items()
            }
            for model, curves in summary.get("curves", summary.get("froc", {})).items()
            for name, curve in curves.items()
        },
    )


def _check(evaluation: Evaluation) -> None:
    """Raise a ValueError if the three files do not belong to the same evaluation."""
    path = evaluation.folder / "cases.csv"
    if not evaluation.rows or not evaluation.metrics:
        got = "no rows" if not evaluation.rows else f"only {', '.join(evaluation.rows[0])}"
        raise ValueError(
            f"{path} does not match summary.json. Expected: columns of metrics, and at least one row. Got: {got}"
        )
    expected = {(case, name) for case in evaluation.cases for name in evaluation.classes}
    for model, classes in group_rows(evaluation.rows).items():
        found = {(str(row["case"]), name) for name, rows in classes.items() for row in rows}
        if found != expected:
            case, name = min(found ^ expected)
            raise ValueError(
                f"{path} does not match summary.json. Expected: one row of {model} for each case and class. "
                f"Got: a missing or an extra row for case {case}, class {name}"
            )
