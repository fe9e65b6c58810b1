"""What the study keeps of a run: small enough for the repository, and enough for every table, interval and figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scripts.study.case_metrics import COUNTS, SCORES, THRESHOLDS

RESULTS = Path(__file__).resolve().parent / "results"
HALF = THRESHOLDS.index(0.5)
EARLIER = "earlier"  # the folder of runs that do not say which machine they come from

Run = dict[str, Any]


def compress(full: Run) -> Run:
    """Keep the mean curves over all thresholds, and the cases at 0.5, at the chosen threshold and along the curve.

    The threshold is that of the highest mean of Dice and lesion-wise F1 on the validation cases; of equal ones the
    nearest to 0.5. It is chosen without the test cases.
    """
    parts = {part: [case for case in full["cases"] if case["split"] == part] for part in ("val", "test")}
    curves = {part: _curves(cases) for part, cases in parts.items()}
    score = np.add(curves["val"]["dice"], curves["val"]["f1"])
    best = max(range(len(THRESHOLDS)), key=lambda i: (round(float(score[i]), 6), -abs(THRESHOLDS[i] - 0.5)))
    kept = {key: value for key, value in full.items() if key != "cases"}
    kept["thresholds"] = list(THRESHOLDS)
    kept["best_threshold"] = THRESHOLDS[best]
    kept["curves"] = curves
    kept["test_cases"] = {
        "case": [case["case"] for case in parts["test"]],
        "pr_auc": [None if case["pr_auc"] is None else round(case["pr_auc"], 4) for case in parts["test"]],
        "at_half": _columns(parts["test"], HALF),
        "at_best": _columns(parts["test"], best),
        "found": _along(parts["test"], "found"),
        "false": _along(parts["test"], "false"),
    }
    return kept


def _curves(cases: list[Run]) -> dict[str, list[float]]:
    """For each threshold the means of the scores and the sums of the counts."""
    curves = {}
    for name in (*SCORES, *COUNTS):
        table = np.array(_along(cases, name), dtype=float)
        values = table.mean(axis=1).round(5) if name in SCORES else table.sum(axis=1).astype(int)
        curves[name] = values.tolist()
    return curves


def _along(cases: list[Run], name: str) -> list[list[float]]:
    """A row for each threshold, a column for each case."""
    return [[case["thresholds"][index][name] for case in cases] for index in range(len(THRESHOLDS))]


def _columns(cases: list[Run], index: int) -> dict[str, list[float]]:
    rows = [case["thresholds"][index] for case in cases]
    return {name: [round(row[name], 5) for row in rows] for name in (*SCORES, *COUNTS)}


def run_path(results: Path, data: str, machine: str, trainer: str, seed: int) -> Path:
    """Where a run is kept: DATA/MACHINE/TRAINER_seedN.json."""
    return results / data / machine / f"{trainer}_seed{seed}.json"


def write_run(path: Path, run: Run) -> None:
    """Write a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(run, separators=(",", ":")) + "\n")
    partial.rename(path)


def read_runs(folder: Path) -> dict[str, list[Run]]:
    """Read the runs of one dataset and machine.

    Returns:
        The runs of each trainer, sorted by seed; nothing where there is no folder.

    Raises:
        ValueError: if they differ in plan, length or test cases, and so must not be compared.
    """
    runs: dict[str, list[Run]] = {}
    first: Run = {}
    for path in sorted(folder.glob("*_seed*.json")):
        run = json.loads(path.read_text())
        first = first or run
        for key in ("plan", "epochs", "iterations", "thresholds", "small_voxels"):
            if run[key] != first[key]:
                raise ValueError(f"{path} cannot be compared. Expected: {key} {first[key]}. Got: {run[key]}")
        if run["test_cases"]["case"] != first["test_cases"]["case"]:
            raise ValueError(f"{path} cannot be compared. Expected: the test cases of the other runs. Got: others")
        runs.setdefault(run["trainer"], []).append(run)
    return {trainer: sorted(group, key=lambda run: run["seed"]) for trainer, group in runs.items()}
