"""The queue of the study: its file, the order of the runs, and what is left when it is stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scripts.study import job_queue
from scripts.study.__main__ import main
from scripts.study.case_metrics import measure_case
from scripts.study.job_queue import Queue, add_to_queue, read_queue, running, start, stop
from scripts.study.machine import describe_machine
from scripts.study.prepare import copy_part, environment, plans_name
from scripts.study.sets import ROWS


def test_the_file(tmp_path, capsys):
    assert read_queue(tmp_path) == []
    assert main(["queue", str(tmp_path), "wide"]) == 0
    wide = [("implants2d_wide", trainer, 0) for trainer in ROWS["wide"].trainers]
    assert read_queue(tmp_path) == wide and "queue.txt: 4 runs" in capsys.readouterr().out
    chosen = ["--trainers", "nnUNetTrainerPQ", "--seeds", "1", "2"]
    assert main(["queue", str(tmp_path), "nuclei", *chosen, "--first"]) == 0
    pq = [("nuclei", "nnUNetTrainerPQ", seed) for seed in (1, 2)]
    assert read_queue(tmp_path) == pq + wide
    add_to_queue(tmp_path, [wide[-1], pq[0]], first=True)
    assert read_queue(tmp_path) == [wide[-1], pq[0], pq[1], *wide[:-1]]
    (tmp_path / "queue.txt").write_text("# first\n\nnuclei nnUNetTrainer 0  # the baseline\nnuclei nnUNetTrainer x\n")
    with pytest.raises(ValueError, match=r"not a run. Expected: DATA TRAINER SEED. Got: nuclei nnUNetTrainer x"):
        read_queue(tmp_path)


def test_a_part_of_a_data_set_is_copied(tmp_path):
    source = tmp_path / "source"
    for folder, count in (("Tr", 5), ("Ts", 3)):
        for kind in ("images", "labels"):
            (source / f"{kind}{folder}").mkdir(parents=True)
            for number in range(count):
                (source / f"{kind}{folder}" / f"{number}.png").write_text(f"{kind}{number}")
    (source / "dataset.json").write_text('{"numTraining": 5, "file_ending": ".png"}')
    copy_part(source, tmp_path / "part", train=4, test=1)
    assert sorted(path.name for path in (tmp_path / "part" / "labelsTr").iterdir()) == [f"{i}.png" for i in range(4)]
    assert [path.read_text() for path in (tmp_path / "part" / "imagesTs").iterdir()] == ["images0"]
    assert json.loads((tmp_path / "part" / "dataset.json").read_text()) == {"numTraining": 4, "file_ending": ".png"}


def test_every_run_has_results_of_its_own_and_every_data_set_plans(tmp_path):
    planning, seeds = environment(tmp_path), [environment(tmp_path, f"abc/seed{seed}") for seed in (0, 1)]
    assert len({e["nnUNet_results"] for e in (planning, *seeds)}) == 3
    assert len({e["nnUNet_raw"] for e in (planning, *seeds)}) == 1
    assert [e["nnUNet_n_proc_DA"] for e in (planning, *seeds)] == ["1", "0", "0"]
    assert plans_name("implants2d") != plans_name("implants2d_wide")  # of one dataset of nnU-Net


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A queue of four runs, of which one is done, one fails, and the last is added while the queue is processed."""
    jobs = [("nuclei", f"nnUNetTrainer{name}", 0) for name in ("", "A", "B")]
    add_to_queue(tmp_path / "work", jobs, first=False)
    queue = Queue(tmp_path / "work", "abc", tmp_path / "results")
    queue.result(jobs[1]).parent.mkdir(parents=True)
    queue.result(jobs[1]).write_text("{}")
    seen = []

    def run(command, stdout, **_):
        seen.append((command[5], command[6]))
        print("Epoch 7", file=stdout, flush=True)
        add_to_queue(tmp_path / "work", [("nuclei", "nnUNetTrainerC", 3)], first=False)
        failed = command[5] == "nnUNetTrainerB"
        if not failed:
            measured = measure_case(np.eye(4) > 0, np.eye(4, dtype=np.float32), small=1)
            cases = [{"case": "a", "split": split, **measured} for split in ("val", "test")]
            full = {"trainer": command[5], "seed": int(command[6]), "epoch_seconds": 1.5, "cases": cases}
            queue.log(("nuclei", command[5], int(command[6]))).with_suffix(".json").write_text(json.dumps(full))
        return type("Done", (), {"returncode": int(failed)})

    monkeypatch.setattr(job_queue, "prepare", lambda *_: None)
    monkeypatch.setattr(job_queue.subprocess, "run", run)
    return queue, seen


def test_it_is_processed(queue, capsys):
    queue, seen = queue
    assert not queue.work_off(jobs=1)
    assert seen == [("nnUNetTrainer", "0"), ("nnUNetTrainerB", "0"), ("nnUNetTrainerC", "3")]
    said = capsys.readouterr().out
    assert "nuclei nnUNetTrainer 0: done, 1.5 s per epoch" in said and "nuclei nnUNetTrainerB 0: FAILED, see" in said
    kept = json.loads(queue.result(("nuclei", "nnUNetTrainerC", 3)).read_text())
    assert kept["seed"] == 3 and kept["plan"]["patch_size"] == [64, 64]
    states = [line.split(": ")[-1] for line in queue.status().splitlines()]
    assert states == ["done", "done", "started, epoch 7 of 20", "done", "not running"]


def test_the_background(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho $@; exec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(job_queue.sys, "executable", str(program))
    assert running(tmp_path) is None and stop(tmp_path) is None
    pid = start(tmp_path, ["--jobs", "2"])
    assert running(tmp_path) == pid
    with pytest.raises(SystemExit, match=f"is already being processed. Expected: no process. Got: {pid}"):
        start(tmp_path, [])
    assert stop(tmp_path) == pid and running(tmp_path) is None
    log = (tmp_path / "queue.log").read_text()
    assert log in ("", f"-m scripts.study work {tmp_path} --jobs 2\n")  # empty if it was stopped before its first line


def test_the_name_of_the_machine_is_stable():
    cpu = torch.device("cpu")
    first, other = describe_machine(cpu, 1), describe_machine(cpu, 2)
    assert describe_machine(cpu, 1) == first and len(first["id"]) == 12
    assert other["id"] != first["id"] and {**other, "id": 0, "threads": 0} == {**first, "id": 0, "threads": 0}
    state = torch.get_rng_state()
    describe_machine(cpu, 1)
    assert torch.equal(state, torch.get_rng_state())  # its network does not draw from the run's generators
