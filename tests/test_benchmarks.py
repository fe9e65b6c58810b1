"""The benchmarks run, verify before they time, and write what they print."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.benchmarks import components, goals, published, timing
from tests import reference
from tests.conftest import ROOT


def run(*arguments):
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_losses_side_by_side(tmp_path):
    out = run("scripts.benchmarks.losses", "--size", 16, "--repeats", 1, "--json", tmp_path / "losses_cpu.json")
    report = json.loads((tmp_path / "losses_cpu.json").read_text())
    assert report["difference_to_reference"] < 1e-5
    assert set(report["results"]) == {"noise", "half-trained", "converged"}
    for entry in report["results"].values():
        assert entry["DC_and_CE_loss"]["ratio"] == 1
        assert {"ICI terms", "DICI", "ICI terms as published", "blob loss, instance by instance"} <= set(entry)
        assert all(0 < loss["q1_s"] <= loss["median_s"] <= loss["q3_s"] for loss in entry.values())
    assert "ICI terms as published" in out

    table = run("scripts.benchmarks.goals", tmp_path).splitlines()
    measured = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in table[2:]}
    assert measured["CUDA: share of a training step, 128^3, batch 2"] == "not measured"
    ratio = report["results"]["noise"]["ICI terms"]["ratio"]
    assert f"noise {ratio:.2f}" in measured["CPU: ICI terms / DC_and_CE_loss, 2 x 2 x 128^3, real masks"]


def test_labellings_side_by_side(tmp_path):
    run("scripts.benchmarks.components", "--size", 16, "--repeats", 1, "--json", tmp_path / "c.json")
    results = json.loads((tmp_path / "c.json").read_text())["results"]
    assert all(entry["cc3d"]["right"] and entry["torch"]["right"] for entry in results.values())
    assert {"lesions", "noise 50%", "snakes", "2D, smoothed noise 50%"} <= set(results)


def test_a_wrong_labelling_is_caught():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 3, 3] = True
    device = torch.device("cpu")
    right = torch.tensor([[[1, 0, 0, 0], [0] * 4, [0] * 4, [0, 0, 0, 2]]])
    assert components.is_right(lambda m: right, mask, device)
    assert not components.is_right(lambda m: m.int(), mask, device)
    assert not components.is_right(lambda m: torch.ones(1, 4, 4), mask, device)


def test_the_lattice_has_as_many_components_as_it_says(rng):
    for count in (0, 1, 50, 512):
        assert ndimage.label(timing.lattice(count, 16, rng), np.ones((3, 3, 3)))[1] == count
    with pytest.raises(SystemExit, match="513 separate voxels do not fit"):
        timing.lattice(513, 16, rng)


def test_turns_and_summaries():
    calls = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = timing.take_turns(runs, 2, torch.device("cpu"), slow=("c",))
    assert "".join(calls) == "ababcab" and [len(t) for t in times.values()] == [2, 2, 1]
    summary = timing.summarize([2.0, 4.0, 9.0], [1.0, 4.0, 3.0])
    assert summary["median_s"] == 4 and summary["ratio"] == 2
    assert timing.summarize([6.0], [1.0, 2.0, 3.0])["ratio"] == 3


def test_peak_memory_of_this_process():
    peak = timing.peak_extra_bytes(lambda: torch.ones(2**26).sum(), torch.device("cpu"))
    if peak is None:
        pytest.skip("no peak memory of a process on this system")
    assert peak > 2**27  # 256 MB are held for a moment


def test_the_published_algorithm_has_the_values_of_the_paper_on_binary_predictions(rng):
    target = rng.random((1, 9, 10, 11)) < 0.08
    prediction = target ^ (rng.random(target.shape) < 0.02)
    logits = torch.from_numpy(np.where(prediction, 60.0, -60.0).astype(np.float32))
    logits = torch.stack([-logits, logits], 1)
    for label in (published.label_by_scipy, lambda mask: published.label_by_max_pooling(mask, 60)):
        value = published.ici_terms(label)(logits, torch.from_numpy(target[:, None].astype(np.int16))).item()
        expected = reference.paper_instance_loss(prediction[0], target[0])
        centers = reference.paper_center_loss(prediction[0], target[0], size=(7, 7, 7))
        assert value == pytest.approx(expected + centers, abs=1e-5)


def test_growth_and_speed_in_the_table_of_goals():
    report = {"by_instances": {"1": {"ICI terms": {"median_s": 2.0}}, "1000": {"ICI terms": {"median_s": 3.0}}}}
    assert goals.growth(report) == "1.50 x (1 to 1,000)"
    entry = {"ICI terms": {"median_s": 0.5}, "ICI terms as published": {"median_s": 200.0}}
    assert goals.speedup({"results": {"noise": entry}}) == "noise 400 x"
    assert goals.speedup({"results": {"noise": {"ICI terms": {"median_s": 1}}}}) == "not measured"
