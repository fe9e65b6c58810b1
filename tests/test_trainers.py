"""The trainers in nnU-Net: how they wrap its loss, and real trainings on a tiny dataset."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ici.instances import kernels
from nnunet_ici.losses import ICILoss
from nnunet_ici.losses.ici import InstanceCompoundLoss
from nnunet_ici.trainers import (
    nnUNetTrainerCATMIL,
    nnUNetTrainerCounted,
    nnUNetTrainerCounted_bestlesion,
    nnUNetTrainerDICI,
    nnUNetTrainerDual,
    nnUNetTrainerICI,
    nnUNetTrainerLesionWise,
    nnUNetTrainerPQ,
)
from tests import tiny_nnunet

LABELS = {"background": 0, "lesion": 1}
COUNTS = ["val_label_instances", "val_missed_instances", "val_predicted_instances", "val_false_instances"]
SCORES = ["val_lesion_f1", "val_lesion_dice", "ema_lesion_f1", "ema_lesion_dice"]


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory):
    """The folder of a nnU-Net with the tiny dataset, planned and preprocessed in 2D and 3D."""
    root = tmp_path_factory.mktemp("nnunet")
    tiny_nnunet.make_raw(root)
    tiny_nnunet.run(root, "nnUNetv2_plan_and_preprocess", "-d", 901, "-c", "2d", "3d_fullres", "-npfp", 1, "-np", 1, 1)
    tiny_nnunet.shrink_plans(root, "3d_fullres", [16, 16, 16])
    return root


@pytest.fixture
def make_trainer(nnunet, monkeypatch):
    """Makes a trainer in this process, whose data loaders run in it too."""
    for name, value in tiny_nnunet.environment(nnunet).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    folder = nnunet / "nnUNet_preprocessed" / tiny_nnunet.NAME

    def make(cls, configuration="3d_fullres", labels=None, resume=False, **dataset):
        tiny_nnunet.shrink_plans(nnunet, configuration, [16] * (2 if configuration == "2d" else 3))
        plans = json.loads((folder / "nnUNetPlans_small.json").read_text()) | {"continue_training": resume}
        dataset_json = json.loads((folder / "dataset.json").read_text()) | dataset
        dataset_json["labels"] = labels or dataset_json["labels"]
        return cls(plans, configuration, 0, dataset_json, torch.device("cpu"))

    return make


def quick(base, **attributes):
    """A trainer of three epochs of four iterations that saves every epoch."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008, N807
        base.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.save_every = 4, 2, 1

    return type("nnUNetTrainerQuick", (base,), {"__init__": __init__, "epochs": 3, **attributes})


def read_csv(trainer):
    with open(os.path.join(trainer.output_folder, "terms_ici.csv"), newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "weights"),
    [
        (nnUNetTrainerICI, {"global": 1, "instance": 1, "center": 1}),
        (nnUNetTrainerDICI, {"global": 1, "instance": 1, "predicted": 1, "center": 1}),
        (nnUNetTrainerDual, {"global": 1, "instance": 1, "predicted": 1, "center": 0}),
    ],
)
def test_the_hosts_loss_is_wrapped_at_every_scale(make_trainer, cls, weights):
    trainer = make_trainer(cls)
    host, ours = nnUNetTrainer._build_loss(trainer), trainer._build_loss()
    assert isinstance(host.loss, DC_and_CE_loss)  # not one of ours: the method resolution order was left out
    assert isinstance(ours, DeepSupervisionWrapper) and ours.weight_factors == host.weight_factors
    assert isinstance(ours.loss, InstanceCompoundLoss) and isinstance(ours.loss.global_loss, DC_and_CE_loss)
    assert ours.loss.weights == weights
    assert ours.loss.reference_shape == (16, 16, 16) and not ours.loss.finest_only
    assert [ours.loss.threshold.low, ours.loss.threshold.high] == [0.1, 0.9]


@pytest.mark.slow
def test_regions_ignore_label_and_no_deep_supervision(make_trainer):
    regions = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    trainer = make_trainer(nnUNetTrainerICI, labels=regions, regions_class_order=[1, 2])
    loss = trainer._build_loss().loss
    assert isinstance(loss.global_loss, DC_and_BCE_loss) and loss.ignore_label is None  # it is a channel of the target
    target = torch.rand(2, 3, 16, 16, 16) < 0.1
    assert loss(torch.randn(2, 2, 16, 16, 16), target).isfinite()

    trainer = make_trainer(nnUNetTrainerICI, labels={**LABELS, "ignore": 2})
    assert trainer._build_loss().loss.ignore_label == 2
    trainer.enable_deep_supervision = False
    assert isinstance(trainer._build_loss(), ICILoss)


@pytest.mark.slow
def test_options_are_class_attributes(make_trainer):
    class Mine(nnUNetTrainerICI):
        center_size, threshold, finest_scale_only, instance_weight, exclude_other_instances = 5, 0.4, True, 0.5, False

    loss = make_trainer(Mine)._build_loss().loss
    assert loss.finest_only and loss.weights["instance"] == 0.5 and loss.threshold(True) == 0.4
    assert loss.settings.size == 5 and loss.settings.exclude_other_instances is False


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("cls", [nnUNetTrainerICI, nnUNetTrainerDual])
def test_a_training_logs_its_terms(make_trainer, configuration, cls):
    trainer = make_trainer(quick(cls), configuration)
    trainer.run_training()
    rows = read_csv(trainer)
    terms = ["global", "instance", "center" if cls is nnUNetTrainerICI else "predicted"]
    assert list(rows[0]) == ["epoch", *(f"{p}_{t}" for p in ("train", "val") for t in terms), *COUNTS, *SCORES]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    numbers = np.array([[float(value) for value in row.values()] for row in rows])
    assert np.isfinite(numbers).all()
    assert all(int(row["val_label_instances"]) >= int(row["val_missed_instances"]) for row in rows)
    assert sum(int(row["val_label_instances"]) for row in rows) > 0
    with open(trainer.log_file) as file:
        log = file.read()
    assert log.count("train terms: global") == 3 and log.count("missed, ") == 3
    assert len(re.findall(r"; lesion F1 [01]\.", log)) == len(re.findall(r"; lesion-wise Dice [01]\.", log)) == 3
    means = [float(row["ema_lesion_dice"]) for row in rows]
    assert means[1] == pytest.approx(0.9 * means[0] + 0.1 * float(rows[1]["val_lesion_dice"]))
    history = trainer.logger.local_logger.my_fantastic_logging
    assert {len(values) for values in history.values()} == {3}  # progress.png is cut to the shortest
    for name in ("progress.png", "progress_ici.png"):
        assert os.path.getsize(os.path.join(trainer.output_folder, name)) > 10_000


class PowerCutError(Exception):
    """Stops a training in the middle of an epoch."""


@pytest.mark.slow
@pytest.mark.skipif(not kernels.HAS_TRITON, reason="Triton is not installed")
def test_a_training_runs_in_plain_torch_if_the_kernels_fail_in_their_self_check(make_trainer, monkeypatch, tmp_path):
    from triton.runtime.errors import OutOfResources

    from nnunet_ici.instances import _triton_find

    class Failing:
        def __getitem__(self, grid):
            raise OutOfResources(300_000, 232_448, "shared memory")

    monkeypatch.setattr(_triton_find, "measure_kernel", Failing())
    monkeypatch.setattr(kernels, "CHECKED_DEVICE", "cpu")
    monkeypatch.setattr(kernels, "_statuses", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trainer = make_trainer(quick(nnUNetTrainerICI), "2d")
    with pytest.warns(RuntimeWarning, match="OutOfResources") as told:
        trainer.run_training()
    assert sum("OutOfResources" in str(warning.message) for warning in told) == 1
    assert len(read_csv(trainer)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("base", [nnUNetTrainerICI, nnUNetTrainerLesionWise, nnUNetTrainerPQ, nnUNetTrainerCATMIL])
def test_resume_continues_from_the_checkpoint(make_trainer, base):
    cls = quick(base)
    whole = make_trainer(cls)
    whole.run_training()
    taus = whole._compound.draws

    killed = make_trainer(cls)
    step, count = killed.train_step, 0

    def train_step(batch):
        nonlocal count
        count += 1
        if count == 7:  # in the middle of the second epoch
            raise PowerCutError
        return step(batch)

    killed.train_step = train_step
    with pytest.raises(PowerCutError):
        killed.run_training()
    assert len(read_csv(killed)) == 1
    first = read_csv(killed)[0]

    resumed = make_trainer(cls, resume=True)
    resumed.load_checkpoint(os.path.join(killed.output_folder, "checkpoint_latest.pth"))
    assert resumed.current_epoch == 1
    per_epoch = taus // 3
    assert resumed._compound.draws == per_epoch and (per_epoch > 0) == (base is not nnUNetTrainerCATMIL)
    resumed.run_training()
    assert resumed._compound.draws == taus
    assert [row["epoch"] for row in read_csv(resumed)] == ["0", "1", "2"]
    assert read_csv(resumed)[0] == first
    assert {len(v) for v in resumed.logger.local_logger.my_fantastic_logging.values()} == {3}


@pytest.mark.slow
def test_counted_trains_as_nnunet_does(make_trainer):
    """The same weights after the training, and the counts, curves and log of the other trainers."""
    networks = []
    for cls in (nnUNetTrainer, nnUNetTrainerCounted):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        trainer = make_trainer(quick(cls), "2d")
        trainer.num_epochs = 2
        trainer.run_training()
        networks.append({key: value.clone() for key, value in trainer.network.state_dict().items()})
    assert all(torch.equal(value, networks[1][key]) for key, value in networks[0].items())
    rows = read_csv(trainer)
    assert list(rows[0]) == ["epoch", "train_global", "val_global", *COUNTS, *SCORES]
    assert sum(int(row["val_label_instances"]) for row in rows) > 0


@pytest.mark.slow
def test_the_best_checkpoint_follows_the_lesions(make_trainer):
    """The exponential mean of the lesion-wise Dice falls, rises and is unknown while nnU-Net's pseudo Dice rises."""
    given = iter([math.nan, 0.5, 0.2, 0.9])

    class Scripted(quick(nnUNetTrainerCounted_bestlesion, epochs=4)):
        def on_validation_epoch_end(self, outputs):
            super().on_validation_epoch_end(outputs)
            self._history._epoch["ema_lesion_dice"] = next(given)

    saved = []

    def run(trainer):
        save = trainer.save_checkpoint
        trainer.save_checkpoint = lambda name: (
            saved.append((trainer.current_epoch, os.path.basename(name))),
            save(name),
        )
        trainer.run_training()

    trainer = make_trainer(Scripted, "2d")
    trainer.num_epochs = 3
    run(trainer)
    assert [epoch for epoch, name in saved if name == "checkpoint_best.pth"] == [0, 1] and trainer._best_ema == 0.5
    resumed = make_trainer(Scripted, "2d", resume=True)
    resumed.load_checkpoint(os.path.join(trainer.output_folder, "checkpoint_final.pth"))
    assert resumed._best_ema == 0.5
    saved.clear()
    run(resumed)
    assert [epoch for epoch, name in saved if name == "checkpoint_best.pth"] == [3] and resumed._best_ema == 0.9
    with open(resumed.log_file) as file:
        assert "checkpoint_best.pth: best exponential mean of the lesion-wise Dice" in file.read()
    assert resumed.logger.get_value("ema_fg_dice", step=-1) != 0.9


@pytest.mark.slow
def test_weights_and_biases_get_terms_and_scores(make_trainer, monkeypatch):
    """In W&B's offline mode, whose file holds every key as text."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")
    monkeypatch.setenv("nnUNet_wandb_mode", "offline")
    trainer = make_trainer(quick(nnUNetTrainerICI, epochs=1), "2d")
    trainer.run_training()
    (logger,) = trainer.logger.loggers
    logger.run.finish()
    (path,) = Path(trainer.output_folder).glob("wandb/offline-run-*/*.wandb")
    content = path.read_bytes()
    missing = [
        column for column in read_csv(trainer)[0] if column != "epoch" and f"ici_{column}".encode() not in content
    ]
    assert not missing and b"mean_fg_dice" in content


@pytest.mark.slow
def test_a_checkpoint_of_nnunets_own_trainer_continues(make_trainer):
    host = make_trainer(quick(nnUNetTrainer))
    host.num_epochs = 2
    host.run_training()
    trainer = make_trainer(quick(nnUNetTrainerICI), resume=True)
    trainer.load_checkpoint(os.path.join(host.output_folder, "checkpoint_final.pth"))
    assert trainer.current_epoch == 2
    trainer.run_training()
    rows = read_csv(trainer)
    assert [row["train_instance"] == "nan" for row in rows] == [True, True, False]
    assert {len(v) for v in trainer.logger.local_logger.my_fantastic_logging.values()} == {3}


@pytest.mark.slow
def test_the_commands_as_a_user_types_them(nnunet):
    """Train, validate, predict, ensemble and evaluate with what pip installed."""
    tiny_nnunet.shrink_plans(nnunet, "3d_fullres", [16, 16, 16])
    raw, plans = nnunet / "nnUNet_raw" / tiny_nnunet.NAME, ("-p", "nnUNetPlans_small")
    predictions = {}
    for trainer in ("nnUNetTrainer_1epoch", "nnUNetTrainerICI_1epoch"):
        log = tiny_nnunet.run(nnunet, "nnUNetv2_train", 901, "3d_fullres", 0, "-tr", trainer, *plans, "-device", "cpu")
        assert "Mean Validation Dice" in log
        predictions[trainer] = nnunet / trainer
        tiny_nnunet.run(
            nnunet, "nnUNetv2_predict", "-d", 901, "-i", raw / "imagesTs", "-o", nnunet / trainer, "-c", "3d_fullres",
            "-f", 0, "-tr", trainer, *plans, "-device", "cpu", "-npp", 1, "-nps", 1, "--save_probabilities",
        )  # fmt: skip
    results = nnunet / "nnUNet_results" / tiny_nnunet.NAME / "nnUNetTrainerICI_1epoch__nnUNetPlans_small__3d_fullres"
    assert {"terms_ici.csv", "progress_ici.png", "progress.png"} <= set(os.listdir(results / "fold_0"))
    # --val opens the checkpoint again
    log = tiny_nnunet.run(
        nnunet, "nnUNetv2_train", 901, "3d_fullres", 0, "-tr", "nnUNetTrainerICI_1epoch", *plans, "-device", "cpu",
        "--val"
    )  # fmt: skip
    assert "Mean Validation Dice" in log

    _move_to_another_machine(nnunet, raw, predictions["nnUNetTrainerICI_1epoch"])

    ensemble = nnunet / "ensemble"
    tiny_nnunet.run(nnunet, "nnUNetv2_ensemble", "-i", *predictions.values(), "-o", ensemble, "-np", 1)
    models = [f"{name}={path}" for name, path in (predictions | {"ensemble": ensemble}).items()]
    tiny_nnunet.run(nnunet, "nnunet_ici", "evaluate", "-gt", raw / "labelsTs", "-pred", *models, "-o", nnunet / "out")
    with open(nnunet / "out" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2
    assert {row["model"] for row in rows} == {*predictions, "ensemble"}
    # Bright balls in noise: an epoch is enough to find some.
    assert max(float(row["dice"]) for row in rows) > 0.3


def _move_to_another_machine(nnunet, raw, predicted):
    """Export, import elsewhere, predict the same; and the message to a user without the plugin."""
    model = ("-d", 901, "-c", "3d_fullres", "-f", 0, "-tr", "nnUNetTrainerICI_1epoch", "-p", "nnUNetPlans_small")
    zipped = nnunet / "model.zip"
    tiny_nnunet.run(nnunet, "nnUNetv2_export_model_to_zip", *model, "-o", zipped, "--not_strict")
    elsewhere = nnunet / "elsewhere"
    for name in tiny_nnunet.FOLDERS:
        (elsewhere / name).mkdir(parents=True)
    tiny_nnunet.run(elsewhere, "nnUNetv2_install_pretrained_model_from_zip", zipped)
    predict = ("-i", raw / "imagesTs", *model, "-device", "cpu", "-npp", 1, "-nps", 1)
    tiny_nnunet.run(elsewhere, "nnUNetv2_predict", *predict, "-o", elsewhere / "predicted")
    for path in sorted(predicted.glob("*.nii.gz")):
        again = sitk.GetArrayFromImage(sitk.ReadImage(str(elsewhere / "predicted" / path.name)))
        np.testing.assert_array_equal(again, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))

    without = {"NNUNET_ICI_NO_AUTOREGISTER": "1", "nnUNet_extTrainer": ""}
    with pytest.raises(AssertionError, match=r"Could not find requested nnunet trainer nnUNetTrainerICI_1epoch"):
        tiny_nnunet.run(elsewhere, "nnUNetv2_predict", *predict, "-o", elsewhere / "no", **without)

    # The remedy in docs/trainers.md.
    (checkpoint,) = (elsewhere / "nnUNet_results").rglob("checkpoint_final.pth")
    loaded = torch.load(checkpoint, map_location="cpu", weights_only=False)
    loaded["trainer_name"] = "nnUNetTrainer"
    torch.save(loaded, checkpoint)
    tiny_nnunet.run(elsewhere, "nnUNetv2_predict", *predict, "-o", elsewhere / "plain", **without)
    for path in sorted(predicted.glob("*.nii.gz")):
        again = sitk.GetArrayFromImage(sitk.ReadImage(str(elsewhere / "plain" / path.name)))
        np.testing.assert_array_equal(again, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
