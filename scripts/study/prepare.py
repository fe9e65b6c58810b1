"""Prepare a dataset of the study: raw data, nnU-Net's planning and preprocessing, and the small plans."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.study.sets import ROOT, Data
from scripts.study.small_plans import SOURCE, shrink


def environment(work: Path, run: str | None = None) -> dict[str, str]:
    """The environment variables for nnU-Net.

    Args:
        work: working folder of the study.
        run: name of the results folder of a run; None for planning.
    """
    results = work / "training" / (run or "none")
    folders = {"nnUNet_raw": work / "raw", "nnUNet_preprocessed": work / "preprocessed", "nnUNet_results": results}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "GOMP_SPINCOUNT": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
        "nnUNet_n_proc_DA": "1" if run is None else "0",  # planning needs at least 1
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **{name: str(folder) for name, folder in folders.items()}, **settings}


def plans_name(data_name: str) -> str:
    """The name of the small plans for a dataset of the study."""
    return f"nnUNetPlans_{data_name}"


def prepare(name: str, data: Data, work: Path) -> None:
    """Do the missing steps for a dataset of the study. Each step is done once.

    Args:
        name: key of the dataset.
        data: description of the dataset.
        work: working folder of the study.
    """
    environ = environment(work)
    number = data.dataset[7:10]
    raw = work / "raw" / data.dataset
    if not raw.is_dir():
        if data.dataset.endswith("Nuclei"):
            copy_part(data.source, raw, data.train, data.test)
        elif data.dataset.endswith("Implants"):
            script = [sys.executable, "-m", "scripts.study.implants", data.source, work / "raw", "-d", number]
            _call([*script, "-n", data.train, "--test", data.test, "--seed", 0, "-np", 1], environ)
        else:
            _prepare_atlas(raw, work, data, environ)
    preprocessed = work / "preprocessed" / data.dataset
    plans = preprocessed / f"{SOURCE}.json"
    configuration = data.configuration
    if not plans.is_file() or not (preprocessed / f"{SOURCE}_{configuration}").is_dir():
        command = ["nnUNetv2_plan_and_preprocess", "-d", number, "-c", configuration, "-npfp", 1, "-np", 1]
        _call(command, environ)
    if (raw / "splits_final.json").is_file():
        shutil.copyfile(raw / "splits_final.json", preprocessed / "splits_final.json")
    small = preprocessed / f"{plans_name(name)}.json"
    shape = (data.patch_size, data.features, data.batch_size)
    content = json.dumps(shrink(json.loads(plans.read_text()), configuration, *shape, plans_name(name)), indent=4)
    if not small.is_file() or small.read_text() != content:
        small.write_text(content)


def copy_part(source: Path, target: Path, train: int, test: int) -> None:
    """Copy the first images of a dataset in nnU-Net raw format."""
    dataset = json.loads((source / "dataset.json").read_text())
    for part, count in (("Tr", train), ("Ts", test)):
        for kind in ("images", "labels"):
            (target / f"{kind}{part}").mkdir(parents=True)
            for path in sorted((source / f"{kind}{part}").iterdir())[:count]:
                shutil.copyfile(path, target / f"{kind}{part}" / path.name)
    dataset["numTraining"] = len(list((target / "labelsTr").iterdir()))
    (target / "dataset.json").write_text(json.dumps(dataset))


def _prepare_atlas(raw: Path, work: Path, data: Data, environ: dict[str, str]) -> None:
    """Create a synthetic ATLAS dataset. Its last subjects become test cases with labels."""
    source, subjects = work / raw.name, data.train + data.test
    if not source.is_dir():
        command = ["nnunet_ici", "synth-atlas", source, "-n", subjects, "--test", 1, "--seed", 0]
        _call([*command, "--spacing", data.spacing_mm, "-np", 1], environ)
    _call(["nnunet_ici", "convert-atlas", source, "-d", data.dataset[7:10]], environ)
    made = next(raw.parent.glob(f"{data.dataset[:10]}_*"))
    shutil.rmtree(made / "imagesTs")
    for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (made / f"{kind}Ts").mkdir()
        for path in sorted((made / f"{kind}Tr").glob(f"*{ending}"))[data.train :]:
            path.rename(made / f"{kind}Ts" / path.name)
    dataset = json.loads((made / "dataset.json").read_text())
    dataset["numTraining"] = data.train
    (made / "dataset.json").write_text(json.dumps(dataset))


def _call(command: Sequence[object], environ: dict[str, str]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"  # the commands of this environment first
    subprocess.run([str(part) for part in command], env={**environ, "PATH": path}, cwd=ROOT, check=True)
