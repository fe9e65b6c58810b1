"""The tables of an evaluation: one per metric family, detection by size, and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from nnunet_ici.evaluation.average_precision import CURVES_NOTE
from nnunet_ici.evaluation.comparison import SIGNIFICANCE, compare, holm
from nnunet_ici.evaluation.detection import SIZE_NOTE, sizes_of
from nnunet_ici.evaluation.evaluate_cases import Settings
from nnunet_ici.evaluation.families import Better, Metric, metrics_of
from nnunet_ici.evaluation.summary import Row, group_rows, summarise
from nnunet_ici.evaluation.tables import FEWEST_CASES, MEAN_RANK, Cell, Table, format_value, ranked_table

__all__ = ["comparison_table", "evaluation_tables", "family_table", "size_table"]


# The table of the family paper: title, metric, statistic of summarise, and the better direction.
PAPER_COLUMNS: tuple[tuple[str, str, str, Better], ...] = (
    ("Dice", "dice", "mean", "higher"),
    ("instances", "label_instances", "total", ""),
    ("missed", "missed_instances", "total", "lower"),
    ("cases with missed", "missed_instances", "cases_with", "lower"),
    ("cases with all missed", "all_missed", "total", "lower"),
    ("predicted", "predicted_instances", "total", ""),
    ("false", "false_instances", "total", "lower"),
    ("cases with false", "false_instances", "cases_with", "lower"),
    ("cases with neither", "no_mistake", "total", "higher"),
)
FULL = "Lesions are connected through faces, edges and corners (26 neighbors, 8 in 2D)."
# Title of the table of each family, and its note if that is not FULL.
TITLES = {
    "atlas22": (
        "ATLAS challenge (ISLES 2022)",
        "Lesions are connected through faces only (6 neighbors, 4 in 2D), so there can be more of them than in other "
        "families.",
    ),
    "isles": ("ISLES",),
    "paper": ("Missed and false instances",),
    "detection": ("Detection",),
    "cc": ("CC-Metrics",),
    "brats": (
        "BraTS (since 2023)",
        "Lesions whose dilations touch are merged, so there can be fewer of them than in other families.",
    ),
}


def evaluation_tables(
    rows: Sequence[Row],
    instances: Sequence[Row],
    settings: Settings,
    curves: dict[tuple[str, str], dict[str, list[float]]],
    unit: str,
) -> list[Table]:
    """The tables of an evaluation: one per family, detection by size, and differences from the first model.

    Args:
        rows: rows of all models, cases and classes.
        instances: rows of all instances.
        settings: settings of the evaluation; metrics that are not in the rows are left out.
        curves: results of :func:`~nnunet_ici.evaluation.average_precision.threshold_curve` by model and class, only for
            models with probabilities.
        unit: unit of the sizes.

    Returns:
        The tables. With a single model there is no table of differences.
    """
    metrics = [metric for metric in settings.metrics if metric.name in rows[0]]
    tables = []
    for family in settings.families:
        of_family = [metric for metric in metrics_of([family], in_mm=settings.in_mm) if metric in metrics]
        table = family_table(family, rows, of_family, curves)
        if family == "brats":
            rule = str(settings.brats_rule).replace("mm3", "mm3" if settings.in_mm else "voxels")
            table = replace(table, note=f"{table.note} {rule}.")
        tables.append(table)
    if "detection" in settings.families:
        tables.append(size_table(sizes_of(rows, instances, settings.sizes), unit))
    differences = comparison_table(rows, metrics)
    return tables + ([] if differences is None else [differences])


def family_table(
    family: str,
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    curves: Mapping[tuple[str, str], Mapping[str, list[float]]],
) -> Table:
    """The table of one metric family.

    Args:
        family: name of the family.
        rows: rows of all models, cases and classes.
        metrics: metrics of the family that were computed.
        curves: as in :func:`evaluation_tables`; AP and FROC are extra columns of the family detection.
    """
    columns = PAPER_COLUMNS
    if family != "paper":
        columns = tuple((metric.title, metric.name, "mean", metric.better) for metric in metrics)
    values, without = {}, {}
    for model, classes in summarise(rows, metrics).items():
        for name, statistics in classes.items():
            lines = [row for row in rows if (row["model"], row["class"]) == (model, name)]
            values[model, name] = [statistics[metric][statistic] for _, metric, statistic, _ in columns]
            without[model, name] = [
                frozenset(str(row["case"]) for row in lines if row[metric] != row[metric]) for _, metric, *_ in columns
            ]
    titles: list[tuple[str, str]] = [(title, better) for title, *_, better in columns]
    title, *notes = TITLES[family]
    notes = notes or [FULL]
    over = "Dice: mean over the cases; all other columns: totals" if family == "paper" else "Mean over the cases"
    if family == "detection" and curves:
        titles += [("AP (IoU 0.1)", "higher"), ("FROC", "higher")]
        for key, of_key in values.items():
            curve = curves.get(key, {})
            of_key += [fmean(curve.get(name, [math.nan])) for name in ("average_precision", "at")]
            without[key] += [frozenset(), frozenset()]
        notes.append(CURVES_NOTE)
        over += "; AP and FROC: pooled over all lesions"
    cases = len({row["case"] for row in rows})
    table = ranked_table(family, title, titles, values, without=without, cases=cases)
    if any(any(of_key) for of_key in without.values()):
        notes.append(
            "n: number of cases in which the metric has a value, shown if it has none in others. Models whose means "
            "cover different cases are not ranked."
        )
    if table.head[-1] == MEAN_RANK and cases < FEWEST_CASES:
        notes.append(
            f"Nothing is bold with fewer than {FEWEST_CASES} cases (here {cases}): the best value may be due to chance."
        )
    return replace(table, note=" ".join(notes), over=over)


def size_table(groups: Mapping[tuple[str, str], Sequence[Mapping[str, float]]], unit: str) -> Table:
    """Recall, precision and F1 by size, one row per model (and class) and size range.

    Args:
        groups: results of :func:`~nnunet_ici.evaluation.detection.by_size` by model and class.
        unit: unit of the sizes.
    """
    several_classes = len({of_class for _, of_class in groups}) > 1
    names = ["model", *(["class"] if several_classes else []), f"size ({unit})"]
    titles = {"label": "instances", "found": "found", "missed": "missed", "false": "false", "recall": "recall"}
    titles |= {"precision": "precision", "f1": "F1"}
    ways = [*([""] * len(names)), "", "", "lower", "lower", "higher", "higher", "higher"]
    head, note = [*names, *titles.values()], f"{FULL} {SIZE_NOTE}"
    table = Table("sizes", "Detection by size", len(names), head, note=note, over="Pooled over all cases", better=ways)
    for key, ranges in groups.items():
        for group in ranges:
            to = f"to {group['to']:g}" if math.isfinite(group["to"]) else "and more"
            texts = [*key[: 1 + several_classes], f"{group['from']:g} {to}"]
            numbers = (Cell(format_value(group[name]), group[name]) for name in titles)
            table.rows.append([*map(Cell, texts), *numbers])
    return table


def comparison_table(rows: Sequence[Row], metrics: Sequence[Metric]) -> Table | None:
    """Differences between each model and the first one, in each metric that has a better direction.

    Args:
        rows: rows of all models, each with the same cases.
        metrics: metrics that were computed.

    Returns:
        The table, or None for a single model.
    """
    groups = group_rows(rows)
    (first, reference), *others = groups.items()
    if not others:
        return None
    several_classes = len(reference) > 1
    results = {}
    for model, classes in others:
        for of_class, lines in classes.items():
            by_case = {row["case"]: row for row in reference[of_class]}
            for metric in metrics:
                if metric.better:
                    values = [float(row[metric.name]) for row in lines]
                    own = [float(by_case[row["case"]][metric.name]) for row in lines]
                    results[model, of_class, metric.name] = compare(values, own)
    head = ["model", *(["class"] if several_classes else []), "metric", f"difference to {first}", "95 % interval"]
    table = Table("differences", f"Differences to {first}", 2 + several_classes, [*head, "p (Holm)", "cases"])
    adjusted = holm([result.p_value for result in results.values()])
    for ((model, of_class, name), result), p_value in zip(results.items(), adjusted, strict=True):
        numbers = [
            Cell(
                "-" if math.isnan(result.difference) else f"{result.difference:+.3f}",
                result.difference,
                best=result.cases >= FEWEST_CASES and p_value < SIGNIFICANCE,
            ),
            Cell("-" if math.isnan(result.low) else f"{result.low:+.3f} to {result.high:+.3f}"),
            Cell("-" if math.isnan(p_value) else f"{p_value:.2g}", p_value),
            Cell(str(result.cases), result.cases),
        ]
        table.rows.append([Cell(model), *([Cell(of_class)] if several_classes else []), Cell(name), *numbers])
    note = (
        "Only cases in which both models have a value. Interval: paired t. p: paired t-test, adjusted for the number "
        f"of rows by Holm's method. Bold: this p is below {SIGNIFICANCE:g}."
    )
    if min((result.cases for result in results.values()), default=FEWEST_CASES) < FEWEST_CASES:
        note += f" Nothing is bold below {FEWEST_CASES} cases."
    return replace(table, note=note, over="Mean difference over the cases")
