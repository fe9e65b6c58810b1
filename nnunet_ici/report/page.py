"""The page: verdict, scores, lesions, cases, training curves and tables in one self-contained HTML file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import PurePath
from typing import NamedTuple

from nnunet_ici import __version__
from nnunet_ici.drawing import palette
from nnunet_ici.drawing.style import plain_style
from nnunet_ici.evaluation.families import CONVENTIONS
from nnunet_ici.evaluation.tables import Table, format_value
from nnunet_ici.report.case_charts import case_charts
from nnunet_ici.report.definitions import ALL_CASES, definitions_of
from nnunet_ici.report.drawn_cases import DrawnCase, choose_cases
from nnunet_ici.report.lesion_charts import lesion_charts
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.rendering import load_templates
from nnunet_ici.report.training import Curves
from nnunet_ici.report.training_charts import training_charts

__all__ = ["group_starts", "make_page"]

SECTIONS = {
    "volumes": "Scores and volumes",
    "lesions": "Lesions",
    "cases": "Cases",
    "training": "Training",
    "tables": "All tables",
    "compared": "Models and data",
}
LEGEND = {
    "label": "outline of the label",
    "hit": "hit: voxels in label and prediction",
    "missed": "missed voxels of a found lesion",
    "false": "false voxels of a prediction that touches a lesion",
    "missed whole": "missed lesion",
    "false whole": "false prediction",
    "ring": "ring around a tiny lesion or prediction: found, missed, false",
}
# Maximum number of characters in the title. A longer list of models is replaced by the number of models.
LONGEST_TITLE = 60
# A table of all cases with more columns than this is printed in landscape.
MOST_PORTRAIT = 16
# Up to this number of models, the table of all cases has columns for missed lesions and false predictions.
MOST_WITH_COUNTS = 3


def make_page(evaluation: Evaluation, cases: Sequence[DrawnCase], trainings: Sequence[Curves]) -> str:
    """Render the whole page as HTML.

    Args:
        evaluation: evaluation to report.
        cases: drawn cases, worst first.
        trainings: training curves; empty if there are none.
    """
    models = evaluation.models
    title = ", ".join(models)
    with plain_style():
        lesions = {name: lesion_charts(evaluation, name) for name in evaluation.classes}
        volumes = {name: case_charts(evaluation, name) for name in evaluation.classes}
        curves = training_charts(trainings)
    templates = load_templates()
    templates.globals.update(
        CONVENTIONS=CONVENTIONS, LEGEND=LEGEND, ALL_CASES=ALL_CASES, SECTIONS=SECTIONS, palette=palette
    )
    return templates.get_template("page.html").render(
        title=f"Lesion report: {title if len(models) == 1 or len(title) <= LONGEST_TITLE else f'{len(models)} models'}",
        evaluation=evaluation,
        verdict=evaluation.verdict,
        facts=_facts(evaluation),
        arguments=[(name, _as_text(value)) for name, value in evaluation.arguments.items() if value not in (None, [])],
        tables=[(table, group_starts(table), definitions_of(table.name, table.head)) for table in evaluation.tables()],
        volumes=volumes,
        lesions=lesions,
        all_cases=_all_cases(evaluation),
        anchors={case.name: f"case{number}" for number, case in enumerate(cases, start=1)},
        cases=[(case, _scores_of(evaluation, case.name)) for case in cases],
        brief=sum(case.brief for case in cases),
        trainings=curves,
        version=__version__,
        now=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    scheme = evaluation.settings.scheme
    classes = [
        f"{name}: " + (f"label {' and '.join(map(str, values))}" if values else "every label above 0")
        for name, values in scheme.classes.items()
    ]
    if scheme.ignore is not None:
        classes.append(f"label {scheme.ignore} is ignored")
    return [
        ("models", ", ".join(evaluation.models)),
        *([("all models", evaluation.name_end.strip("_"))] if evaluation.name_end else []),
        ("classes", "; ".join(classes)),
        ("cases", str(len(evaluation.cases))),
        ("unit of lesion sizes", evaluation.unit_title),
        ("evaluated", f"{evaluation.day}, with nnunet_ici {evaluation.version}"),
        ("results folder", evaluation.folder.resolve().name),
    ]


def _as_text(value: object) -> str:
    """An argument as text. Folders of paths are dropped, because they mean nothing on another machine."""
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        name, equals, path = value.rpartition("=")
        return name + equals + PurePath(path).name if "/" in path or "\\" in path else value
    return f"{value:g}" if isinstance(value, float) else str(value)


def group_starts(table: Table) -> list[int]:
    """Indices of the rows that start a new group. Groups follow the name that changes least often, such as model."""
    columns = [[row[at].text for row in table.rows] for at in range(table.names)]
    changes = [[n for n, (one, other) in enumerate(itertools.pairwise(c), 1) if one != other] for c in columns]
    least = min(changes, key=len)
    return least if len(least) < len(table.rows) - 1 else []


class AllCases(NamedTuple):
    """The table of all cases.

    Attributes:
        names: titles of the name columns: case and, if there are several classes, class.
        totals: titles of the columns that describe the label.
        models: titles of the columns of each model.
        rows: names of each row, and its formatted values.
    """

    names: list[str]
    totals: list[str]
    models: dict[str, list[str]]
    rows: list[tuple[list[str], list[str]]]

    @property
    def titles(self) -> list[str]:
        """The title of each value in a row, with the name of its model if there are several."""
        several = len(self.models) > 1
        of_models = [
            f"{model}: {title}" if several else title for model, titles in self.models.items() for title in titles
        ]
        return self.totals + of_models

    @property
    def wide(self) -> bool:
        """Whether the table needs a landscape page."""
        return len(self.names) + len(self.titles) > MOST_PORTRAIT


def _all_cases(evaluation: Evaluation) -> AllCases:
    """One row per case and class, from the worst to the best case of the first model."""
    several = len(evaluation.classes) > 1
    with_counts = len(evaluation.models) <= MOST_WITH_COUNTS
    noun = {"mm3": "volume (ml)", "mm2": "area (mm²)"}.get(evaluation.unit, f"size ({evaluation.unit})")
    scale = 1000.0 if evaluation.unit == "mm3" else 1.0
    values = {(row["model"], row["case"], row["class"]): row for row in evaluation.rows}
    lesions = evaluation.lesions
    rows = []
    for _, case in choose_cases(evaluation.rows, len(evaluation.cases)):
        for name in evaluation.classes:
            of_label = lesions[evaluation.models[0], case, name]
            numbers = [str(of_label.label), format_value(of_label.label_size / scale)]
            for model in evaluation.models:
                row, counted = values[model, case, name], lesions[model, case, name]
                numbers += [format_value(row[metric]) for metric in evaluation.scores.values()]  # type: ignore[arg-type]
                numbers += [str(counted.missed), str(counted.false)] if with_counts else []
            rows.append(([case, name] if several else [case], numbers))
    titles = [*evaluation.scores, *(["missed", "false"] if with_counts else [])]
    names = ["case", "class"] if several else ["case"]
    return AllCases(names, ["lesions", noun], dict.fromkeys(evaluation.models, titles), rows)


def _scores_of(evaluation: Evaluation, case: str) -> list[tuple[str, str]]:
    """The scores of each model in a case, and its numbers of missed lesions and false predictions."""
    several = len(evaluation.classes) > 1
    lesions = evaluation.lesions
    texts = []
    for row in evaluation.rows:
        if row["case"] == case:
            model, name = str(row["model"]), str(row["class"])
            counted = lesions[model, case, name]
            scores = [f"{title} {format_value(row[metric])}" for title, metric in evaluation.scores.items()]  # type: ignore[arg-type]
            scores.append(f"missed {counted.missed} of {counted.label}, false {counted.false}")
            texts.append((f"{model}, {name}" if several else model, ", ".join(scores)))
    return texts
