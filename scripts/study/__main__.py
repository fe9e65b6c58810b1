"""The evidence study: which loss finds more lesions, in nnU-Net, under equal conditions.

    python -m scripts.study run nuclei WORK [--source FOLDER] [--set main] [--seeds 0 1 2] [--epochs N] ...
    python -m scripts.study run implants WORK --source MASKS ...
    python -m scripts.study report

``run`` prepares the data set (once), and then trains, predicts and measures each trainer and seed in a process of its
own, seed by seed; a run that is done is not done again, one that was stopped goes on with the next call. What is
measured goes to results/DATA/TRAINER_seedN.json. ``report`` makes docs/RESULTS.md and its figures from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from scripts.study.prepare import environment, prepare
from scripts.study.runs import RESULTS, compress, write_run
from scripts.study.sets import DATA, ROOT, SETS, Data


def run_one(name: str, data: Data, trainer: str, seed: int, args: argparse.Namespace) -> str:
    """Train, predict and measure, unless that is done; a sentence on how it went."""
    work = args.work.resolve()
    full = work / "runs" / name / f"{trainer}_seed{seed}.json"
    if not full.is_file():
        command = [sys.executable, "-m", "scripts.study.run", data.dataset, data.configuration, trainer, seed, full]
        command += ["--epochs", args.epochs, "--iterations", args.iterations, "--threads", args.threads]
        full.parent.mkdir(parents=True, exist_ok=True)
        with full.with_suffix(".log").open("w") as log:
            done = subprocess.run(
                [str(part) for part in command],
                env=environment(work, seed) | {"OMP_NUM_THREADS": str(args.threads)},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            return f"{trainer}, seed {seed}: FAILED, see {log.name}"
    run = compress(json.loads(full.read_text()))
    run["plan"] = {"configuration": data.configuration, "patch_size": data.patch_size, "features": data.features}
    run["plan"]["batch_size"] = data.batch_size
    run["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    write_run(name, run)
    return f"{trainer}, seed {seed}: {run['epoch_seconds']} s an epoch"


def main() -> int:
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="prepare, train, predict, measure")
    run.add_argument("data", choices=sorted(DATA))
    run.add_argument("work", type=Path, help="a folder to work in, outside of the repository")
    run.add_argument("--source", type=Path, help="the data set's files (default: ../shared/data)")
    run.add_argument("--set", nargs="+", choices=sorted(SETS), default=["main"], help="of trainers (default: main)")
    run.add_argument("--trainers", nargs="+", help="instead of a set")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--epochs", type=int, default=1000)
    run.add_argument("--iterations", type=int, default=250, help="per epoch")
    run.add_argument("--train", type=int, default=320, help="number of training images")
    run.add_argument("--test", type=int, default=100, help="number of test images")
    run.add_argument("--patch-size", type=int, nargs="+", help="in the place of the small plan's")
    run.add_argument("--features", type=int, nargs="+", help="in the place of the small plan's")
    run.add_argument("--batch-size", type=int, help="in the place of the small plan's")
    run.add_argument("--jobs", type=int, default=1, help="runs side by side")
    run.add_argument("--threads", type=int, default=1, help="of each run, on the CPU")
    commands.add_parser("report", help="docs/RESULTS.md from results/")
    args = parser.parse_args()
    if args.command == "report":
        from scripts.study.report import write_report

        write_report(RESULTS, ROOT / "docs")
        return 0
    data = DATA[args.data]
    plan = {name: getattr(args, name) for name in ("patch_size", "features", "batch_size") if getattr(args, name)}
    data = replace(data, **plan)
    prepare(data, args.source or data.source, args.work.resolve(), args.train, args.test, seed=0)
    trainers = args.trainers or [trainer for name in args.set for trainer in SETS[name]]
    jobs = [(trainer, seed) for seed in args.seeds for trainer in trainers]
    failed = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for line in pool.map(lambda job: run_one(args.data, data, job[0], job[1], args), jobs):
            print(line, flush=True)
            failed += "FAILED" in line
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
