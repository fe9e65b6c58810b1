"""The study: its measures, the results that it keeps of a run, and its comparisons."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ici.evaluation.families import evaluate_case
from nnunet_ici.evaluation.matching import match_instances
from nnunet_ici.evaluation.metrics import lesion_dice, pr_auc
from scripts.study.case_metrics import COUNTS, THRESHOLDS, instance_sizes, measure_case
from scripts.study.sets import BASELINE, DATA, ROWS, jobs_of
from scripts.study.stored_runs import compress
from scripts.study.trainers import ABLATIONS, PublishedICILoss


def at(result, threshold):
    return result["thresholds"][THRESHOLDS.index(threshold)]


def test_a_case_by_hand():
    label = np.array([[1, 1, 0, 1, 0, 1, 1, 1, 0, 0]], bool)
    probability = np.array([[0.95, 0.6, 0.35, 0.6, 0, 0.1, 0.05, 0, 0, 0.55]], np.float32)
    result = measure_case(label, probability, small=1)
    half = at(result, 0.5)
    assert [half[name] for name in COUNTS] == [3, 2, 1, 3, 2, 0, 1, 1, 2]
    assert half["dice"] == pytest.approx(2 * 3 / (6 + 4)) and half["f1"] == pytest.approx(4 / 6)
    low = at(result, 0.3)  # one component now joins the first two lesions
    assert (low["merged"], low["found"], low["iou50"], low["f1_iou50"]) == (2, 2, 0, 0)  # 2 of 4: half is not more
    assert half["f1_iou50"] == pytest.approx(4 / 6)
    assert at(result, 0.9)["small_found"] == 0
    assert result["pr_auc"] == pytest.approx(pr_auc(label, probability))


@pytest.mark.parametrize("axes", [2, 3])
def test_the_measures_are_those_of_the_evaluation(axes, rng):
    for _ in range(20):
        shape = rng.integers(2, 12, axes)
        label, probability = rng.random(shape) < 0.2, rng.random(shape).astype(np.float32)
        ours = at(measure_case(label, probability, small=2), 0.5)
        theirs = evaluate_case(label, probability >= 0.5)
        assert ours["dice"] == pytest.approx(theirs["dice"])
        assert ours["f1"] == pytest.approx(theirs["lesion_f1"])
        assert ours["lesion_dice"] == pytest.approx(lesion_dice(match_instances(label, probability >= 0.5)))
        assert ours["lesions"] - ours["found"] == theirs["missed_instances"]
        assert ours["false"] == theirs["false_instances"]
        assert ours["small"] == sum(size <= 2 for size in instance_sizes(label))


def test_empty_images():
    nothing = np.zeros((4, 4), bool)
    result = measure_case(nothing, np.zeros((4, 4), np.float32), small=1)
    assert result["pr_auc"] is None and at(result, 0.5)["dice"] == at(result, 0.5)["f1"] == 1
    assert at(measure_case(nothing, np.ones((4, 4), np.float32), small=1), 0.5)["false"] == 1


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
