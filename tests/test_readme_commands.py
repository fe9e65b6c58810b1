"""The README's commands to train, predict and compare, pasted as they stand, on a smaller copy of the demo's data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

from tests import tiny_nnunet
from tests.conftest import ROOT
from tests.test_docs import blocks

pytestmark = pytest.mark.slow

# Replaces the demo: smaller and shorter, with the same names.
DEMO = """
nnunet_ici synth-atlas demo/atlas -n 10 --test 2 --seed 0 --spacing 6
nnunet_ici convert-atlas demo/atlas -d 100
nnUNetv2_plan_and_preprocess -d 100 -c 3d_fullres -npfp 1 -np 1
python {root}/scripts/study/small_plans.py 100 3d_fullres --patch-size 16 16 16 --features 4 8 16
"""


def bash(script: str, folder: Path) -> None:
    """Run a script as a user pastes it."""
    variables = tiny_nnunet.environment(folder / "demo")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_train_predict_and_compare(tmp_path):
    for name in tiny_nnunet.FOLDERS:
        (tmp_path / "demo" / name).mkdir(parents=True)
    bash(DEMO.format(root=ROOT), tmp_path)
    (pasted,) = (block for block in blocks(ROOT / "README.md", "bash") if "nnUNetv2_train" in block)
    assert pasted.count("_5epochs") == 2
    bash(pasted.replace("_5epochs", "_1epoch"), tmp_path)

    (chosen,) = (tmp_path / "demo" / "nnUNet_results").rglob("threshold.json")
    assert 0 < json.loads(chosen.read_text())["thresholds"]["lesion"] < 1
    (tables,) = (tmp_path / "demo" / "nnUNet_results").glob("*/compare_3d_fullres/tables.md")
    assert "nnUNetTrainerPQ_1epoch" in tables.read_text()
    predictions = sorted((tmp_path / "predictions").glob("*.nii.gz"))
    images = sorted((tmp_path / "demo/nnUNet_raw/Dataset100_ATLAS/imagesTs").glob("*.nii.gz"))
    assert [p.name for p in predictions] == [i.name.replace("_0000", "") for i in images] and len(images) == 2
    for prediction, image in zip(predictions, images, strict=True):
        assert sitk.ReadImage(str(prediction)).GetSize() == sitk.ReadImage(str(image)).GetSize()
