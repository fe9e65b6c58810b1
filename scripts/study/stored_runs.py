"""The stored form of a run: small enough for the repository, and sufficient for every table, interval and figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scripts.study.case_metrics import COUNTS, SCORES, THRESHOLDS

RESULTS = Path(__file__).resolve().parent / "results"
HALF = THRESHOLDS.index(0.5)
EARLIER = "earlier"  # the folder of runs that do not name their machine

Run = dict[str, Any]


def compress(full: Run) -> Run:
    """Reduce a run to the mean curves over all thresholds, and the cases at 0.5, at the chosen threshold and along the
    curve.

    The chosen threshold has the highest mean of Dice and lesion-wise F1 on the validation cases. If several are equal,
    the one closest to 0.5 is chosen. The test cases are not used.
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
        "predicted": _along(parts["test"], "predicted"),
        "matched": _along(parts["test"], "matched"),
    }
    return kept


def _curves(cases: list[Run]) -> dict[str, list[float]]:
    """The means of the scores and the sums of the counts at each threshold."""
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
    """The path of a stored run: DATA/MACHINE/TRAINER_seedN.json."""
    return results / data / machine / f"{trainer}_seed{seed}.json"


def write_run(path: Path, run: Run) -> None:
    """Write a run. An incomplete file never appears at the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(run, separators=(",", ":")) + "\n")
    partial.rename(path)


def read_runs(folder: Path) -> dict[str, list[Run]]:
    """Read the runs of one dataset and machine.

    Returns:
        The runs of each trainer, sorted by seed; empty if there is no folder.

    Raises:
        ValueError: if the runs differ in plan, length or test cases, and so must not be compared.
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
