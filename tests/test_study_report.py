"""The study's page: the free-response curve, intervals over seeds and cases, and what the tables say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from nnunet_ici.evaluation.average_precision import threshold_curve
from scripts.study import bootstrap
from scripts.study.bootstrap import Difference, case_weights, difference
from scripts.study.case_metrics import THRESHOLDS, measure_case
from scripts.study.free_response import rates_reached, recall_at
from scripts.study.report import write_report
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
from scripts.study.stored_runs import compress, read_runs, write_run
from scripts.study.tables import compare_runs
from scripts.study.tuned import chosen_threshold, threshold_section

MACHINE = {"id": "abc", "processor": "an abacus", "threads": 1, "torch": "2"}


def run(trainer, seed, shift, rng):
    """A run on four cases. Its probabilities fit the labels less, the larger the shift is."""
    cases = []
    for number in range(4):
        label = np.zeros((20, 20), bool)
        label[2:6, 2:6] = label[10:12, 10:12] = True
        probability = np.clip(0.65 * label - shift + rng.normal(0.2, 0.1, label.shape), 0, 1).astype(np.float32)
        split = "val" if number < 2 else "test"
        cases.append({"case": f"c{number}", "split": split, **measure_case(label, probability, small=4)})
    full = {"trainer": trainer, "seed": seed, "epochs": 1, "iterations": 2, "machine": MACHINE, "cases": cases}
    plan = {"configuration": "2d", "patch_size": [8, 8], "features": [4], "batch_size": 1}
    full |= {"resumed_after_epochs": [1] if seed else [], "small_voxels": 4.0, "plan": plan}
    return compress(full)


@pytest.fixture
def results(tmp_path, rng):
    folder = tmp_path / "results"
    for trainer, shift in (("nnUNetTrainer", 0.2), ("nnUNetTrainerICI", 0.1)):
        for seed in (0, 1):
            for machine in ("abc", "earlier"):
                kept = run(trainer, seed, shift, rng)
                if machine == "earlier":  # as the first runs were stored
                    kept |= {"machine": "an older one", "device": "CPU"}
                    del kept["resumed_after_epochs"], kept["test_cases"]["found"], kept["test_cases"]["false"]
                    for at in (AT_HALF, AT_BEST):
                        del kept["test_cases"][at]["lesion_dice"]
                write_run(folder / "nuclei" / machine / f"{trainer}_seed{seed}.json", kept)
    (folder / "introduction.md").write_text("# Results\n\n<!-- overview -->\n")
    (folder / "nuclei" / "notes.md").write_text("Of nothing.\n")
    (folder / "nuclei" / "earlier" / "notes.md").write_text("Of less.\n")
    return folder


def test_the_page(results, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    write_report(results, docs)
    text = (docs / "results.md").read_text()
    for part in (
        "# Results",
        "![Differences",
        "## Nuclei",
        "Of nothing.",
        "### Machine abc",
        "### Earlier",
        "Of less.",
    ):
        assert part in text
        text = text[text.index(part) :]  # in this order
    text = (docs / "results.md").read_text()
    assert "an abacus, 1 thread, PyTorch 2; stopped and resumed: 2 of 4 runs" in text
    runs = read_runs(results / "nuclei" / "abc")
    assert {t: [r["seed"] for r in group] for t, group in runs.items()} == {
        "nnUNetTrainer": [0, 1],
        "nnUNetTrainerICI": [0, 1],
    }
    dice = [np.mean(r["test_cases"][AT_HALF]["dice"]) for r in runs["nnUNetTrainer"]]
    assert f"{np.mean(dice):.3f} ({min(dice):.3f}-{max(dice):.3f})" in text
    gains = [
        100 * np.mean(np.subtract(a["test_cases"][AT_HALF]["dice"], b["test_cases"][AT_HALF]["dice"]))
        for a, b in zip(runs["nnUNetTrainerICI"], runs["nnUNetTrainer"], strict=True)
    ]
    assert f"| ICI over Dice | +1.7 to +3.7 | {gains[0]:+.1f}, {gains[1]:+.1f} (by seed) |" in text
    assert "| ICI over blob loss | +0.6 to +5.0 | not run |" in text
    for name in ("overview", "nuclei_abc", "nuclei_earlier"):
        assert (docs / f"results_{name}.png").stat().st_size > 10_000


def test_a_second_machine_is_named_in_the_overview(results, tmp_path, monkeypatch):
    for path in (results / "nuclei" / "abc").glob("*_seed0.json"):
        write_run(results / "nuclei" / "def" / path.name, json.loads(path.read_text()))
    drawn = []
    monkeypatch.setattr("scripts.study.report.draw_overview", lambda compared, _: drawn.extend(compared))
    write_report(results, tmp_path)
    assert [title for title, _ in drawn] == ["Nuclei: real, 2D", "Nuclei: real, 2D, machine def"]
    assert [len(runs["nnUNetTrainer"]) for _, runs in drawn] == [2, 1]


def test_runs_that_differ_are_not_compared(results):
    path = results / "nuclei" / "abc" / "nnUNetTrainerICI_seed1.json"
    for key, value in (("epochs", 7), ("plan", {"patch_size": [9, 9]})):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {key: value}))
        with pytest.raises(ValueError, match=f"cannot be compared. Expected: {key} .* Got: .*[79]"):
            read_runs(path.parent)
        path.write_text(json.dumps(content))
    content["test_cases"]["case"] = ["other"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Expected: the test cases of the other runs"):
        read_runs(path.parent)


def test_the_free_response_curve_by_hand():
    false, recall = [16, 4, 1, 3], [0.8, 0.6, 0.2, 0.7]
    assert recall_at([1, 2, 3, 4, 8], false, recall) == pytest.approx([0.2, 0.2 + 0.5 / np.log2(3), 0.7, 0.7, 0.75])
    assert recall_at([0.5, 32], false, recall).tolist() == [0.2, 0.8]  # beyond the ends
    assert recall_at([1], [0, 2], [0.3, 0.9]) == pytest.approx([0.3 + 0.6 * 6 / 7])  # 0 stands for 1/64
    assert rates_reached([[0, 0.6], [0, 0.4]]) == [0.125, 0.25] and rates_reached([[0.2, 0.4]]) == [0.25]
    assert rates_reached([[0, 5, 3]]) == [0.5, 1, 2, 4] and rates_reached([[0, 1], [2, 3]]) == [] == rates_reached([])


def test_measures_count_a_case_as_often_as_it_is_drawn(rng):
    kept = run("nnUNetTrainer", 0, 0.15, rng)
    once, twice = np.ones((1, 2)), np.array([[2.0, 0.0]])
    rates = rates_reached([curve(kept)[0]])
    assert rates
    for measure in (
        *measures_at(AT_HALF),
        *measures_at(AT_BEST),
        pr_auc,
        average_precision,
        froc,
        free_response(rates[0]),
        mean_free_response(rates),
    ):
        first, second = (measure.of(kept, np.eye(2)[[at]])[0] for at in (0, 1))
        assert measure.of(kept, twice)[0] == pytest.approx(first)
        assert measure.value(kept) == pytest.approx(measure.of(kept, once)[0])
        if measure.title in ("Dice", "PR-AUC"):
            assert measure.value(kept) == pytest.approx((first + second) / 2)
    false, recall = curve(kept)
    half = THRESHOLDS.index(0.5)
    columns = kept["test_cases"][AT_HALF]
    assert false[half] == sum(columns["false"]) / 2 and recall[half] == sum(columns["found"]) / sum(columns["lesions"])
    assert mean_free_response(rates).value(kept) == pytest.approx(recall_at(rates, false, recall).mean())
    assert np.isnan(mean_free_response([]).value(kept))
    # those of evaluate
    totals = np.array(
        [kept["curves"]["test"][name] for name in ("lesions", "found", "predicted", "false", "matched")]
    ).T
    expected = threshold_curve(totals, cases=2)
    assert froc.value(kept) == pytest.approx(np.mean(expected["at"]))
    assert average_precision.value(kept) == pytest.approx(*expected["average_precision"])
    del kept["test_cases"]["matched"]  # a run of the second round
    assert np.isnan(average_precision.value(kept))


def statistics(ours, theirs):
    """From tables (S, C) of single cases."""
    return [
        (lambda w, a=a: w @ np.array(a) / w.sum(1), lambda w, b=b: w @ np.array(b) / w.sum(1))
        for a, b in zip(ours, theirs, strict=True)
    ]


def test_an_interval_over_cases_is_that_of_scipy(rng):
    values = rng.normal(0.1, 0.2, 12)
    result = difference(statistics([values], [np.zeros(12)]), 12)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=0).confidence_interval
    assert result.mean == pytest.approx(values.mean())
    assert [result.low, result.high] == pytest.approx([expected.low, expected.high], abs=0.01)


def test_an_interval_over_seeds_and_cases(rng):
    ours = np.full((3, 5), 0.6) + np.array([[0.3], [0.0], [-0.3]])  # only the seeds differ
    result = difference(statistics(ours, np.full((3, 5), 0.5)), 5)
    assert result.mean == pytest.approx(0.1) and (result.up, result.down) == (2, 1) and not result.clear
    assert result.low == pytest.approx(-0.2) and result.high == pytest.approx(0.4)
    both = ours + rng.normal(0, 0.5, 5)  # the cases differ too
    wider = difference(statistics(both, np.full((3, 5), 0.5)), 5)
    assert wider.high - wider.low > result.high - result.low
    again = difference(statistics(both, np.full((3, 5), 0.5)), 5)
    assert (again.low, again.high) == (wider.low, wider.high)
    assert case_weights(5).shape == (bootstrap.RESAMPLES, 5) and (case_weights(5).sum(1) == 5).all()


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "clear"),
    [
        (0.1, 0.3, (0.2, 0.2), True),
        (-0.3, -0.1, (-0.2, -0.2), True),
        (0.1, 0.3, (0.5, -0.1), False),  # seeds disagree
        (-0.1, 0.3, (0.1, 0.1), False),  # 0 is in the interval
        (0.1, 0.3, (0.2,), False),  # one seed
        (float("nan"), float("nan"), (0.2, 0.2), False),
    ],
)
def test_bold_needs_an_interval_without_zero_and_seeds_that_agree(low, high, by_seed, clear):
    assert Difference(np.mean(by_seed), low, high, by_seed).clear is clear


def test_runs_without_single_cases_along_the_curve_have_no_interval(results):
    runs = read_runs(results / "nuclei" / "earlier")
    pairs = list(zip(runs["nnUNetTrainerICI"], runs["nnUNetTrainer"], strict=True))
    rates = rates_reached([curve(r)[0] for group in runs.values() for r in group])
    result = compare_runs(pairs, mean_free_response(rates))
    assert np.isfinite(result.mean) and np.isnan(result.low) and not result.clear
    assert np.isnan(compare_runs(pairs, measures_at(AT_HALF)[3]).mean)  # lesion-wise Dice


def test_what_tune_would_have_chosen(results, tmp_path):
    (runs,) = (read_runs(results / "nuclei" / "abc")["nnUNetTrainer"],)
    rows = threshold_section([("Nuclei", {"nnUNetTrainer": runs})], "A note.\n").splitlines()
    assert "A note." in rows and rows[-2].startswith("| Nuclei, `nnUNetTrainer` | 2 | ")
    one = runs[0]
    sums = {part: np.add(one["curves"][part]["dice"], one["curves"][part]["lesion_dice"]) for part in ("val", "test")}
    best = chosen_threshold(one)
    assert sums["val"][best] == pytest.approx(sums["val"].max(), abs=1e-6)
    ties = np.flatnonzero(sums["val"] > sums["val"].max() - 1e-6)
    assert all(abs(THRESHOLDS[best] - 0.5) <= abs(THRESHOLDS[tie] - 0.5) + 1e-9 for tie in ties)
    cells = [cell.strip() for cell in threshold_section([("Nuclei", {"x": [one]})], "").splitlines()[-1].split("|")]
    at = [sums["test"][THRESHOLDS.index(0.5)] / 2, sums["test"][best] / 2, sums["test"].max() / 2]
    assert cells[4:8] == [f"{value:.3f}" for value in (*at, at[2] - at[1])]
