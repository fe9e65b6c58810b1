"""The evidence study: which loss finds more lesions, in nnU-Net, under equal conditions.

    python scripts/study.py run nuclei WORK [--source FOLDER] [--set main] [--seeds 0 1 2] [--epochs N] ...
    python scripts/study.py run implants WORK --source MASKS ...
    python scripts/study.py report

``run`` prepares the data set (once), and then trains, predicts and measures each trainer and seed in a process of its
own, seed by seed; a run that is done is not done again, one that was stopped goes on with the next call. What is
measured goes to results/DATA/TRAINER_seedN.json. ``report`` makes docs/RESULTS.md and its figures from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.study_results import RESULTS, compress, write_run  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"
SETS = {
    "reduced": ("nnUNetTrainer", "nnUNetTrainerDual", "nnUNetTrainerICI"),
    "main": (
        "nnUNetTrainer",
        "nnUNetTrainerDual",
        "nnUNetTrainerICI",
        "nnUNetTrainerDICI",
        "nnUNetTrainerBlob",
        "nnUNetTrainerCCDiceCE",
    ),
    "rivals": (
        "nnUNetTrainerRRW",
        "nnUNetTrainerDBCE",
        "nnUNetTrainerICI_g0p25_i0p5_c0p25",
        "nnUNetTrainerICI_tau0p5",
        "nnUNetTrainerDual_tau0p5",
        "nnUNetTrainerPublishedICI",
    ),
    # What the defaults are to be set by: weights whose sum is that of Dice + CE, ranges of tau, sizes, scales.
    "defaults": (
        "nnUNetTrainerICI_g0p333_i0p333_c0p333",
        "nnUNetTrainerDual_g0p333_i0p333_p0p333",
        "nnUNetTrainerICITau3to7",
        "nnUNetTrainerDualTau3to7",
        "nnUNetTrainerICI_size3",
        "nnUNetTrainerICI_size5",
        "nnUNetTrainerICI_size11",
        "nnUNetTrainerICI_finest",
        "nnUNetTrainerDual_finest",
    ),
}


@dataclass(frozen=True)
class Data:
    """A data set of the study, and the plan for it.

    Attributes:
        dataset: its name in nnU-Net.
        configuration: of nnU-Net.
        source: where its files come from.
        patch_size, features, batch_size: of the small plans.
    """

    dataset: str
    configuration: str
    source: Path
    patch_size: tuple[int, ...]
    features: tuple[int, ...]
    batch_size: int


DATA = {
    "nuclei": Data("Dataset200_Nuclei", "2d", SHARED / "nuclei", (64, 64), (8, 16, 32), 4),
    "implants2d": Data("Dataset300_Implants", "2d", SHARED / "ms-lesions" / "masks", (64, 64), (8, 16, 32), 4),
    "implants": Data(
        "Dataset300_Implants", "3d_fullres", SHARED / "ms-lesions" / "masks", (48, 48, 48), (8, 16, 32), 2
    ),
    "atlas": Data("Dataset100_ATLAS", "3d_fullres", Path(), (48, 48, 48), (8, 16, 32), 2),
}


def environment(work: Path, seed: int | None = None) -> dict[str, str]:
    """nnU-Net's folders and settings; each seed has a folder of results of its own."""
    results = work / "results" / ("none" if seed is None else f"seed{seed}")
    folders = {"nnUNet_raw": work / "raw", "nnUNet_preprocessed": work / "preprocessed", "nnUNet_results": results}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "GOMP_SPINCOUNT": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
        "nnUNet_n_proc_DA": "1" if seed is None else "0",  # its planning cannot do with 0
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **{name: str(folder) for name, folder in folders.items()}, **settings}


def prepare(data: Data, source: Path, work: Path, train: int, test: int, seed: int) -> None:
    """Raw data, nnU-Net's planning and preprocessing, and the small plans; each step is done once."""
    environ = environment(work)
    number = data.dataset[7:10]
    raw = work / "raw" / data.dataset
    if not raw.is_dir():
        if data.dataset.endswith("Nuclei"):
            copy_part(source, raw, train, test)
        elif data.dataset.endswith("Implants"):
            script = [sys.executable, "scripts/implant_lesions.py", source, work / "raw", "-d", number]
            _call([*script, "-n", train, "--test", test, "--seed", seed, "-np", "1"], environ)
        else:
            _prepare_atlas(work, train, test, seed, environ)
    preprocessed = work / "preprocessed" / data.dataset
    plans = preprocessed / "nnUNetPlans.json"
    configuration = data.configuration
    done = preprocessed / f"nnUNetPlans_{configuration}"
    if not plans.is_file() or not done.is_dir():
        command = ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", configuration, "-npfp", "1", "-np", "1"]
        _call(command, environ)
    if (raw / "splits_final.json").is_file():
        shutil.copyfile(raw / "splits_final.json", preprocessed / "splits_final.json")
    small = [sys.executable, "scripts/small_plans.py", number, configuration, "--batch-size", data.batch_size]
    _call([*small, "--patch-size", *data.patch_size, "--features", *data.features], environ)


def copy_part(source: Path, target: Path, train: int, test: int) -> None:
    """The first images of a data set in nnU-Net raw form."""
    dataset = json.loads((source / "dataset.json").read_text())
    for part, count in (("Tr", train), ("Ts", test)):
        for kind in ("images", "labels"):
            (target / f"{kind}{part}").mkdir(parents=True)
            for path in sorted((source / f"{kind}{part}").iterdir())[:count]:
                shutil.copyfile(path, target / f"{kind}{part}" / path.name)
    dataset["numTraining"] = len(list((target / "labelsTr").iterdir()))
    (target / "dataset.json").write_text(json.dumps(dataset))


def _prepare_atlas(work: Path, train: int, test: int, seed: int, environ: dict[str, str]) -> None:
    """A synthetic ATLAS, whose last subjects become test cases with labels."""
    command = ["nnunet_ici", "synth-atlas", work / "atlas", "-n", train + test, "--test", 1, "--seed", seed]
    _call([*command, "--spacing", 2, "-np", 1], environ)
    _call(["nnunet_ici", "convert-atlas", work / "atlas", "-d", "100"], environ)
    raw = work / "raw" / "Dataset100_ATLAS"
    shutil.rmtree(raw / "imagesTs")
    for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (raw / f"{kind}Ts").mkdir()
        for path in sorted((raw / f"{kind}Tr").glob(f"*{ending}"))[train:]:
            path.rename(raw / f"{kind}Ts" / path.name)
    dataset = json.loads((raw / "dataset.json").read_text())
    dataset["numTraining"] = train
    (raw / "dataset.json").write_text(json.dumps(dataset))


def _call(command: list[object], environ: dict[str, str]) -> None:
    subprocess.run([str(part) for part in command], env=environ, cwd=ROOT, check=True)


def run_one(name: str, data: Data, trainer: str, seed: int, args: argparse.Namespace) -> str:
    """Train, predict and measure, unless that is done; a sentence on how it went."""
    work = args.work.resolve()
    full = work / "runs" / name / f"{trainer}_seed{seed}.json"
    if not full.is_file():
        command = [sys.executable, "-m", "scripts.study_run", data.dataset, data.configuration, trainer, seed, full]
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
        from scripts.study_report import write_report

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
        for line in pool.map(lambda job: run_one(args.data, data, *job, args), jobs):
            print(line, flush=True)
            failed += "FAILED" in line
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
