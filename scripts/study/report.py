"""Write docs/results.md and its figures from the stored runs of the study."""

from __future__ import annotations

from pathlib import Path

from nnunet_ici.command import plural
from scripts.study.figures import draw_curves, draw_overview
from scripts.study.free_response import rates_reached
from scripts.study.run_measures import (
    AT_BEST,
    AT_HALF,
    average_precision,
    curve,
    free_response,
    froc,
    mean_free_response,
    measures_at,
    pr_auc,
)
from scripts.study.sets import BASELINE, DATA
from scripts.study.stored_runs import EARLIER, read_runs
from scripts.study.tables import Runs, claims_table, difference_table, value_table
from scripts.study.tuned import threshold_section

OVERVIEW = "results_overview.png"


def write_report(results: Path, docs: Path) -> None:
    """Write docs/results.md, docs/results_overview.png and a figure for each dataset and machine."""
    sections, compared, stored = [], [], []
    for data, about in DATA.items():
        notes = _read(results / data / "notes.md")
        parts = []
        for machine in _machines(results / data):
            runs = _baseline_first(read_runs(results / data / machine))
            figure = f"results_{data}_{machine}.png"
            draw_curves(runs, about.title, docs / figure)
            parts.append(machine_section(runs, _read(results / data / machine / "notes.md"), machine, figure))
            if machine != EARLIER:
                stored.append((about.title if len(parts) == 1 else f"{about.title}, machine {machine}", runs))
            if machine != EARLIER and BASELINE in runs and len(runs) > 1:
                compared.append((about.title if len(parts) == 1 else f"{about.title}, machine {machine}", runs))
        if parts:
            sections.append("\n".join([f"## {about.title}\n", notes, *parts]))
    top = ""
    if compared:
        draw_overview(compared, docs / OVERVIEW)
        top = (
            f"![Differences from nnU-Net's own loss]({OVERVIEW})\n\n*Dots: mean difference from `nnUNetTrainer` over "
            "the seeds (number of seeds in brackets). Lines: 95 % interval over seeds and cases. Ticks: single seeds. "
            "Blue: better, orange: worse; gray if the interval includes 0 or the seeds disagree.*\n"
        )
    introduction = (results / "introduction.md").read_text().replace("<!-- overview -->\n", top)
    (docs / "results.md").write_text(
        "\n".join([introduction, *sections, threshold_section(stored, _read(results / "thresholds.md"))])
    )


def _read(path: Path) -> str:
    return path.read_text().strip() + "\n" if path.is_file() else ""


def _machines(folder: Path) -> list[str]:
    """The machines with runs of a dataset, sorted by number of runs; the folder of earlier runs comes last."""
    counts = {path.name: len(list(path.glob("*_seed*.json"))) for path in folder.glob("*") if path.is_dir()}
    return sorted((name for name in counts if counts[name]), key=lambda name: (name == EARLIER, -counts[name], name))


def _baseline_first(runs: Runs) -> Runs:
    return dict(sorted(runs.items(), key=lambda item: item[0] != BASELINE))


def machine_section(runs: Runs, notes: str, machine: str, figure: str) -> str:
    """The section on one dataset and machine."""
    rates = rates_reached([curve(run)[0] for group in runs.values() for run in group])
    unthresholded = (mean_free_response(rates), *map(free_response, rates), froc, pr_auc)
    if all("matched" in run["test_cases"] for group in runs.values() for run in group):
        unthresholded = (average_precision, *unthresholded)
    comparable = (mean_free_response(rates), pr_auc)
    where = "Earlier machine" if machine == EARLIER else f"Machine {machine}"
    lines = [f"### {where}", "", _setting(runs), "", *([notes] if notes else [])]
    if BASELINE in runs and len(runs) > 1:
        lines += [
            "Differences from `nnUNetTrainer`, paired by seed and case: mean, 95 % interval over seeds and cases, and "
            "numbers of seeds above (+) and below (-) 0. Bold if the interval excludes 0 and all seeds agree. "
            "The first two measures need no threshold; the others are at the chosen threshold:",
            "",
            difference_table(runs, (*comparable, *measures_at(AT_BEST))),
            "At probability 0.5:",
            "",
            difference_table(runs, measures_at(AT_HALF)),
        ]
    reached = f"recall at {', '.join(f'{rate:g}' for rate in rates)} false lesions per case (rates that all runs reach)"
    reached += " and its mean"
    if not rates:
        reached = "no mean of the free-response curve, because no false-lesion rate is reached by all runs"
    lines += [
        f"Without a threshold: {reached}; area under the precision-recall curve over voxels (PR-AUC):",
        "",
        value_table(runs, unthresholded),
        "At the threshold chosen on the validation cases:",
        "",
        value_table(runs, measures_at(AT_BEST), thresholds=True),
        "At probability 0.5:",
        "",
        value_table(runs, measures_at(AT_HALF)),
    ]
    if "nnUNetTrainerICI" in runs:
        claims = "Gains in Dice (percentage points) in the paper (ATLAS R2.0 in 3D, other networks) and here:"
        lines += [claims, "", claims_table(runs)]
    return "\n".join([*lines, f"![Free-response curves, and F1 versus threshold]({figure})", ""])


def _setting(runs: Runs) -> str:
    """The settings of the training, the data, the machine, and the number of resumed runs."""
    every = [run for group in runs.values() for run in group]
    first = every[0]
    plan, machine = first["plan"], first["machine"]
    if isinstance(machine, str):
        device = f"{first['device']}, {machine}"
    else:
        device = f"{machine['processor']}, {plural(machine['threads'], 'thread')}, PyTorch {machine['torch']}"
        resumed = sum(bool(run["resumed_after_epochs"]) for run in every)
        device += f"; stopped and resumed: {resumed} of {plural(len(every), 'run')}"
    return (
        f"{plural(first['epochs'], 'epoch')} of {plural(first['iterations'], 'iteration')}, configuration "
        f"{plan['configuration']}, patch {' x '.join(map(str, plan['patch_size']))}, features "
        f"{'-'.join(map(str, plan['features']))}, batch size {plan['batch_size']}; "
        f"{plural(len(first['test_cases']['case']), 'test case')}, "
        f"{plural(sum(first['test_cases']['at_half']['lesions']), 'lesion')}, the smallest third with up to "
        f"{first['small_voxels']:g} voxels; {device}. Values are means over the seeds, with the lowest and the highest "
        "value in brackets."
    )
