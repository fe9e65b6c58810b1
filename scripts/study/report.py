"""docs/results.md and its figures from the stored runs of the study."""

from __future__ import annotations

from pathlib import Path

from scripts.study.figures import draw_curves, draw_overview
from scripts.study.free_response import rates_reached
from scripts.study.run_measures import (
    AT_BEST,
    AT_HALF,
    curve,
    free_response,
    mean_free_response,
    measures_at,
    pr_auc,
)
from scripts.study.sets import BASELINE, DATA
from scripts.study.stored_runs import EARLIER, read_runs
from scripts.study.tables import Runs, claims_table, difference_table, value_table

OVERVIEW = "results_overview.png"


def write_report(results: Path, docs: Path) -> None:
    """Write docs/results.md, docs/results_overview.png and a figure for each dataset and machine."""
    sections, compared = [], []
    for data, about in DATA.items():
        notes = _read(results / data / "notes.md")
        parts = []
        for machine in _machines(results / data):
            runs = _baseline_first(read_runs(results / data / machine))
            figure = f"results_{data}_{machine}.png"
            draw_curves(runs, about.title, docs / figure)
            parts.append(machine_section(runs, _read(results / data / machine / "notes.md"), machine, figure))
            if machine != EARLIER and BASELINE in runs and len(runs) > 1:
                compared.append((about.title, runs))
        if parts:
            sections.append("\n".join([f"## {about.title}\n", notes, *parts]))
    top = ""
    if compared:
        draw_overview(compared, docs / OVERVIEW)
        top = (
            f"![Differences to nnU-Net's own loss]({OVERVIEW})\n\n*Who wins and by how much. Dots: mean difference to "
            "`nnUNetTrainer` over the seeds (their number in brackets); lines: 95 % interval over seeds and cases; "
            "ticks: single seeds. Blue: better, orange: worse, where the interval leaves 0 out and all seeds agree.*\n"
        )
    introduction = (results / "introduction.md").read_text().replace("<!-- overview -->\n", top)
    (docs / "results.md").write_text("\n".join([introduction, *sections]))


def _read(path: Path) -> str:
    return path.read_text().strip() + "\n" if path.is_file() else ""


def _machines(folder: Path) -> list[str]:
    """The machines that a dataset has runs of, most runs first, earlier ones last."""
    counts = {path.name: len(list(path.glob("*_seed*.json"))) for path in folder.glob("*") if path.is_dir()}
    return sorted((name for name in counts if counts[name]), key=lambda name: (name == EARLIER, -counts[name], name))


def _baseline_first(runs: Runs) -> Runs:
    return dict(sorted(runs.items(), key=lambda item: item[0] != BASELINE))


def machine_section(runs: Runs, notes: str, machine: str, figure: str) -> str:
    """The part of one dataset and machine."""
    rates = rates_reached([curve(run)[0] for group in runs.values() for run in group])
    unthresholded = (mean_free_response(rates), *map(free_response, rates), pr_auc)
    comparable = (mean_free_response(rates), pr_auc)
    where = "Earlier machine" if machine == EARLIER else f"Machine {machine}"
    lines = [f"### {where}", "", _setting(runs), "", *([notes] if notes else [])]
    if BASELINE in runs and len(runs) > 1:
        lines += [
            "Differences to `nnUNetTrainer`, paired by seed and case: mean, 95 % interval over seeds and cases, and "
            "how many seeds lie above (+) and below (-) 0. Bold where the interval leaves 0 out and all seeds agree. "
            "First without a threshold, then at the chosen threshold:",
            "",
            difference_table(runs, (*comparable, *measures_at(AT_BEST))),
            "At probability 0.5:",
            "",
            difference_table(runs, measures_at(AT_HALF)),
        ]
    reached = (
        f"recall at {', '.join(f'{rate:g}' for rate in rates)} false lesions per case, which all runs reach, and its"
    )
    if not rates:
        reached = "no number of false lesions per case is reached by all runs, so the free-response curve has no"
    lines += [
        f"Without a threshold: {reached} mean; area under the precision-recall curve over voxels (PR-AUC):",
        "",
        value_table(runs, unthresholded),
        "At the threshold chosen on validation cases:",
        "",
        value_table(runs, measures_at(AT_BEST), thresholds=True),
        "At probability 0.5:",
        "",
        value_table(runs, measures_at(AT_HALF)),
    ]
    if "nnUNetTrainerICI" in runs:
        lines += ["Claims of the paper (ATLAS R2.0 in 3D, other networks), in points of Dice:", "", claims_table(runs)]
    return "\n".join([*lines, f"![Free-response curves, and F1 over the threshold]({figure})", ""])


def _setting(runs: Runs) -> str:
    """What was trained, on what, and how often it was resumed."""
    every = [run for group in runs.values() for run in group]
    first = every[0]
    plan, machine = first["plan"], first["machine"]
    if isinstance(machine, str):
        device = f"{first['device']}, {machine}"
    else:
        device = f"{machine['processor']}, {machine['threads']} thread, PyTorch {machine['torch']}"
        resumed = sum(bool(run["resumed_after_epochs"]) for run in every)
        device += f"; {resumed} of {len(every)} runs were stopped and resumed"
    return (
        f"{first['epochs']} epochs of {first['iterations']} iterations, configuration {plan['configuration']}, patch "
        f"{' x '.join(map(str, plan['patch_size']))}, features {'-'.join(map(str, plan['features']))}, batch "
        f"{plan['batch_size']}; {len(first['test_cases']['case'])} test cases, "
        f"{sum(first['test_cases']['at_half']['lesions'])} lesions, the smallest third up to "
        f"{first['small_voxels']:g} voxels; {device}. Mean over the seeds, in brackets the lowest and the highest."
    )
