"""The queue of runs: a text file with one line per run, processed in the background, one or several runs at a time.

The file WORK/queue.txt is read again before each run. Lines can therefore be added, moved and removed while the queue
is processed. Runs with a result are not repeated. Stopped runs resume from their last checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from scripts.study.prepare import environment, plans_name, prepare
from scripts.study.sets import DATA, ROOT
from scripts.study.stored_runs import compress, run_path, write_run

Job = tuple[str, str, int]


def read_queue(work: Path) -> list[Job]:
    """The runs in WORK/queue.txt in order: dataset, trainer, seed. The list is empty if there is no file."""
    path = work / "queue.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    jobs = []
    for line in lines:
        parts = line.partition("#")[0].split()
        if parts:
            if len(parts) != 3 or parts[0] not in DATA or not parts[2].isdigit():
                raise ValueError(f"{path}: not a run. Expected: DATA TRAINER SEED. Got: {line}")
            jobs.append((parts[0], parts[1], int(parts[2])))
    return jobs


def add_to_queue(work: Path, jobs: list[Job], first: bool) -> list[Job]:
    """Add runs to the end of the queue, or to its front if ``first``. Queued runs keep their line unless ``first``."""
    old = read_queue(work)
    new = [*jobs, *(job for job in old if job not in jobs)] if first else [*old, *(j for j in jobs if j not in old)]
    work.mkdir(parents=True, exist_ok=True)
    partial = work / "queue.part"
    partial.write_text("".join(f"{data} {trainer} {seed}\n" for data, trainer, seed in new))
    partial.rename(work / "queue.txt")
    return new


@dataclass
class Queue:
    """The queue of a working folder.

    Attributes:
        work: working folder, outside of the repository.
        machine: id of this machine.
        results: folder of the results.
        threads: number of CPU threads of each run.
    """

    work: Path
    machine: str
    results: Path
    threads: int = 1
    _taken: set[Job] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def result(self, job: Job) -> Path:
        """The path of the result of a run."""
        return run_path(self.results, job[0], self.machine, job[1], job[2])

    def log(self, job: Job) -> Path:
        """The path of the log of a run."""
        return run_path(self.work / "runs", job[0], self.machine, job[1], job[2]).with_suffix(".log")

    def take(self) -> Job | None:
        """Take the first run that has no result and was not taken before, and prepare its dataset."""
        with self._lock:
            for job in read_queue(self.work):
                if job not in self._taken and not self.result(job).is_file():
                    self._taken.add(job)
                    prepare(job[0], DATA[job[0]], self.work)
                    return job
        return None

    def run(self, job: Job) -> str:
        """Train, predict and measure, or resume a stopped run.

        Returns:
            A message about the outcome.
        """
        name, trainer, seed = job
        data, log = DATA[name], self.log(job)
        full = log.with_suffix(".json")
        if not full.is_file():
            command = [sys.executable, "-m", "scripts.study.run", data.dataset, data.configuration, trainer, seed, full]
            command += ["--plans", plans_name(name), "--threads", self.threads]
            command += ["--epochs", data.epochs, "--iterations", data.iterations]
            log.parent.mkdir(parents=True, exist_ok=True)
            environ = environment(self.work, f"{self.machine}/seed{seed}")
            with log.open("a") as file:
                done = subprocess.run(
                    [str(part) for part in command],
                    env=environ | {"OMP_NUM_THREADS": str(self.threads)},
                    cwd=ROOT,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            if done.returncode:
                return f"{' '.join(map(str, job))}: FAILED, see {log}"
        run = compress(json.loads(full.read_text()))
        run["plan"] = {
            "configuration": data.configuration,
            "patch_size": list(data.patch_size),
            "features": list(data.features),
            "batch_size": data.batch_size,
        }
        write_run(self.result(job), run)
        return f"{' '.join(map(str, job))}: done, {run['epoch_seconds']} s per epoch"

    def work_off(self, jobs: int) -> bool:
        """Process the queue, with several runs at a time.

        Returns:
            Whether all runs succeeded.
        """
        with ThreadPoolExecutor(jobs) as pool:
            return all(list(pool.map(lambda _: self._work_off_one_by_one(), range(jobs))))

    def _work_off_one_by_one(self) -> bool:
        well = True
        while (job := self.take()) is not None:
            line = self.run(job)
            print(line, flush=True)
            well &= "FAILED" not in line
        return well

    def status(self) -> str:
        """A line for each run of the queue, and a line that says whether the queue is being processed."""
        lines = []
        for job in read_queue(self.work):
            state = "waiting"
            if self.result(job).is_file():
                state = "done"
            elif self.log(job).is_file():
                epochs = re.findall(r"Epoch (\d+)", self.log(job).read_text())
                state = f"started, epoch {epochs[-1]} of {DATA[job[0]].epochs}" if epochs else "started"
            lines.append(f"{' '.join(map(str, job))}: {state}")
        lines.append(f"running as process {pid}" if (pid := running(self.work)) else "not running")
        return "\n".join(lines)


def running(work: Path) -> int | None:
    """The id of the process that processes a queue in the background; None if there is none."""
    path = work / "queue.pid"
    pid = int(path.read_text()) if path.is_file() else None
    if pid is None:
        return None
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return None
    return pid


def start(work: Path, arguments: list[str]) -> int:
    """Process a queue in the background, like the command ``work`` with these arguments. Output goes to WORK/queue.log.

    Returns:
        The id of the process, which is also the id of its group.
    """
    if (pid := running(work)) is not None:
        raise SystemExit(f"{work} is already being processed. Expected: no process. Got: {pid}")
    with (work / "queue.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.study", "work", str(work), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (work / "queue.pid").write_text(str(process.pid))
    return process.pid


def stop(work: Path, patience_s: float = 30) -> int | None:
    """Stop the process in the background and its runs. The runs resume from their last checkpoints with the next start.

    Args:
        work: working folder.
        patience_s: longest time to wait for the end of the process, in seconds.

    Returns:
        The id of the process; None if there was none.

    Raises:
        TimeoutError: if the process has not ended within this time.
    """
    pid = running(work)
    if pid is None:
        return None
    os.killpg(pid, signal.SIGTERM)
    end = time.monotonic() + patience_s
    while running(work) is not None:
        with suppress(ChildProcessError):  # only a child if this process started it
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > end:
            raise TimeoutError(
                f"process {pid} has not ended. Expected: within {patience_s:g} s of SIGTERM. Got: longer"
            )
        time.sleep(0.05)
    return pid
