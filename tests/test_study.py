"""The study: what it measures, what it keeps, and what it makes of that."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nnunet_ici.evaluation.families import evaluate_case
from nnunet_ici.evaluation.metrics import average_precision
from scripts.study import report
from scripts.study.metrics import COUNTS, THRESHOLDS, instance_sizes, measure_case
from scripts.study.runs import compress, read_runs
from scripts.study.sets import BASELINE, DATA, ROWS, jobs_of
from scripts.study.trainers import ABLATIONS, PublishedICILoss


def at(result, threshold):
    return result["thresholds"][THRESHOLDS.index(threshold)]


def test_a_case_by_hand():
    label = np.array([[1, 1, 0, 1, 0, 1, 1, 1, 0, 0]], bool)
    probability = np.array([[0.95, 0.6, 0.35, 0.6, 0, 0.1, 0.05, 0, 0, 0.55]], np.float32)
    result = measure_case(label, probability, small=1)
    half = at(result, 0.5)
    assert [half[name] for name in COUNTS] == [3, 2, 1, 3, 2, 0, 1, 1]
    assert half["dice"] == pytest.approx(2 * 3 / (6 + 4)) and half["f1"] == pytest.approx(4 / 6)
    low = at(result, 0.3)  # one component now joins the first two lesions
    assert (low["merged"], low["found"], low["iou50"], low["f1_iou50"]) == (2, 2, 0, 0)  # 2 of 4: half is not more
    assert half["f1_iou50"] == pytest.approx(4 / 6)
    assert at(result, 0.9)["small_found"] == 0
    assert result["pr_auc"] == pytest.approx(average_precision(label, probability))


@pytest.mark.parametrize("axes", [2, 3])
def test_the_measures_are_those_of_the_evaluation(axes, rng):
    for _ in range(20):
        shape = rng.integers(2, 12, axes)
        label, probability = rng.random(shape) < 0.2, rng.random(shape).astype(np.float32)
        ours = at(measure_case(label, probability, small=2), 0.5)
        theirs = evaluate_case(label, probability >= 0.5)
        assert ours["dice"] == pytest.approx(theirs["paper.dsc"])
        assert ours["f1"] == pytest.approx(theirs["isles.lesion_f1"])
        assert ours["lesions"] - ours["found"] == theirs["paper.missed_instances"]
        assert ours["false"] == theirs["paper.false_instances"]
        assert ours["small"] == sum(size <= 2 for size in instance_sizes(label))


def test_empty_images():
    nothing = np.zeros((4, 4), bool)
    result = measure_case(nothing, np.zeros((4, 4), np.float32), small=1)
    assert result["pr_auc"] is None and at(result, 0.5)["dice"] == at(result, 0.5)["f1"] == 1
    assert at(measure_case(nothing, np.ones((4, 4), np.float32), small=1), 0.5)["false"] == 1


def run(trainer, seed, shift, rng):
    """A run on four cases whose probabilities lie around the labels, the less the larger the shift."""
    cases = []
    for number in range(4):
        label = np.zeros((20, 20), bool)
        label[2:6, 2:6] = label[10:12, 10:12] = True
        probability = np.clip(0.65 * label - shift + rng.normal(0.2, 0.1, label.shape), 0, 1).astype(np.float32)
        split = "val" if number < 2 else "test"
        cases.append({"case": f"c{number}", "split": split, **measure_case(label, probability, small=4)})
    full = {"trainer": trainer, "seed": seed, "epochs": 1, "iterations": 2, "device": "none", "cases": cases}
    plan = {"configuration": "2d", "patch_size": [8, 8], "features": [4], "batch_size": 1}
    return compress({**full, "epoch_seconds": 1.0, "small_voxels": 4.0, "plan": plan, "machine": "none"})


def test_the_best_threshold_is_chosen_on_validation_cases_alone(rng):
    label, good, bad = np.zeros((8, 8), bool), np.full((8, 8), 0.3, np.float32), np.zeros((8, 8), np.float32)
    label[2:4, 2:4] = good[2:4, 2:4] = True
    good[2:4, 2:4] = 0.35  # only a threshold of 0.3 < t <= 0.35 would do; 0.3 floods, 0.4 finds nothing
    good[label == 0] = 0.25
    bad[label] = 0.95
    parts = {"val": good, "test": bad}
    cases = [{"case": part, "split": part, **measure_case(label, p, small=4)} for part, p in parts.items()]
    kept = compress({"trainer": "a", "seed": 0, "cases": cases})
    assert kept["best_threshold"] == 0.3
    assert kept["test_cases"]["at_best"]["dice"] == [1] and kept["curves"]["val"]["dice"][THRESHOLDS.index(0.3)] == 1
    cases[0] = {"case": "val", "split": "val", **measure_case(label, bad, small=4)}
    assert compress({"trainer": "a", "seed": 0, "cases": cases})["best_threshold"] == 0.5  # all equal: the nearest


def test_report(tmp_path, rng):
    (tmp_path / "nuclei" / "earlier").mkdir(parents=True)
    (tmp_path / "introduction.md").write_text("# Results\n")
    (tmp_path / "nuclei" / "notes.md").write_text("Of nothing.\n")
    for trainer, shift in (("nnUNetTrainer", 0.2), ("nnUNetTrainerICI", 0.1)):
        for seed in (0, 1):
            path = tmp_path / "nuclei" / "earlier" / f"{trainer}_seed{seed}.json"
            path.write_text(json.dumps(run(trainer, seed, shift, rng)))
    runs = read_runs(tmp_path / "nuclei" / "earlier")
    assert {trainer: [r["seed"] for r in group] for trainer, group in runs.items()} == {
        "nnUNetTrainer": [0, 1],
        "nnUNetTrainerICI": [0, 1],
    }
    docs = tmp_path / "docs"
    docs.mkdir()
    report.write_report(tmp_path, docs)
    text = (docs / "RESULTS.md").read_text()
    assert text.startswith("# Results") and "Of nothing." in text and "| `nnUNetTrainerICI` | 2 | " in text
    dice = [np.mean(r["test_cases"]["at_half"]["dice"]) for r in runs["nnUNetTrainer"]]
    assert f"{np.mean(dice):.3f} ({min(dice):.3f}-{max(dice):.3f})" in text.replace("**", "")
    gains = [
        100 * np.mean(np.subtract(a["test_cases"]["at_half"]["dice"], b["test_cases"]["at_half"]["dice"]))
        for a, b in zip(runs["nnUNetTrainerICI"], runs["nnUNetTrainer"], strict=True)
    ]
    assert f"| ICI over Dice | +1.7 to +3.7 | {gains[0]:+.1f}, {gains[1]:+.1f} (a seed each) |" in text
    assert "| ICI over blob loss | +0.6 to +5.0 | not run |" in text
    assert (docs / "results_nuclei.png").stat().st_size > 10_000


def test_recall_at_equal_false_lesions():
    curve = {"found": [9, 7, 8, 2], "false": [20, 10, 6, 0], "lesions": [10] * 4}
    values = [report.recall_within({"curves": {"test": curve}}, false) for false in (0, 6, 19, 20)]
    assert values == [0.2, 0.8, 0.8, 0.9]
    curve["false"][-1] = 1
    assert np.isnan(report.recall_within({"curves": {"test": curve}}, 0))


def test_the_published_form_gives_a_missed_lesion_no_gradient():
    target = torch.zeros(1, 1, 12, 12)
    target[0, 0, 2:4, 2:4] = target[0, 0, 8:10, 8:10] = 1
    logits = torch.zeros(1, 2, 12, 12)
    logits[:, 1] = -2.0
    logits[0, 1, 2:4, 2:4] = 2.0  # found; the other lesion is missed
    logits.requires_grad_()
    loss = PublishedICILoss(lambda output, target: 0 * output.sum())
    loss(logits, target).backward()
    gradient = logits.grad[0, 1]
    assert gradient[2:4, 2:4].abs().min() > 0 and gradient[8:10, 8:10].abs().max() == 0


def test_every_trainer_of_the_rows_exists():
    from nnunet_ici import trainers

    names = {name for row in ROWS.values() for name in row.trainers} - {BASELINE}
    assert all(name in ABLATIONS or isinstance(getattr(trainers, name), type) for name in names)
    assert ABLATIONS["nnUNetTrainerDualTau3to7"].threshold == (0.3, 0.7)


def test_jobs_come_seed_by_seed_with_the_baseline_first():
    assert all(row.trainers[0] == BASELINE and row.data in DATA for row in ROWS.values())
    jobs = list(jobs_of([ROWS["implants2d"], ROWS["options"]]))
    assert len(jobs) == len(set(jobs)) == 8 * 5 + 4 * 3
    assert jobs[0] == ("implants2d", BASELINE, 0) and [seed for _, _, seed in jobs] == sorted(j[2] for j in jobs)
    assert jobs[8:12] == [("implants2d", trainer, 0) for trainer in ROWS["options"].trainers[1:]]
