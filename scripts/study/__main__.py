"""The study: which loss finds more lesions in nnU-Net under equal conditions.

    python -m scripts.study queue WORK ROW [ROW ...] [--trainers ...] [--seeds ...] [--first]
    python -m scripts.study work WORK [--jobs 1] [--background]
    python -m scripts.study status WORK
    python -m scripts.study stop WORK
    python -m scripts.study report

``queue`` adds the runs of one or several rows of the study (see sets.py) to WORK/queue.txt, seed by seed. ``work``
prepares the datasets, and trains, predicts and measures one run after another. A stopped run resumes from its last
checkpoint with the next call. The results are written to results/DATA/MACHINE/TRAINER_seedN.json. ``report`` writes
docs/results.md and its figures from these results. The environment variable STUDY_DATA sets the folder of the data
(default: ../shared/data).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.study.job_queue import Queue, add_to_queue, start, stop
from scripts.study.sets import ROOT, ROWS, jobs_of
from scripts.study.stored_runs import RESULTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    queue = commands.add_parser("queue", help="add runs to the queue")
    work = commands.add_parser("work", help="process the queue")
    status = commands.add_parser("status", help="show the finished, started and waiting runs")
    stopping = commands.add_parser("stop", help="stop the process in the background")
    for command in (queue, work, status, stopping):
        command.add_argument("work", type=Path, metavar="WORK", help="working folder, outside of the repository")
    queue.add_argument("rows", nargs="+", choices=sorted(ROWS), metavar="ROW", help=f"one of {', '.join(ROWS)}")
    queue.add_argument("--trainers", nargs="+", help="only these trainers of the rows")
    queue.add_argument("--seeds", nargs="+", type=int, help="only these seeds of the rows")
    queue.add_argument("--first", action="store_true", help="add the runs to the front of the queue")
    for command in (work, status):
        command.add_argument("--threads", type=int, default=1, help="number of CPU threads of each run")
        command.add_argument(
            "--results", type=Path, default=RESULTS, help="results folder (default: in the repository)"
        )
    work.add_argument("--jobs", type=int, default=1, help="number of runs at a time")
    work.add_argument("--background", action="store_true", help="return immediately; see status and stop")
    commands.add_parser("report", help="write docs/results.md from the results")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of the study.

    Returns:
        0, or 1 if a run failed.
    """
    args = _parser().parse_args(argv)
    if args.command == "report":
        from scripts.study.report import write_report

        write_report(RESULTS, ROOT / "docs")
        return 0
    folder = args.work.resolve()
    if args.command == "queue":
        jobs = [
            (data, trainer, seed)
            for data, trainer, seed in jobs_of([ROWS[name] for name in args.rows])
            if trainer in (args.trainers or [trainer]) and seed in (args.seeds or [seed])
        ]
        print(f"{folder / 'queue.txt'}: {len(add_to_queue(folder, jobs, args.first))} runs")
        return 0
    if args.command == "stop":
        pid = stop(folder)
        print(f"stopped {pid}" if pid else "nothing to stop")
        return 0
    if args.command == "work" and args.background:
        options = ["--jobs", str(args.jobs), "--threads", str(args.threads), "--results", str(args.results.resolve())]
        print(f"process {start(folder, options)}; see {folder / 'queue.log'}")
        return 0

    import torch

    from scripts.study.machine import describe_machine

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = describe_machine(device, args.threads)["id"]
    queue = Queue(folder, machine, args.results.resolve(), args.threads)
    if args.command == "status":
        print(queue.status())
        return 0
    return 0 if queue.work_off(args.jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
