"""``nnUNetv2_predict -chk checkpoint_tuned.pth`` against the threshold on the probabilities of the stock command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_ici.cli import main
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.postprocessing.checkpoints import write_tuned
from nnunet_ici.postprocessing.network import BEST, FINAL, THRESHOLD_FILE, TUNED, fingerprint
from nnunet_ici.trainers import final_validation, nnUNetTrainerICI
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
def make_trainer(nnunet, monkeypatch):
    """Makes a trainer of three short epochs in this process, whose validation uses one worker process."""
    for name, value in tiny_nnunet.environment(nnunet).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.default_num_processes", 1)
    shutil.rmtree(nnunet / "nnUNet_results" / tiny_nnunet.NAME, ignore_errors=True)

    def init(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):  # noqa: B008
        nnUNetTrainerICI.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 15, 1

    quick = type("nnUNetTrainerICI", (nnUNetTrainerICI,), {"__init__": init})

    def make(configuration, fold, **dataset):
        tiny_nnunet.shrink_plans(nnunet, configuration, [16] * (2 if configuration == "2d" else 3))
        folder = nnunet / "nnUNet_preprocessed" / tiny_nnunet.NAME
        plans = json.loads((folder / "nnUNetPlans_small.json").read_text()) | {"continue_training": False}
        dataset_json = json.loads((folder / "dataset.json").read_text()) | dataset
        return quick(plans, configuration, fold, dataset_json, torch.device("cpu"))

    return make


@pytest.fixture
def train(make_trainer):
    """Trains two folds, as nnUNetv2_train --npz; the folder of the trainer."""

    def trained(configuration, **dataset):
        for fold in (0, 1):
            trainer = make_trainer(configuration, fold, **dataset)
            trainer.run_training()
            trainer.perform_actual_validation(save_probabilities=True)
        return Path(trainer.output_folder_base)

    return trained


def log_of(fold):
    return "".join(path.read_text() for path in sorted(fold.glob("training_log_*")))


def tune(nnunet, folders, out, *extra):
    labels = nnunet / "nnUNet_raw" / tiny_nnunet.NAME / "labelsTr"
    arguments = ["-gt", labels, "-prob", *folders, "-o", out, "--k", 2, "-np", 1, "--volumes-mm3", 0, *extra]
    arguments += ["--dataset-json", folders[0].parents[1] / "dataset.json"]
    assert main(["tune", *map(str, arguments)]) == 0
    return json.loads(out.read_text())


def predict(root, configuration, checkpoint, out, *extra):
    images = root / "nnUNet_raw" / tiny_nnunet.NAME / "imagesTs"
    tiny_nnunet.run(
        root, "nnUNetv2_predict", "-d", 901, "-i", images, "-o", root / out, "-tr", "nnUNetTrainerICI",
        "-p", "nnUNetPlans_small", "-c", configuration, "-f", 0, 1, "-chk", checkpoint,
        "-device", "cpu", "-npp", 1, "-nps", 1, *extra,
    )  # fmt: skip
    return root / out


def label_maps(folder):
    return {path.name[:-7]: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in folder.glob("*.nii.gz")}


def assert_chosen_as_by_tune(nnunet, validation, tmp_path):
    """The final validation of a fold chose what tune chooses on the probabilities of --npz, and wrote no more."""
    fold = validation.parent
    chosen = json.loads((fold / THRESHOLD_FILE).read_text())
    record = torch.load(fold / TUNED, weights_only=False)["nnunet_ici_tuned"]
    assert record["thresholds"] == chosen["thresholds"] and record["rule"] == chosen["rule"]
    assert chosen["network"] == {fold.name: {"checkpoint": FINAL, "fingerprint": fingerprint(fold / FINAL)}}
    rule = tune(nnunet, [validation], tmp_path / "fold.json")
    assert rule["scores"] == chosen["scores"]
    assert rule["rule"] == chosen["rule"]
    assert not list(fold.glob(".*")) and sorted(path.suffix for path in validation.iterdir()) == [
        ".gz", ".gz", ".json", ".npz", ".npz", ".pkl", ".pkl"
    ]  # fmt: skip
    log = log_of(fold)
    for name in rule["scores"]:
        prefix = f"{name}, " if len(rule["scores"]) > 1 else ""
        assert f": {prefix}at 0.5: lesion-wise Dice " in log
        assert f": {prefix}no gain out of fold (" in log or f": {prefix}at {chosen['thresholds'][name]:.6g}, out" in log
    configuration = fold.parent.name.split("__")[-1]
    command = f"-c {configuration} -f 0 -tr nnUNetTrainerICI -p nnUNetPlans_small -i IMAGES -o PREDICTIONS -device cpu"
    assert log.strip().endswith(f"nnUNetv2_predict -d {tiny_nnunet.NAME} {command} -chk {TUNED}")


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_stock_command_cuts_at_the_threshold(nnunet, train, configuration, tmp_path):
    trainer = train(configuration)
    stock = predict(nnunet, configuration, FINAL, f"stock_{configuration}", "--save_probabilities")
    probabilities = {path.stem: np.load(path)["probabilities"][1] for path in stock.glob("*.npz")}
    threshold = round(float(np.quantile(np.concatenate([p.ravel() for p in probabilities.values()]), 0.8)), 3)
    folds = [trainer / f"fold_{fold}" / "validation" for fold in (0, 1)]
    assert_chosen_as_by_tune(nnunet, folds[0], tmp_path)
    tune(nnunet, folds, tmp_path / "rule.json", "--thresholds", threshold, "--force", "--checkpoint")
    for fold in folds:  # one threshold for both, which replaces their own
        assert json.loads((fold.parent / THRESHOLD_FILE).read_text())["thresholds"] == {"ball": threshold}
    tuned = predict(nnunet, configuration, TUNED, f"tuned_{configuration}")
    masks = label_maps(tuned)
    assert sorted(masks) == sorted(probabilities) and len(masks) == 2
    assert_cut_at([masks[name] == 1 for name in masks], [probabilities[name] for name in masks], threshold)

    # the same from an export, in another nnU-Net
    if configuration == "2d":
        crossval = nnunet / "model.zip"
        tiny_nnunet.run(
            nnunet, "nnUNetv2_export_model_to_zip", "-d", 901, "-o", crossval, "-c", "2d", "-tr", "nnUNetTrainerICI",
            "-p", "nnUNetPlans_small", "-f", 0, 1, "-chk", TUNED,
        )  # fmt: skip
        shutil.rmtree(nnunet / "nnUNet_results" / tiny_nnunet.NAME)
        tiny_nnunet.run(nnunet, "nnUNetv2_install_pretrained_model_from_zip", crossval)
        again = label_maps(predict(nnunet, "2d", TUNED, "exported"))
        for name, mask in masks.items():
            np.testing.assert_array_equal(again[name], mask)


def test_each_region_is_cut_at_its_own_threshold(nnunet, train, tmp_path):
    trainer = train("3d_fullres", **REGIONS)
    assert_chosen_as_by_tune(nnunet, trainer / "fold_0" / "validation", tmp_path)
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


def test_validations_without_files_with_failures_and_of_other_networks(make_trainer, monkeypatch):
    trainer = make_trainer("2d", 0)
    trainer.run_training()
    fold = Path(trainer.output_folder)
    trainer.perform_actual_validation()
    first = json.loads((fold / THRESHOLD_FILE).read_text())
    assert {path.suffix for path in (fold / "validation").iterdir()} == {".gz", ".json"}

    # --val_best
    again = make_trainer("2d", 0)
    again.load_checkpoint(str(fold / BEST))
    again.perform_actual_validation()
    best = json.loads((fold / THRESHOLD_FILE).read_text())["network"]["fold_0"]
    assert best == {"checkpoint": BEST, "fingerprint": fingerprint(fold / BEST)}
    pair = [torch.load(fold / name, weights_only=False)["network_weights"] for name in (BEST, TUNED)]
    assert all(torch.equal(value, pair[1][key]) for key, value in pair[0].items() if "seg_layers" not in key)

    # --val, in which the choice or one of its cases fails: one warning, and the validation is complete
    last = make_trainer("2d", 0)
    last.load_checkpoint(str(fold / FINAL))
    with monkeypatch.context() as patch:
        patch.setattr(final_validation, "choose", lambda *_: 1 / 0)
        last.perform_actual_validation()
    log = log_of(fold)
    assert "WARNING: no threshold was chosen (ZeroDivisionError: division by zero)" in log
    assert log.count("WARNING") == 1 and log.count("Mean Validation Dice") == 3 and not (fold / ".threshold").exists()
    last.perform_actual_validation()
    assert json.loads((fold / THRESHOLD_FILE).read_text())["thresholds"] == first["thresholds"]

    # trained again
    torch.manual_seed(5)
    retrained = make_trainer("2d", 0)
    retrained.num_epochs = 1
    retrained.run_training()
    assert "belongs to an earlier network" not in log_of(fold)
    with monkeypatch.context() as patch:
        patch.setattr(final_validation.Holding, "cases", lambda *_: 1 / 0)
        retrained.perform_actual_validation()
    assert f"; {fold / TUNED} belongs to an earlier network. Expected: that of {FINAL}" in log_of(fold)
    make_trainer("2d", 0).on_train_start()
    assert log_of(fold).count("belongs to an earlier network") == 2


def test_without_held_out_cases_no_threshold_is_chosen(make_trainer):
    trainer = make_trainer("2d", "all")
    trainer.num_epochs = 1
    trainer.run_training()
    trainer.perform_actual_validation()
    fold = Path(trainer.output_folder)
    assert "No threshold is chosen: fold_all was trained on all cases, so none was held out" in log_of(fold)
    assert not (fold / TUNED).exists() and not (fold / THRESHOLD_FILE).exists()
