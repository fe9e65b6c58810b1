"""A killed run of the study continues from its last checkpoint and ends like an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scripts.study.resume import make_resumable
from tests.conftest import ROOT
from tests.tiny_nnunet import NAME, environment, make_raw, plan

PLANS = "nnUNetTrainerICI__nnUNetPlans_small__2d"


class Trainer(SimpleNamespace):
    """The parts of nnU-Net's trainer that checkpoints need; an epoch is a draw from each generator."""

    def __init__(self, folder):
        super().__init__(output_folder=str(folder), save_every=50, current_epoch=0, draws=[])

    def save_checkpoint(self, filename):
        torch.save({"current_epoch": self.current_epoch + 1, "draws": self.draws}, filename)

    def load_checkpoint(self, filename):
        checkpoint = torch.load(filename, weights_only=False)
        self.current_epoch, self.draws = checkpoint["current_epoch"], checkpoint["draws"]

    def on_train_start(self):
        self.draw()  # as nnU-Net's loaders

    def draw(self):
        return [random.random(), np.random.random(), torch.rand(1).item()]

    def run_training(self, epochs, stop_after=None):
        self.on_train_start()
        while self.current_epoch < epochs:
            self.draws.append(self.draw())
            if (self.current_epoch + 1) % self.save_every == 0:
                self.save_checkpoint(f"{self.output_folder}/checkpoint_latest.pth")
            self.current_epoch += 1
            if self.current_epoch == stop_after:
                self.draw()  # what happens after the last checkpoint is lost
                return self
        return self


def test_the_generators_continue(tmp_path):
    whole = Trainer(tmp_path)
    assert make_resumable(whole, save_every=2) == [] and whole.save_every == 2
    whole.run_training(1)
    (tmp_path / "a").mkdir()
    draws, resumed = [], []
    for stops in ([None], [3, 5, None]):
        folder = tmp_path / f"stopped{len(stops)}"
        folder.mkdir()
        for stop in stops:
            random.seed(1), np.random.seed(1), torch.manual_seed(1)
            trainer = Trainer(folder)
            resumed = make_resumable(trainer, save_every=2)
            trainer.run_training(7, stop)
        draws.append(trainer.draws)
    assert draws[0] == draws[1] and len(draws[0]) == 7
    assert resumed == [2, 4]  # stopped after 3 and 5, checkpoints after 2 and 4
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint_latest.pth"]


def run_command(root, out, epochs=4):
    command = [sys.executable, "-m", "scripts.study.run", NAME, "2d", "nnUNetTrainerICI", "3", str(out)]
    command += ["--epochs", str(epochs), "--iterations", "3"]
    return {"args": command, "cwd": ROOT, "env": os.environ | environment(root) | {"nnUNet_n_proc_DA": "0"}}


@pytest.mark.slow
def test_a_killed_run_ends_like_another(tmp_path):
    root = tmp_path / "nnunet"
    make_raw(root)
    plan(root, "2d", [24, 24])
    raw = root / "nnUNet_raw" / NAME
    for part in ("images", "labels"):
        for path in sorted((raw / f"{part}Tr").iterdir())[:1]:
            (raw / f"{part}Ts" / path.name).write_bytes(path.read_bytes())
    training = root / "nnUNet_results" / NAME / PLANS / "fold_0"
    contents, weights = [], []
    for name, killed in (("whole", False), ("killed", True)):
        out = tmp_path / f"{name}.json"
        if killed:
            process = subprocess.Popen(**run_command(root, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not (training / "checkpoint_latest.pth").is_file() and process.poll() is None:
                time.sleep(0.02)
            process.kill()
            process.wait()
            assert not out.exists() and not (training / "checkpoint_final.pth").exists()
        done = subprocess.run(**run_command(root, out), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        contents.append(json.loads(out.read_text()))
        final = training / "checkpoint_final.pth"
        weights.append(torch.load(final, map_location="cpu", weights_only=False)["network_weights"])
        training.rename(training.with_name(name))
    whole, resumed = contents
    assert whole["resumed_after_epochs"] == [] and len(resumed["resumed_after_epochs"]) == 1
    assert 1 <= resumed["resumed_after_epochs"][0] <= 3
    for key, values in weights[0].items():
        assert torch.isfinite(values).all()
        torch.testing.assert_close(weights[1][key], values, rtol=0, atol=0)
    assert whole["machine"] == resumed["machine"] and len(whole["machine"]["id"]) == 12
    assert whole["cases"] == resumed["cases"] and {case["split"] for case in whole["cases"]} == {"val", "test"}
