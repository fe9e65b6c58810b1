"""What the study keeps of a run: small enough for the repository, and enough for every table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scripts.study.metrics import COUNTS, THRESHOLDS

RESULTS = Path(__file__).resolve().parent / "results"
SCORES = ("dice", "f1", "f1_iou50")
HALF = THRESHOLDS.index(0.5)

Run = dict[str, Any]


def compress(full: Run) -> Run:
    """Keep the mean curves over all thresholds, and the cases at 0.5 and at the best threshold.

    The best threshold is that of the highest mean of Dice and lesion-wise F1 on the validation cases; of equal ones the
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
    }
    return kept


def _curves(cases: list[Run]) -> dict[str, list[float]]:
    """For each threshold the means of the scores and the sums of the counts."""
    curves = {}
    for name in (*SCORES, *COUNTS):
        table = np.array([[at[name] for at in case["thresholds"]] for case in cases], dtype=float)
        values = table.mean(axis=0).round(5) if name in SCORES else table.sum(axis=0).astype(int)
        curves[name] = values.tolist()
    return curves


def _columns(cases: list[Run], index: int) -> dict[str, list[float]]:
    rows = [case["thresholds"][index] for case in cases]
    return {name: [round(row[name], 5) for row in rows] for name in (*SCORES, *COUNTS)}


def write_run(data: str, run: Run) -> Path:
    """Write results/DATA/TRAINER_seedN.json."""
    path = RESULTS / data / f"{run['trainer']}_seed{run['seed']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, separators=(",", ":")) + "\n")
    return path


def read_runs(folder: Path) -> dict[str, list[Run]]:
    """All runs of a data set by trainer, each sorted by seed; nothing where there is no folder."""
    runs: dict[str, list[Run]] = {}
    for path in sorted(folder.glob("*_seed*.json")):
        run = json.loads(path.read_text())
        runs.setdefault(run["trainer"], []).append(run)
    return {trainer: sorted(group, key=lambda run: run["seed"]) for trainer, group in runs.items()}
