"""A data set of the study, once: raw data, nnU-Net's planning and preprocessing, and the small plans."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.study.sets import ROOT, Data


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
            script = [sys.executable, "-m", "scripts.study.implants", source, work / "raw", "-d", number]
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
    small = [sys.executable, "scripts/study/small_plans.py", number, configuration, "--batch-size", data.batch_size]
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


def _call(command: Sequence[object], environ: dict[str, str]) -> None:
    subprocess.run([str(part) for part in command], env=environ, cwd=ROOT, check=True)
