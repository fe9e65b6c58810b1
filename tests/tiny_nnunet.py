"""A dataset small enough for nnU-Net on two cores, and nnU-Net's commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scripts.study.small_plans import TARGET, shrink

NAME = "Dataset901_Tiny"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def environment(root: Path) -> dict[str, str]:
    """The environment variables of an nnU-Net under root, with few processes."""
    folders = {name: str(root / name) for name in FOLDERS}
    return folders | {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}


def run(root: Path, command: str, *arguments: object, **variables: str) -> str:
    """Run one of the installed commands, with more environment variables if given; its output. Raises, with the output,
    where it fails."""
    program = Path(sys.executable).parent / command
    result = subprocess.run(
        [str(program), *map(str, arguments)],
        env={**os.environ, **environment(root), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, f"{command} {arguments}\n{result.stdout[-4000:]}"
    return result.stdout


def make_raw(root: Path, cases: int = 10, shape: tuple[int, ...] = (24, 28, 32), seed: int = 0) -> Path:
    """Noise with two to five bright balls each, and their masks, as nnU-Net raw data; the last two for testing."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    folder = root / "nnUNet_raw" / NAME
    rng = np.random.default_rng(seed)
    for kind in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / kind).mkdir(parents=True)
    grid = np.indices(shape)
    for case in range(cases):
        label = np.zeros(shape, np.uint8)
        for _ in range(rng.integers(2, 6)):
            center = np.array([rng.integers(3, n - 3) for n in shape]).reshape(-1, *[1] * len(shape))
            label[((grid - center) ** 2).sum(0) <= rng.uniform(1, 4) ** 2] = 1
        image = rng.normal(size=shape).astype(np.float32) + 3 * label
        part = "Ts" if case >= cases - 2 else "Tr"
        for array, path in (
            (image, folder / f"images{part}" / f"case_{case:02d}_0000.nii.gz"),
            (label, folder / f"labels{part}" / f"case_{case:02d}.nii.gz"),
        ):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    dataset = {
        "channel_names": {"0": "noise"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": cases - 2,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def plan(root: Path, configuration: str, patch_size: list[int]) -> None:
    """Plan and preprocess with nnU-Net, then shrink the plans of one configuration."""
    run(root, "nnUNetv2_plan_and_preprocess", "-d", 901, "-c", configuration, "-npfp", 1, "-np", 1)
    shrink_plans(root, configuration, patch_size)


def shrink_plans(root: Path, configuration: str, patch_size: list[int]) -> None:
    """Write the small plans of one configuration."""
    folder = root / "nnUNet_preprocessed" / NAME
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    shrunk = shrink(plans, configuration, patch_size, [4, 8, 16], batch_size=2)
    (folder / f"{TARGET}.json").write_text(json.dumps(shrunk))
