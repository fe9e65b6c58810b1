"""The Markdown tables of docs/benchmarks.md, and of the costs in docs/losses.md, from the stored benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "results"
STAGES = ("noise", "half-trained", "converged")
BASELINE, ICI = "DC_and_CE_loss", "ICI terms"
# The baselines that loop over the instances, and the loss of ours for comparison.
PUBLISHED = {
    "ICI terms as published": ICI,
    "the same, SciPy labels": ICI,
    "blob loss, instance by instance": "blob term",
}
MAX_POOLING = "250 max-poolings"
# The timed loss or term of each trainer, and the added cost of its global loss: 1 for Dice + CE, 0.5 for Dice alone.
TIMED = {
    "nnUNetTrainerICI": ("ICI", 0.0),
    "nnUNetTrainerDICI": ("DICI", 0.0),
    "nnUNetTrainerDual": ("Dual", 0.0),
    "nnUNetTrainerLesionWise": ("LesionWise term", 1.0),
    "nnUNetTrainerPQ": ("PQ term", 1.0),
    "nnUNetTrainerInstanceFamily": ("InstanceFamily", 0.0),
    "nnUNetTrainerBlob": ("blob term", 1.0),
    "nnUNetTrainerCCDiceCE": ("CC-DiceCE term", 1.0),
    "nnUNetTrainerCATMIL": ("CATMIL terms", 1.0),
    "nnUNetTrainerRRW": ("region-wise", 0.0),
    "nnUNetTrainerBoundary": ("boundary term", 1.0),
    "nnUNetTrainerDBCE": ("dilated balanced CE", 0.0),
    "nnUNetTrainerDiceDBCE": ("dilated balanced CE", 0.5),
    "nnUNetTrainerIW": ("inverse weighting", 0.0),
}


def _load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _table(columns: list[str], rows: list[list[str]], first: str = "---") -> str:
    """A Markdown table with all columns except the first aligned to the right."""
    rule = "|".join(["", first, *["---:"] * (len(columns) - 1), ""])
    return "\n".join([_row(columns), rule, *map(_row, rows)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(report: dict[str, Any], *further: str) -> str:
    """A line above a table: the machine, the versions, the number of rounds, and further details."""
    machine, versions = report["machine"], report["machine"]["versions"]
    parts = [
        f"{machine['cpus']} CPU cores",
        f"PyTorch {versions['torch']}",
        f"cc3d {versions['connected-components-3d']}",
        f"{report['repeats']} rounds",
        *further,
    ]
    return f"*{', '.join(parts)}.*\n\n"


def _logits(report: dict[str, Any]) -> str:
    batch, classes, size, *_ = report["shape"]
    return f"{report['dtype']} logits of {batch} x {classes} x {size}^3"


def costs() -> str:
    """The time of a forward and backward pass of each trainer's loss relative to nnU-Net's Dice + CE."""
    report = _load("losses_cpu")
    results = report["results"]
    rows = []
    for trainer, (name, added) in TIMED.items():
        timed = [f"{results[s][name]['ratio'] + added:.1f}" if name in results[s] else "not measured" for s in STAGES]
        rows.append([f"`{trainer}`", *timed])
    return _measured(report, _logits(report)) + _table(["Trainer", *STAGES], rows)


def losses() -> str:
    """The time of every loss relative to nnU-Net's Dice + CE at each stage, with quartiles, and two times in ms."""
    report = _load("losses_cpu")
    results = report["results"]
    rows = []
    for name in results[STAGES[0]]:
        if name not in (BASELINE, *PUBLISHED):
            found = [results[stage][name] for stage in STAGES]
            rows.append([name, *(f"{r['ratio']:.2f} ({r['ratio_q1']:.2f}-{r['ratio_q3']:.2f})" for r in found)])
    for name in (BASELINE, ICI):
        found = [results[stage][name] for stage in STAGES]
        rows.append([f"{name}, ms", *(f"{_ms(r)} ({_ms(r, 'q1')}-{_ms(r, 'q3')})" for r in found)])
    lesions = f"labels with {' and '.join(map(str, report['instances']))} lesions"
    return _measured(report, _logits(report), lesions) + _table(["Loss", *STAGES], rows)


def _ms(entry: dict[str, float], which: str = "median") -> str:
    return f"{1e3 * entry[f'{which}_s']:.0f}"


def published() -> str:
    """The times of the baselines that loop over the instances, in seconds and relative to ours."""
    results = _load("losses_cpu")["results"]
    rows = []
    for name, ours in PUBLISHED.items():
        cells = []
        for entry in (results[stage] for stage in STAGES):
            seconds = entry[name]["median_s"]
            cells.append(f"{seconds:.3g} s ({seconds / entry[ours]['median_s']:.0f} x)")
        rows.append([name, f"`{ours}`", *cells])
    return _table(["Baseline", "Relative to", *STAGES], rows)


def _curve(axis: str, title: str, shown: str) -> str:
    report = _load("curves_cpu")
    rows = [
        [shown.format(int(at)), _ms(entry[ICI]), f"{entry[ICI]['ratio']:.2f}"] for at, entry in report[axis].items()
    ]
    return _measured(report) + _table([title, f"{ICI}, ms", f"/ `{BASELINE}`"], rows, "---:")


def instances() -> str:
    """The time of the ICI terms by number of instances."""
    return _curve("by_instances", "Instances per image", "{:,}")


def sizes() -> str:
    """The time of the ICI terms by patch size."""
    return _curve("by_size", "Patch", "{}^3")


def labeling() -> str:
    """The time of every labeling of connected components in ms, and its extra peak memory in bytes per voxel."""
    report = _load("components_cpu")
    results = report["results"]
    methods = list(dict.fromkeys(method for entry in results.values() for method in entry if method != MAX_POOLING))

    def cell(entry: dict[str, float] | None) -> str:
        return "" if entry is None else f"{1e3 * entry['median_s']:.3g} ({entry['peak_bytes_per_voxel']:.0f})"

    rows = [[mask, *(cell(entry.get(method)) for method in methods)] for mask, entry in results.items()]
    return _measured(report) + _table(["Mask", *methods], rows)
