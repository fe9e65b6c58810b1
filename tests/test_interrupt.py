"""Ctrl-C in the long commands: one line, nothing half written, no process left, within two seconds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nnunet_ici.cli import main
from nnunet_ici.parallel import uninterrupted
from tests.atlas_tree import Tree
from tests.evaluate_command import save_probabilities, write
from tests.test_ensemble import MODELS, describe, make_members

CASES = 150
SECONDS = 2


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored():
    """A shell starts its background jobs with Ctrl-C ignored, and their processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def members(session):
    """The processes of a session, from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(of) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def read_until(stream, pattern):
    """Read what a process prints, until a pattern occurs in it."""
    seen = b""
    while not re.search(pattern, seen):
        part = os.read(stream.fileno(), 1 << 16)
        assert part, f"ended before {pattern!r}: {seen.decode()}"
        seen += part


def stopped(process):
    """Press Ctrl-C in a session, and wait for its end.

    Returns:
        What the process printed until its end, the seconds that it took, and the processes left after SECONDS.
    """
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes in the foreground
    try:
        told = b"".join(filter(None, process.communicate(timeout=30))).decode()
    finally:
        process.kill()
    seconds = time.monotonic() - start
    while members(process.pid) and time.monotonic() - start < SECONDS:
        time.sleep(0.05)
    return told, seconds, members(process.pid)


def interrupt(root, command, ready, after=0.0):
    """Run a command in a session of its own, press Ctrl-C once its output shows ``ready``, and look at the end."""
    environment = os.environ | {name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed")}
    process = subprocess.Popen(
        # As installed: started with -m, Python ends by the signal if it came while a module was made by exec.
        [Path(sys.executable).with_name("nnunet_ici"), *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment | {"COLUMNS": "80"},
        cwd=root,
        start_new_session=True,
    )
    read_until(process.stdout, re.escape(ready.encode()))
    time.sleep(after)
    told, seconds, left = stopped(process)
    assert process.returncode == 130, told
    assert seconds < SECONDS and left == []
    *bars, last = [line for line in told.splitlines() if line.strip()]
    assert last == "interrupted: no incomplete file was left behind" and all(
        "| " in line or line.startswith("ok ") for line in bars
    ), told


def listing(root):
    """All paths below a folder with their contents."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def link_cases(folder, count=CASES):
    """Make many cases of the one in a folder, as links."""
    for path in list(folder.iterdir()):
        for case in range(1, count):
            path.with_name(path.name.replace("c000", f"c{case:03d}")).symlink_to(path)


@pytest.fixture
def root(tmp_path, rng):
    """Ground truth, predictions and probabilities of many cases."""
    label = np.zeros((32, 48, 48), np.uint8)
    label[rng.random(label.shape) < 0.01] = 1
    probability = np.clip(0.6 * label + 0.4 * rng.random(label.shape), 0, 1).astype(np.float32)
    write(tmp_path / "gt" / "c000.nii.gz", label)
    write(tmp_path / "A" / "c000.nii.gz", (probability > 0.5).astype(np.uint8))
    save_probabilities(tmp_path / "A" / "c000.npz", probability)
    for name in ("gt", "A"):
        link_cases(tmp_path / name)
    (tmp_path / "nnUNet_raw").mkdir()
    return tmp_path


def test_ctrl_c_is_held_back_whichever_thread_takes_it():
    woken = threading.Event()
    threading.Thread(target=woken.wait, daemon=True).start()  # does not block the signal
    reached = False
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            reached = True
    finally:
        woken.set()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_while_workers_send_large_results():
    code = "from nnunet_ici.parallel import in_parallel; in_parallel(bytes, [1 << 20] * 10_000, 2, 'send')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    read_until(process.stderr, rb"\dcase/s")  # the first results have arrived
    told, _, left = stopped(process)
    assert told.rstrip().endswith("KeyboardInterrupt") and left == []


@pytest.mark.parametrize(("processes", "after"), [(1, 0.5), (2, 0.0), (2, 2.5)])  # workers start, workers work
def test_evaluate(root, processes, after):
    before = listing(root)
    command = ["evaluate", "-gt", "gt", "-pred", "A", "-o", "out", "-np", processes]
    interrupt(root, command, "evaluate:", after)
    assert listing(root) == before and not (root / "out").exists()


def test_evaluate_with_an_ensemble(tmp_path):
    make_members(tmp_path, ".nii.gz", cases=[f"c{case}" for case in range(30)])
    for model in MODELS:
        describe(tmp_path / model, ".nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cases.csv").write_text("of an evaluation before")
    before = listing(tmp_path)
    interrupt(tmp_path, ["evaluate", "-gt", "gt", "-pred", *MODELS, "--ensemble", "-o", "out"], "ensemble:")
    assert listing(tmp_path) == before


def test_tune(root):
    before = listing(root)
    interrupt(root, ["tune", "-gt", "gt", "-prob", "A", "-o", "rule.json"], "tune:", 1.0)
    assert listing(root) == before


def test_postprocess(root):
    setting = {"threshold": 0.4, "minimum_volume_mm3": 3, "peak_probability": None}
    rule = {"format": 1, "classes": {"foreground": []}, "regions_class_order": None, "file_ending": ".nii.gz"}
    (root / "rule.json").write_text(json.dumps(rule | {"rule": {"foreground": setting}}))
    before = listing(root)
    interrupt(root, ["postprocess", "rule.json", "-i", "A", "-o", "out"], "postprocess:", 1.0)
    assert listing(root) == before and not (root / "out").exists() and not list(root.glob(".*"))


@pytest.mark.parametrize("stage", ["check:", "convert:"])
def test_convert_atlas(tmp_path, stage):
    tree = Tree(tmp_path)
    image, mask = tree.add("r001s001")
    tree.write(image, tree.rng.normal(100, 9, (90, 90, 90)).astype(np.float32))
    tree.write(mask, (tree.rng.random((90, 90, 90)) < 0.1).astype(np.uint8))
    for subject in range(2, 120):
        for path in (image, mask):
            other = Path(str(path).replace("r001s001", f"r001s{subject:03d}"))
            other.parent.mkdir(parents=True, exist_ok=True)
            other.symlink_to(path)
    (tmp_path / "nnUNet_raw").mkdir()
    before = listing(tmp_path)
    interrupt(tmp_path, ["convert-atlas", tree.root], stage)
    assert listing(tmp_path) == before and not list((tmp_path / "nnUNet_raw").iterdir())


def test_synth_atlas(tmp_path):
    interrupt(tmp_path, ["synth-atlas", "out", "-n", 40, "--spacing", 3], "synthesize:", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_report(root):
    arguments = ["evaluate", "-gt", str(root / "gt"), "-pred", str(root / "A"), "-o", str(root / "out"), "-np", "1"]
    for path in (*(root / "gt").glob("c[1-9]*"), *(root / "A").glob("c[1-9]*")):
        path.unlink()
    assert main(arguments) == 0
    before = listing(root)
    interrupt(root, ["report", "out"], "", after=1.5)
    assert listing(root) == before


def test_explain(root):
    """It prints nothing before its end, so the images are large: it runs for much longer than two seconds."""
    label = np.zeros((128, 192, 192), np.uint8)
    label[::6, ::6, ::6] = 1
    for name in ("gt", "A"):
        write(root / name / "large.nii.gz", label)
    before = listing(root)
    interrupt(root, ["explain", "gt/large.nii.gz", "A/large.nii.gz", "-o", "picture.png"], "", after=2.0)
    assert listing(root) == before


def test_doctor(root, monkeypatch):
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        (root / name).mkdir()
    monkeypatch.setenv("nnUNet_results", str(root / "nnUNet_results"))
    interrupt(root, ["doctor"], "checking trainers", after=1.0)
