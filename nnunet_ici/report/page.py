"""The page: what was compared, tables, lesions, cases and training curves, in one HTML file that needs no other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timezone

from nnunet_ici import __version__
from nnunet_ici.drawing import palette
from nnunet_ici.drawing.style import plain_style
from nnunet_ici.evaluation.outputs import CONVENTIONS
from nnunet_ici.evaluation.tables import Cell, Table, format_value
from nnunet_ici.report.charts import lesion_charts, training_charts
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.rendering import load_templates
from nnunet_ici.report.slices import DrawnCase
from nnunet_ici.report.training import Curves

__all__ = ["group_starts", "make_page"]

SECTIONS = {
    "compared": "What was compared",
    "tables": "Tables",
    "lesions": "Lesions",
    "cases": "Cases",
    "training": "Training",
}
LEGEND = {
    "label": "lesion of the label",
    "found": "prediction that touches a lesion",
    "missed": "missed lesion",
    "false": "false prediction",
}
CAPTIONS = {
    "sizes": "All cases together; predictions by their own size",
    "differences": "Bold where the interval does not hold 0",
    "paper": "DSC: mean over the cases; all else: totals",
}
# More models than this are not named in the title.
MOST_NAMES = 4
# Tables with no more lines than this are kept on one page in print, longer ones are folded.
SHORT_TABLE = 24
# Folded tables with more lines than this are printed only where the reader has opened them.
MOST_PRINTED = 100
# Columns of the small table of a case, as far as they were computed.
CASE_COLUMNS = {
    "paper.dsc": "Dice",
    "isles.dice": "Dice",
    "atlas22.dsc": "Dice",
    "paper.label_instances": "lesions",
    "paper.missed_instances": "missed",
    "paper.false_instances": "false",
    "isles.lesion_f1": "lesion F1",
    "atlas22.lesion_f1": "lesion-wise F1",
    "detection.lesion_dice": "lesion-wise Dice",
}


def make_page(evaluation: Evaluation, cases: Sequence[DrawnCase], trainings: Sequence[Curves]) -> str:
    """The whole page as HTML.

    Args:
        evaluation: what is reported.
        cases: to be shown, worst first.
        trainings: to be shown; none where nothing is known of them.
    """
    models = evaluation.models
    with plain_style():
        lesions = {name: lesion_charts(evaluation, name) for name in evaluation.classes}
        curves = training_charts(trainings)
    templates = load_templates()
    templates.globals.update(
        CONVENTIONS=CONVENTIONS,
        LEGEND=LEGEND,
        MOST_PRINTED=MOST_PRINTED,
        SECTIONS=SECTIONS,
        SHORT_TABLE=SHORT_TABLE,
        palette=palette,
    )
    return templates.get_template("page.html").render(
        title=f"Lesion report: {', '.join(models) if len(models) <= MOST_NAMES else f'{len(models)} models'}",
        evaluation=evaluation,
        facts=_facts(evaluation),
        arguments=[(name, _shown(value)) for name, value in evaluation.arguments.items()],
        tables=[
            (table, CAPTIONS.get(table.name, "Mean over the cases"), group_starts(table))
            for table in evaluation.tables()
        ],
        lesions=lesions,
        cases=[(case, _case_table(evaluation, case.name)) for case in cases],
        trainings=curves,
        version=__version__,
        now=datetime.now(timezone.utc).isoformat(timespec="minutes"),
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
        ("classes", "; ".join(classes)),
        ("cases", str(len(evaluation.cases))),
        ("sizes of lesions in", evaluation.unit_title),
        ("evaluated", f"{evaluation.date}, with nnunet_ici {evaluation.version}"),
        ("results in", str(evaluation.folder.resolve())),
    ]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def group_starts(table: Table) -> list[int]:
    """The rows above which a line parts groups: where the name that changes least, such as the model, changes."""
    columns = [[row[at].text for row in table.rows] for at in range(table.names)]
    changes = [[n for n, (one, other) in enumerate(itertools.pairwise(c), 1) if one != other] for c in columns]
    least = min(changes, key=len)
    return least if len(least) < len(table.rows) - 1 else []


def _case_table(evaluation: Evaluation, case: str) -> Table:
    rows = [row for row in evaluation.rows if row["case"] == case]
    titles: dict[str, str] = {}
    for metric, title in CASE_COLUMNS.items():
        if metric in rows[0] and title not in titles.values():
            titles[metric] = title
    names = ["model", "class"][: 1 + (len(evaluation.classes) > 1)]
    lines = [
        [*(Cell(str(row[name])) for name in names), *(Cell(format_value(float(row[metric]))) for metric in titles)]
        for row in rows
    ]
    return Table("case", case, len(names), [*names, *titles.values()], lines)
