"""``nnUNetv2_predict -chk checkpoint_tuned.pth`` against the threshold on the probabilities of the stock command."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ici.cli import main
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.postprocessing.checkpoints import FINAL, TUNED, write_tuned
from tests import tiny_nnunet
from tests.test_checkpoints import assert_cut_at

pytestmark = pytest.mark.slow

REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [1]}, "regions_class_order": [2, 1]}


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory):
    root = tmp_path_factory.mktemp("tuned")
    tiny_nnunet.make_raw(root)
    tiny_nnunet.run(root, "nnUNetv2_plan_and_preprocess", "-d", 901, "-c", "2d", "3d_fullres", "-npfp", 1, "-np", 1, 1)
    return root


@pytest.fixture
def train(nnunet, monkeypatch):
    """Trains two folds briefly with nnU-Net's own trainer, and writes their validation probabilities."""
    for name, value in tiny_nnunet.environment(nnunet).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    shutil.rmtree(nnunet / "nnUNet_results" / tiny_nnunet.NAME, ignore_errors=True)

    def init(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):  # noqa: B008
        nnUNetTrainer.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 15, 1

    quick = type("nnUNetTrainer", (nnUNetTrainer,), {"__init__": init})

    def trained(configuration, **dataset):
        tiny_nnunet.shrink_plans(nnunet, configuration, [16] * (2 if configuration == "2d" else 3))
        folder = nnunet / "nnUNet_preprocessed" / tiny_nnunet.NAME
        plans = json.loads((folder / "nnUNetPlans_small.json").read_text()) | {"continue_training": False}
        dataset_json = json.loads((folder / "dataset.json").read_text()) | dataset
        for fold in (0, 1):
            trainer = quick(dict(plans), configuration, fold, dataset_json, torch.device("cpu"))
            trainer.run_training()
            trainer.perform_actual_validation(save_probabilities=True)
        return nnunet / "nnUNet_results" / tiny_nnunet.NAME / f"nnUNetTrainer__nnUNetPlans_small__{configuration}"

    return trained


def predict(root, configuration, checkpoint, out, *extra):
    images = root / "nnUNet_raw" / tiny_nnunet.NAME / "imagesTs"
    tiny_nnunet.run(
        root, "nnUNetv2_predict", "-d", 901, "-i", images, "-o", root / out, "-tr", "nnUNetTrainer",
        "-p", "nnUNetPlans_small", "-c", configuration, "-f", 0, 1, "-chk", checkpoint,
        "-device", "cpu", "-npp", 1, "-nps", 1, *extra,
    )  # fmt: skip
    return root / out


def label_maps(folder):
    return {path.name[:-7]: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in folder.glob("*.nii.gz")}


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_stock_command_cuts_at_the_threshold(nnunet, train, configuration, tmp_path):
    trainer = train(configuration)
    stock = predict(nnunet, configuration, FINAL, f"stock_{configuration}", "--save_probabilities")
    probabilities = {path.stem: np.load(path)["probabilities"][1] for path in stock.glob("*.npz")}
    threshold = round(float(np.quantile(np.concatenate([p.ravel() for p in probabilities.values()]), 0.8)), 3)
    gt = nnunet / "nnUNet_raw" / tiny_nnunet.NAME / "labelsTr"
    folds = [str(trainer / f"fold_{fold}" / "validation") for fold in (0, 1)]
    arguments = ["-gt", str(gt), "-prob", *folds, "-o", str(tmp_path / "rule.json"), "--k", "2", "-np", "1"]
    arguments += ["--volumes-mm3", "0", "--thresholds", str(threshold)]
    assert main(["tune", *arguments, "--force", "--checkpoint"]) == 0
    tuned = predict(nnunet, configuration, TUNED, f"tuned_{configuration}")
    masks = label_maps(tuned)
    assert sorted(masks) == sorted(probabilities) and len(masks) == 2
    assert_cut_at([masks[name] == 1 for name in masks], [probabilities[name] for name in masks], threshold)

    # the same from an export, in another nnU-Net
    if configuration == "2d":
        crossval = nnunet / "model.zip"
        tiny_nnunet.run(
            nnunet, "nnUNetv2_export_model_to_zip", "-d", 901, "-o", crossval, "-c", "2d", "-tr", "nnUNetTrainer",
            "-p", "nnUNetPlans_small", "-f", 0, 1, "-chk", TUNED,
        )  # fmt: skip
        shutil.rmtree(nnunet / "nnUNet_results" / tiny_nnunet.NAME)
        tiny_nnunet.run(nnunet, "nnUNetv2_install_pretrained_model_from_zip", crossval)
        again = label_maps(predict(nnunet, "2d", TUNED, "exported"))
        for name, mask in masks.items():
            np.testing.assert_array_equal(again[name], mask)


def test_each_region_is_cut_at_its_own_threshold(nnunet, train):
    trainer = train("3d_fullres", **REGIONS)
    stock = predict(nnunet, "3d_fullres", FINAL, "stock_regions", "--save_probabilities")
    probabilities = {path.stem: np.load(path)["probabilities"] for path in stock.glob("*.npz")}
    every = np.concatenate([p.reshape(2, -1) for p in probabilities.values()], axis=1)
    thresholds = [float(np.quantile(channel, share)) for channel, share in zip(every, (0.7, 0.9), strict=True)]
    shifts = [-math.log(t / (1 - t)) for t in thresholds]
    write_tuned([trainer / f"fold_{fold}" / FINAL for fold in (0, 1)], shifts, {})
    tuned = predict(nnunet, "3d_fullres", TUNED, "tuned_regions", "--save_probabilities")
    masks = {path.stem: np.load(path)["probabilities"] > 0.5 for path in tuned.glob("*.npz")}
    for channel, threshold in enumerate(thresholds):
        assert_cut_at([masks[n][channel] for n in masks], [probabilities[n][channel] for n in masks], threshold)
    for name, mask in masks.items():  # and the label map is written from these
        written = read_label_map(tuned / f"{name}.nii.gz").array
        np.testing.assert_array_equal(written, np.where(mask[1], 1, np.where(mask[0], 2, 0)))
