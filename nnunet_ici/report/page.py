"""The page: what was compared, tables, lesions, cases and training curves, in one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from nnunet_ici import __version__
from nnunet_ici.evaluation.outputs import CONVENTIONS
from nnunet_ici.evaluation.tables import format_value
from nnunet_ici.report.charts import lesions, training
from nnunet_ici.report.look import STYLE_SHEET, plain_style
from nnunet_ici.report.markup import SHORT_TABLE, element, escape, fold, html_table, plural, scrolling
from nnunet_ici.report.reading import Evaluation
from nnunet_ici.report.slices import DrawnCase, legend
from nnunet_ici.report.training import Curves

__all__ = ["make_page"]

# More models than this are not named in the title.
MOST_NAMES = 4
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
    with plain_style():
        sections = [
            ("compared", "What was compared", _compared(evaluation)),
            ("tables", "Tables", _tables(evaluation)),
            ("lesions", "Lesions", lesions(evaluation)),
            ("cases", "Cases", _cases(evaluation, cases)),
            ("training", "Training", training(trainings)),
        ]
    models = evaluation.models
    title = f"Lesion report: {', '.join(models) if len(models) <= MOST_NAMES else f'{len(models)} models'}"
    contents = element("ol", *(element("li", element("a", name, href=f"#{key}")) for key, name, _ in sections))
    now = datetime.now(timezone.utc).isoformat(timespec="minutes")
    body = element(
        "body",
        element(
            "header",
            element("h1", escape(title)),
            element(
                "p", escape(f"{plural(len(evaluation.cases), 'case')}, evaluated {evaluation.date}"), class_="subtitle"
            ),
        ),
        element("nav", contents, aria_label="Contents"),
        element(
            "main",
            *(element("section", element("h2", name), content, id=key) for key, name, content in sections),
        ),
        element("footer", element("p", f"Made by nnunet_ici {__version__}, {now}.", class_="note")),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", escape(title)),
        element("style", STYLE_SHEET),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _list(items: Sequence[tuple[str, str]]) -> str:
    """Terms and what they are; both are escaped here."""
    return element("dl", *(element("dt", escape(term)) + element("dd", escape(text)) for term, text in items))


def _compared(evaluation: Evaluation) -> str:
    scheme = evaluation.settings.scheme
    classes = [
        f"{name}: " + (f"label {' and '.join(map(str, values))}" if values else "every label above 0")
        for name, values in scheme.classes.items()
    ]
    if scheme.ignore is not None:
        classes.append(f"label {scheme.ignore} is ignored")
    facts = [
        ("models", ", ".join(evaluation.models)),
        ("classes", "; ".join(classes)),
        ("cases", str(len(evaluation.cases))),
        ("sizes of lesions in", evaluation.unit_title),
        ("evaluated", f"{evaluation.date}, with nnunet_ici {evaluation.version}"),
        ("results in", str(evaluation.folder.resolve())),
    ]
    arguments = [(name, _shown(value)) for name, value in evaluation.arguments.items()]
    return _list(facts) + element("p", escape(CONVENTIONS)) + fold("Arguments of the evaluation", _list(arguments))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _tables(evaluation: Evaluation) -> str:
    several = len(evaluation.models) > 1
    parts = []
    if several:
        text = "Ranks are in brackets, 1 is best; the best value of each column is bold."
        parts.append(element("p", text, class_="note"))
    for table in evaluation.tables():
        caption = {
            "sizes": "All cases together; predictions by their own size",
            "differences": "Bold where the interval does not hold 0",
            "paper": "DSC: mean over the cases; all else: totals",
        }.get(table.name, "Mean over the cases")
        content = html_table(table, caption)
        if len(table.rows) > SHORT_TABLE or table.name == "differences":
            lines = len(table.rows)
            content = fold(plural(lines, "line"), content, opened=lines <= SHORT_TABLE, printed=lines <= MOST_PRINTED)
        parts.append(element("h3", escape(table.title)) + content)
    return "".join(parts)


def _cases(evaluation: Evaluation, cases: Sequence[DrawnCase]) -> str:
    first = evaluation.models[0]
    text = (
        f"Ordered by lesion F1, then Dice, of {first}. Of a volume the slice with most lesion is shown, then those "
        "with most missed lesion and with most false prediction of all models, cut to where there is something; front "
        "is up, the patient's right is left. Numbers count what reaches into the slice; it may be in another slice "
        "that a lesion and a prediction touch."
    )
    return element("p", escape(text), class_="note") + legend() + "".join(_case(evaluation, case) for case in cases)


def _case(evaluation: Evaluation, case: DrawnCase) -> str:
    """A case; in print its heading and table stay with its first slice."""
    role = "the only case" if len(evaluation.cases) == 1 else case.role
    title = f"{role[0].upper()}{role[1:]}: {case.name}"
    top = element("h3", escape(title)) + _case_table(evaluation, case)
    if case.missing:
        sentences = element("ul", *(element("li", escape(sentence)) for sentence in case.missing))
        return top + element("p", "No slices, as files have been moved or deleted since the evaluation:") + sentences
    parts = []
    for name, panels in case.slices:
        parts.append(element("div", top, element("h4", escape(name)), panels, class_="keep"))
        top = ""
    return "".join(parts)


def _case_table(evaluation: Evaluation, case: DrawnCase) -> str:
    rows = [row for row in evaluation.rows if row["case"] == case.name]
    titles: dict[str, str] = {}
    for metric, title in CASE_COLUMNS.items():
        if metric in rows[0] and title not in titles.values():
            titles[metric] = title
    several = len(evaluation.classes) > 1
    names = ("model", "class") if several else ("model",)
    head = [element("th", name, scope="col", class_="name") for name in names]
    head += [element("th", title, scope="col") for title in titles.values()]
    lines = [
        element(
            "tr",
            *(element("th", escape(row[name]), scope="row", class_="name") for name in names),
            *(element("td", format_value(row[metric])) for metric in titles),  # type: ignore[arg-type]
        )
        for row in rows
    ]
    caption = "This case alone"
    table = element(
        "table",
        element("caption", escape(caption)),
        element("thead", element("tr", *head)),
        element("tbody", *lines),
        class_="short",
    )
    return scrolling(table, caption)
