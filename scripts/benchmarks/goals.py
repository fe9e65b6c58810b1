"""Print the goals of the benchmarks and the measurements in the JSON files.

python -m scripts.benchmarks.goals [FOLDER]      (default: scripts/benchmarks/results)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("losses_cpu", "losses_cuda", "losses_published_cuda", "curves_cpu", "curves_cuda", "step_cuda")
Report = dict[str, Any]


def load(folder: Path) -> dict[str, Report]:
    """The reports in a folder, by name."""
    return {
        name: json.loads((folder / f"{name}.json").read_text()) for name in NAMES if (folder / f"{name}.json").exists()
    }


def stages(report: Report, loss: str, measure: str = "ratio") -> str:
    """The value of a measure of a loss at every stage of training."""
    return ", ".join(f"{name} {entry[loss][measure]:.2f}" for name, entry in report["results"].items())


def speedup(report: Report) -> str:
    """The ratio of the time of the paper's algorithm to the time of the ICI terms."""
    published = "ICI terms as published"
    parts = [
        f"{name} {entry[published]['median_s'] / entry['ICI terms']['median_s']:.0f} x"
        for name, entry in report["results"].items()
        if published in entry
    ]
    return ", ".join(parts) or "not measured"


def growth(report: Report) -> str:
    """The ratio of the time with the most instances to the time with the fewest."""
    counts = report["by_instances"]
    first, last = min(counts, key=int), max(counts, key=int)
    ratio = counts[last]["ICI terms"]["median_s"] / counts[first]["ICI terms"]["median_s"]
    return f"{ratio:.2f} x ({int(first):,} to {int(last):,})"


def memory(report: Report) -> str:
    """The extra peak memory in bytes per voxel and class at every stage of training."""
    if all("peak_bytes_per_voxel" in entry["ICI terms"] for entry in report["results"].values()):
        return stages(report, "ICI terms", "peak_bytes_per_voxel")
    return "not measured"


def ratio(report: Report) -> str:
    """The ratio of the time of the ICI terms to the time of nnU-Net's own loss."""
    return stages(report, "ICI terms")


def share(report: Report) -> str:
    """The share of the terms of each loss in the time of a training step."""
    names = [name for name in ("ICI", "DICI", "PQ") if name in report["results"]]
    return ", ".join(f"{name} {report['results'][name]['share']:.1%}" for name in names)


ROWS: list[tuple[str, str, str, Callable[[Report], str]]] = [
    ("CUDA: ICI terms / DC_and_CE_loss, 4 x 2 x 192^3, fp16", "<= 0.5", "losses_cuda", ratio),
    ("CUDA: speedup over the paper's algorithm", ">= 300 x", "losses_published_cuda", speedup),
    ("CUDA: share of a training step, 128^3, batch 2", "<= 3 %", "step_cuda", share),
    ("CUDA: increase from 1 to 100,000 components", "<= 1.5 x", "curves_cuda", growth),
    ("CUDA: extra peak memory, bytes per voxel and class", "<= 16", "losses_cuda", memory),
    ("CPU: ICI terms / DC_and_CE_loss, 2 x 2 x 128^3, real masks", "<= 1.0", "losses_cpu", ratio),
    ("CPU: speedup over the paper's algorithm", "", "losses_cpu", speedup),
    ("CPU: increase from 1 to 100,000 components", "<= 1.5 x", "curves_cpu", growth),
    ("CPU: extra peak memory, bytes per voxel and class", "<= 16", "losses_cpu", memory),
]


def machine_of(report: Report) -> str:
    """The device and the number of CPU cores."""
    machine = report["machine"]
    cores = f"{machine['cpus']} CPU cores"
    return cores if machine["device"] == "cpu" else f"{machine['device']}, {cores}"


def table(folder: Path) -> str:
    """The goals, and the measurements in the reports of a folder, as a Markdown table."""
    reports = load(folder)
    lines = ["| Measurement | Goal | Result | Device |", "|---|---|---|---|"]
    for what, goal, name, measure in ROWS:
        report = reports.get(name)
        machine = "" if report is None else machine_of(report)
        lines.append(f"| {what} | {goal} | {'not measured' if report is None else measure(report)} | {machine} |")
    return "\n".join(lines)


def main() -> int:
    """Print the Markdown table."""
    print(table(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "scripts" / "benchmarks" / "results"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
