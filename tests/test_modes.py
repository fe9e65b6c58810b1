"""Every mode of nnU-Net through its real trainer, on a tiny dataset, on the CPU."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_ici import trainers
from nnunet_ici.trainers import nnUNetTrainerDICI, nnUNetTrainerICI
from nnunet_ici.trainers.names import TRAINERS
from scripts.study.small_plans import shrink
from tests import tiny_nnunet
from tests.test_trainers import SCORES, quick

pytestmark = pytest.mark.slow
NAME = "Dataset902_Modes"
CLASSES = {"background": 0, "first": 1, "second": 2, "third": 3}
IGNORE = {"background": 0, "first": 1, "second": 2, "ignore": 3}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3]}
REGIONS_IGNORE = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory):
    """Two classes and an ignore label, planned for 2D, 3D, with a residual encoder, and for a cascade."""
    root = tmp_path_factory.mktemp("modes")
    folder = root / "nnUNet_raw" / NAME
    for name in tiny_nnunet.FOLDERS:
        (root / name).mkdir()
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    rng, shape = np.random.default_rng(0), (20, 40, 40)
    grid = np.indices(shape)
    for case in range(6):
        label = np.zeros(shape, np.uint8)
        for value in (1, 1, 2):
            center = np.array([rng.integers(3, n - 3) for n in shape]).reshape(-1, 1, 1, 1)
            label[((grid - center) ** 2).sum(0) <= rng.uniform(2, 4) ** 2] = value
        image = rng.normal(size=shape).astype(np.float32) + 2 * label
        label[:, :3] = 3  # ignored
        sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / "imagesTr" / f"case_{case}_0000.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(label), str(folder / "labelsTr" / f"case_{case}.nii.gz"))
    dataset = {"channel_names": {"0": "noise"}, "labels": IGNORE, "numTraining": 6, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    tiny_nnunet.run(root, "nnUNetv2_plan_and_preprocess", "-d", 902, "-c", "2d", "3d_fullres", "-npfp", 1, "-np", 1, 1)
    tiny_nnunet.run(root, "nnUNetv2_plan_experiment", "-d", 902, "-pl", "nnUNetPlannerResEncM")

    preprocessed = root / "nnUNet_preprocessed" / NAME
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    cascade = shrink(plans, "3d_fullres", [16, 16, 16], [4, 8, 16], 2)
    fullres = cascade["configurations"]["3d_fullres"]
    spacing = [2 * s for s in fullres["spacing"]]
    lowres = {"data_identifier": "nnUNetPlans_3d_lowres", "spacing": spacing, "next_stage": "3d_cascade_fullres"}
    cascade["configurations"]["3d_lowres"] = fullres | lowres
    cascade["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    cascade["plans_name"] = "nnUNetPlans_cascade"
    (preprocessed / "nnUNetPlans_cascade.json").write_text(json.dumps(cascade))
    tiny_nnunet.run(
        root, "nnUNetv2_preprocess", "-d", 902, "-plans_name", "nnUNetPlans_cascade", "-c", "3d_lowres", "-np", 1
    )
    return root


@pytest.fixture
def make_trainer(nnunet, monkeypatch):
    for name, value in tiny_nnunet.environment(nnunet).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    folder = nnunet / "nnUNet_preprocessed" / NAME

    def make(cls, configuration="3d_fullres", patch=(16, 16, 16), batch=2, plans="nnUNetPlans", fold=0, **dataset):
        loaded = json.loads((folder / f"{plans}.json").read_text())
        if plans != "nnUNetPlans_cascade":
            loaded = shrink(loaded, configuration, patch, [4, 8, 16], batch)
            loaded["configurations"][configuration]["patch_size"] = list(patch)  # may be larger than the images
        dataset_json = json.loads((folder / "dataset.json").read_text()) | dataset
        return cls(loaded | {"continue_training": False}, configuration, fold, dataset_json, torch.device("cpu"))

    return make


def assert_trained(trainer):
    """Every term of every epoch is a number, and the checkpoint is there."""
    with open(os.path.join(trainer.output_folder, "terms_ici.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == trainer.num_epochs
    # scores are NaN if no validation patch has a lesion
    assert np.isfinite([[float(v) for k, v in row.items() if k not in SCORES] for row in rows]).all(), rows
    assert os.path.exists(os.path.join(trainer.output_folder, "checkpoint_final.pth"))
    return rows


@pytest.mark.parametrize(
    ("labels", "more"),
    [
        (CLASSES, {}),
        (IGNORE, {}),
        (REGIONS, {"regions_class_order": [1, 2]}),
        (REGIONS_IGNORE, {"regions_class_order": [1, 2]}),
    ],
    ids=["classes", "ignore label", "regions", "regions with ignore label"],
)
@pytest.mark.parametrize("cls", [nnUNetTrainerDICI, trainers.nnUNetTrainerBlob, trainers.nnUNetTrainerDBCE])
def test_classes_regions_and_ignore_label(make_trainer, labels, more, cls):
    trainer = make_trainer(quick(cls, epochs=1), labels=labels, **more)
    trainer.run_training()
    rows = assert_trained(trainer)
    assert sum(int(row["val_label_instances"]) for row in rows) > 0


@pytest.mark.parametrize("name", TRAINERS)
def test_every_loss_trains_in_2d_and_on_a_flat_patch(make_trainer, name):
    for configuration, patch in (("2d", (32, 32)), ("3d_fullres", (4, 32, 32))):
        trainer = make_trainer(quick(getattr(trainers, name), epochs=2), configuration, patch)
        trainer.run_training()
        assert_trained(trainer)


def test_deep_supervision_off(make_trainer):
    class WithoutDeepSupervision(quick(nnUNetTrainerICI, epochs=1)):
        def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):  # noqa: B008
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.enable_deep_supervision = False

    trainer = make_trainer(WithoutDeepSupervision)
    trainer.run_training()
    assert_trained(trainer)
    assert trainer.loss is trainer._compound


def test_batch_size_1_and_the_finest_scale_only(make_trainer):
    trainer = make_trainer(quick(trainers.nnUNetTrainerDICI_finest, epochs=1), batch=1)
    trainer.run_training()
    assert_trained(trainer)


def test_an_anisotropic_patch(make_trainer):
    trainer = make_trainer(quick(nnUNetTrainerICI, epochs=1), patch=(16, 96, 96))
    trainer.run_training()
    assert_trained(trainer)
    assert trainer._compound.reference_shape == (16, 96, 96)


def test_a_residual_encoder(make_trainer):
    trainer = make_trainer(quick(nnUNetTrainerDICI, epochs=1), plans="nnUNetResEncUNetMPlans")
    assert "ResidualEncoder" in trainer.configuration_manager.network_arch_class_name
    trainer.run_training()
    assert_trained(trainer)


@pytest.mark.parametrize("base", ["NoMirroring", "DA5", "probOversampling"])
def test_nnunets_own_variants(make_trainer, base):
    trainer = make_trainer(quick(getattr(trainers, f"nnUNetTrainerICI_{base}"), epochs=1))
    trainer.run_training()
    assert_trained(trainer)
    assert (trainer.inference_allowed_mirroring_axes is None) == (base == "NoMirroring")


def test_a_cascade(make_trainer, nnunet):
    """Both stages train; the second one chooses thresholds on predictions that need those of the first."""
    cls, regions = quick(nnUNetTrainerICI, epochs=1), {"labels": REGIONS, "regions_class_order": [1, 2]}
    lowres = make_trainer(cls, "3d_lowres", plans="nnUNetPlans_cascade", fold="all", **regions)
    lowres.run_training()
    assert_trained(lowres)
    lowres.perform_actual_validation(False)
    cascade = make_trainer(cls, "3d_cascade_fullres", plans="nnUNetPlans_cascade", fold=0, **regions)
    assert cascade.is_cascaded
    cascade.run_training()
    assert_trained(cascade)
    cascade.perform_actual_validation(False)
    folder = Path(cascade.output_folder)
    assert (folder / "threshold.json").is_file() and (folder / "checkpoint_tuned.pth").is_file()
    assert not list(folder.glob(".*")) and not list((folder / "validation").glob("*.npz"))


def test_options_in_the_name_reach_the_loss(make_trainer):
    trainer = make_trainer(trainers.nnUNetTrainerDICI_g0p25_p2_c0p5_size5_tau0p4_finest_focal_globalDice)
    loss = trainer._build_loss().loss
    assert loss.weights == {"global": 0.25, "instance": 1, "predicted": 2, "center": 0.5}
    assert loss.threshold(True) == 0.4 and loss.finest_only
    assert loss.settings.size == 5 and loss.settings.inner == "focal"
    assert loss.global_loss.weight_ce == 0 and loss.global_loss.weight_dice == 1


@pytest.mark.parametrize("kind", ["BCE", "Focal", "DiceFocal", "GDiceFocal"])
def test_global_losses(make_trainer, kind):
    if kind != "BCE":
        pytest.importorskip("monai")
    cls = getattr(trainers, f"nnUNetTrainerDual_global{kind}")
    for labels, more in ((CLASSES, {}), (REGIONS, {"regions_class_order": [1, 2]})):
        trainer = make_trainer(quick(cls, epochs=1), labels=labels, **more)
        trainer.run_training()
        assert float(assert_trained(trainer)[0]["train_global"]) > 0
    if kind != "BCE":
        with pytest.raises(NotImplementedError, match=r"uses MONAI, which has no ignore label\. Got: 3"):
            make_trainer(cls, labels=IGNORE)._build_loss()


def test_bfloat16_autocast(make_trainer):
    """As on a GPU, but in the half precision that a CPU has."""
    loss = make_trainer(nnUNetTrainerDICI, labels=CLASSES)._build_loss().loss
    target = torch.zeros(2, 1, 16, 16, 16, dtype=torch.int16)
    target[:, :, 3:6, 3:6, 3:6] = 1
    target[0, :, 9, 9, 9] = 2
    logits = torch.randn(2, 4, 16, 16, 16)
    values = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        leaf = logits.to(torch.bfloat16).to(dtype).requires_grad_()
        loss.threshold.draws = 0
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss(leaf, target)
        value.backward()
        assert leaf.grad.dtype == dtype and leaf.grad.isfinite().all()
        values.append(loss.record.take())
    for term in ("instance", "predicted", "center"):
        assert [v[term] for v in values] == pytest.approx([values[0][term]] * 3, abs=2e-3)
