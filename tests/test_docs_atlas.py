"""Every command of docs/atlas.md, run on synthetic releases with a tiny network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_ici.datasets.synth_atlas import synthesize_atlas
from scripts.study.small_plans import shrink
from tests.conftest import ROOT
from tests.tiny_nnunet import environment

PAGE = ROOT / "docs" / "atlas.md"
# Replacements that make the page's commands small; nothing else is changed.
SMALLER = {
    "~/": "$HOME/",
    "nnUNetTrainerICI": "nnUNetTrainerICI_1epoch",
    "-tr nnUNetTrainer ": "-tr nnUNetTrainer_1epoch ",
    "nnU-Net=nnUNetTrainer ": "nnU-Net=nnUNetTrainer_1epoch ",
    "trainer in nnUNetTrainer ": "trainer in nnUNetTrainer_1epoch ",
    "predictions/nnUNetTrainer ": "predictions/nnUNetTrainer_1epoch ",
    "0 1 2 3 4": "0 1",
    " --npz": " --npz -device cpu",
    " --save_probabilities": " --save_probabilities -device cpu --disable_tta -npp 1 -nps 1",
    " --verify_dataset_integrity": " --verify_dataset_integrity -npfp 1 -np 1",
    "--save_npz": "--save_npz -np 1",
}


def blocks():
    return re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_what_is_made_smaller_is_in_the_page():
    text = "".join(blocks())
    assert all(original in text for original in SMALLER)
    commands = set(re.findall(r"^ *(nnUNetv2_\w+|nnunet_ici \S+)", text, re.MULTILINE))
    assert commands == {
        "nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict", "nnUNetv2_ensemble",
        "nnunet_ici convert-atlas", "nnunet_ici compare", "nnunet_ici evaluate", "nnunet_ici report", "nnunet_ici tune",
        "nnunet_ici postprocess",
    }  # fmt: skip


def run(home: Path, script: str) -> None:
    """Run a part of the page in a shell that stops at the first error."""
    for original, smaller in SMALLER.items():
        script = script.replace(original, smaller)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=home,
        env={**os.environ, **environment(home), "HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}"


def shrink_plans(folder: Path) -> None:
    """Overwrite nnU-Net's plans with those of a tiny network."""
    path = folder / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    path.write_text(json.dumps(shrink(plans, "3d_fullres", [16, 16, 16], [4, 8, 16], batch_size=2, name="nnUNetPlans")))


@pytest.mark.slow
def test_the_commands_of_the_page_run_from_the_top_to_the_end(tmp_path):
    data = tmp_path / "data"
    synthesize_atlas(data / "ATLAS_2", training=8, testing=2, spacing_mm=8, processes=1)
    synthesize_atlas(data / "R3.0", training=12, testing=0, spacing_mm=8, processes=1, release="3.0")
    (data / "R3.0" / "ATLAS3_Training_Raw").rename(data / "ATLAS3_Training_Raw")
    setup, convert, *middle, native = blocks()
    run(tmp_path, setup + convert)
    preprocessed = tmp_path / "nnUNet" / "preprocessed"
    assert len(json.loads((preprocessed / "Dataset100_ATLAS" / "splits_final.json").read_text())) == 5
    shrink_plans(preprocessed / "Dataset100_ATLAS")
    run(tmp_path, setup + "".join(middle))
    raw = tmp_path / "nnUNet" / "raw"
    test_cases = {path.name.replace("_0000", "") for path in (raw / "Dataset100_ATLAS" / "imagesTs").iterdir()}
    assert {path.name for path in (tmp_path / "predictions" / "final").glob("*.nii.gz")} == test_cases
    assert len(test_cases) == 2 and (tmp_path / "evaluation" / "report.html").stat().st_size > 10_000
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert list(summary["models"]) == ["nnU-Net", "ICI", "ensemble"]
    assert all((tmp_path / f"{name}_rule.json").is_file() for name in ("ensemble", "ici"))

    run(tmp_path, setup + native)
    dataset = json.loads((raw / "Dataset101_ATLAS" / "dataset.json").read_text())
    assert dataset["overwrite_image_reader_writer"] == "NibabelIOWithReorient" and dataset["release"] == "R3.0"
    assert "Testing" in (raw / "Dataset101_ATLAS" / "excluded.csv").read_text()
    assert (preprocessed / "Dataset101_ATLAS" / "nnUNetPlans.json").is_file()
