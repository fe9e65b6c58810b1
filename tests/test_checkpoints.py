"""Thresholds inside checkpoints: what is written, what is refused, and what ``tune --show`` says."""

from __future__ import annotations

import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ici import doctor
from nnunet_ici.cli import main
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.postprocessing.checkpoints import bias_shifts, find_checkpoints, write_tuned
from nnunet_ici.postprocessing.network import BEST, FINAL, THRESHOLD_FILE, TUNED, fingerprint, outdated
from nnunet_ici.postprocessing.rule import Rule, Setting, read_rule
from tests.reference_postprocessing import LABELS
from tests.tune_command import make

# The share of voxels that nnU-Net's half precision may round across the threshold; docs/evaluation.md names it.
ROUNDED = 1e-3


def network(cls=PlainConvUNet, axes=2, channels=2, deep_supervision=True, seed=0):
    torch.manual_seed(seed)
    conv, norm = (torch.nn.Conv2d, torch.nn.InstanceNorm2d) if axes == 2 else (torch.nn.Conv3d, torch.nn.InstanceNorm3d)
    stages = {"n_conv_per_stage": 1} if cls is PlainConvUNet else {"n_blocks_per_stage": 1}
    return cls(
        input_channels=1,
        n_stages=3,
        features_per_stage=(4, 8, 8),
        conv_op=conv,
        kernel_sizes=3,
        strides=(1, 2, 2),
        num_classes=channels,
        n_conv_per_stage_decoder=1,
        norm_op=norm,
        deep_supervision=deep_supervision,
        **stages,
    )


def save(path, weights, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    init_args = {"configuration": "2d"}
    torch.save({"network_weights": weights, "init_args": init_args, "trainer_name": "nnUNetTrainer"} | more, path)
    os.utime(path, (1, 1))  # before its probabilities


def make_trainer(root, kind="lesion", channels=2):
    """Folders of a trainer with two folds, and their validation probabilities."""
    make(root, kind)
    trainer = root / "trainer"
    for fold in (0, 1):
        shutil.move(root / f"fold_{fold}", trainer / f"fold_{fold}" / "validation")
        save(trainer / f"fold_{fold}" / FINAL, network(channels=channels, seed=fold).state_dict())
    (root / "dataset.json").rename(trainer / "dataset.json")
    return trainer


def tune(root, *extra, folds=(0, 1), expected=0):
    folders = [str(root / "trainer" / f"fold_{fold}" / "validation") for fold in folds]
    arguments = ["-gt", str(root / "gt"), "-prob", *folders, "-o", str(root / "rule.json"), "--k", "3", "-np", "1"]
    assert main(["tune", *arguments, *extra, "--checkpoint"]) == expected
    if expected:
        assert not (root / "rule.json").exists() and not list(root.rglob(f"*{TUNED}*"))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("cls", [PlainConvUNet, ResidualEncoderUNet])
@pytest.mark.parametrize("axes", [2, 3])
def test_only_the_finest_logits_move_and_by_the_shift(tmp_path, axes, cls, prefix):
    net = network(cls, axes).eval()
    path = tmp_path / "fold_0" / FINAL
    save(path, {prefix + key: value for key, value in net.state_dict().items()}, optimizer_state={"lr": 0.25})
    (written,) = write_tuned([path], [0.0, -1.5], {"thresholds": {"lesion": 0.8}})
    assert written == path.with_name(TUNED) and [p.name for p in path.parent.iterdir()].count(TUNED) == 1
    content = torch.load(written, weights_only=False)
    assert content["optimizer_state"] == {"lr": 0.25} and content["trainer_name"] == "nnUNetTrainer"
    image = torch.randn(1, 1, *[16] * axes)
    with torch.no_grad():
        before = net(image)
        net.load_state_dict({key.removeprefix(prefix): value for key, value in content["network_weights"].items()})
        after = net(image)
    shift = torch.tensor([0, -1.5]).reshape(-1, *[1] * axes)
    torch.testing.assert_close(after[0], before[0] + shift)
    for coarse_before, coarse_after in zip(before[1:], after[1:], strict=True):
        assert torch.equal(coarse_before, coarse_after)


def test_the_command_writes_beside_each_fold_and_says_so(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    tune(tmp_path, "--thresholds", "0.3", "0.5", "--volumes-mm3", "8", "--peaks", "none")
    out = capsys.readouterr().out
    shift = -math.log(0.3 / 0.7)  # the label was cut at 0.35
    for fold in (0, 1):
        before, after = (torch.load(trainer / f"fold_{fold}" / name, weights_only=False) for name in (FINAL, TUNED))
        assert f"written: {trainer / f'fold_{fold}' / TUNED}" in out
        record = after.pop("nnunet_ici_tuned")
        assert record["thresholds"] == {"lesion": 0.3} and record["folds"] == ["fold_0", "fold_1"]
        assert record["metric"] == "mean" and record["cases"] == 6
        assert record["rule"]["lesion"]["threshold"] == 0.3
        moved = [k for k, v in before["network_weights"].items() if not torch.equal(v, after["network_weights"][k])]
        assert moved == ["decoder.seg_layers.1.bias"]
        difference = after["network_weights"][moved[0]] - before["network_weights"][moved[0]]
        assert difference.tolist() == pytest.approx([0, shift], abs=1e-6)
    # the rule is for the predictions of the tuned checkpoints
    rule = read_rule(tmp_path / "rule.json").settings["lesion"]
    assert rule.threshold == 0.5 and rule.minimum_volume_mm3 == record["rule"]["lesion"]["minimum_volume_mm3"]

    for path, count in ((trainer, 2), (trainer / "fold_1" / TUNED, 1)):
        with pytest.raises(SystemExit) as end:
            main(["tune", "--show", str(path)])
        lines = capsys.readouterr().out.splitlines()
        assert end.value.code == 0 and len(lines) == count
        said = "threshold lesion 0.3; chosen by mean on 6 cases of fold_0, fold_1; nnunet_ici "
        assert f"{trainer / 'fold_1' / TUNED}: {said}" in lines[-1]


def test_regions_have_a_shift_each(tmp_path):
    trainer = make_trainer(tmp_path, "regions")
    tune(tmp_path, "--thresholds", "0.3", "0.7", "--peaks", "0.9")
    before, after = (torch.load(trainer / "fold_1" / name, weights_only=False) for name in (FINAL, TUNED))
    key = "decoder.seg_layers.1.bias"
    thresholds = list(after["nnunet_ici_tuned"]["thresholds"].values())
    difference = after["network_weights"][key] - before["network_weights"][key]
    assert difference.tolist() == pytest.approx([-math.log(t / (1 - t)) for t in thresholds], abs=1e-6)


@pytest.mark.parametrize("threshold", [0, 1])
def test_a_threshold_without_a_finite_logit_has_no_shift(threshold):
    rule = Rule(LabelScheme({"core": (2,), "whole": (1, 2)}), {"core": Setting(threshold), "whole": Setting(0.5)})
    with pytest.raises(
        ValueError, match=rf"logit\(t\) must be finite\. Expected: 0 < t < 1\. Got: {threshold} for core$"
    ):
        bias_shifts(rule)


def test_peaks_are_those_of_the_tuned_probabilities(tmp_path):
    make_trainer(tmp_path)
    tune(tmp_path, "--thresholds", "0.3", "--volumes-mm3", "50", "--peaks", "0.9")
    written = json.loads((tmp_path / "rule.json").read_text())["rule"]["lesion"]
    if written["minimum_volume_mm3"]:  # 0.9 against 0.1, of which 0.3 to 0.7 is taken
        assert written["peak_probability"] == pytest.approx(9 * 7 / 3 / (9 * 7 / 3 + 1))


def test_several_classes_of_one_softmax_are_refused(tmp_path, capsys):
    make_trainer(tmp_path, "labels", channels=3)
    tune(tmp_path, expected=1)
    complaint = capsys.readouterr().err
    assert "no checkpoint can carry these thresholds. Expected: one class, or regions." in complaint
    assert f"Got: {LABELS}" in complaint


def test_a_tuned_checkpoint_is_not_tuned_again(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    tune(tmp_path)
    tune(tmp_path)  # once more, from the same checkpoint of training
    (tmp_path / "rule.json").unlink()
    (trainer / "fold_0" / TUNED).replace(trainer / "fold_0" / FINAL)
    (trainer / "fold_1" / TUNED).unlink()
    tune(tmp_path, expected=1)
    complaint = capsys.readouterr().err
    assert f"fold_0/{FINAL} is already tuned. Expected: a checkpoint from training. Got: threshold lesion" in complaint
    assert f"fold_1/{FINAL}" not in complaint


def test_a_network_without_that_bias_is_refused_by_name(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    weights = {key: v for key, v in network().state_dict().items() if "seg_layers" not in key}
    for fold in (0, 1):
        save(trainer / f"fold_{fold}" / FINAL, weights)
    tune(tmp_path, expected=1)
    assert "the network of nnUNetTrainer has no bias to carry a threshold" in capsys.readouterr().err
    architecture = {"network_class_name": "a.b.Primus", "arch_kwargs": {}, "_kw_requires_import": []}
    (trainer / "plans.json").write_text(json.dumps({"configurations": {"2d": {"architecture": architecture}}}))
    tune(tmp_path, expected=1)
    assert "a.b.Primus has no bias to carry a threshold. Expected: decoder.seg_layers.N.bias" in capsys.readouterr().err


def test_everything_wrong_is_reported_and_nothing_written(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    save(trainer / "fold_0" / FINAL, network(channels=3).state_dict())
    (trainer / "fold_1" / FINAL).write_bytes(b"no checkpoint")
    tune(tmp_path, "--thresholds", "0", "0.5", expected=1)
    complaint = capsys.readouterr().err
    assert "decoder.seg_layers.1.bias does not fit the classes. Expected: 2 channels. Got: (3,)" in complaint
    assert f"{trainer / 'fold_1' / FINAL} cannot be read. Expected: a checkpoint of nnU-Net. Got:" in complaint
    assert "--thresholds does not fit --checkpoint. Expected: above 0. Got: 0" in complaint


def test_folders_that_are_no_folds_are_refused(tmp_path):
    scheme = LabelScheme({"lesion": (1,)})
    elsewhere, other = tmp_path / "ensemble", tmp_path / "b" / "fold_0" / "validation"
    _, problems = find_checkpoints([elsewhere], scheme)
    assert problems == [
        f"--checkpoint needs the validation folders of folds. Expected: -prob .../fold_X/validation, with {FINAL} in "
        f"fold_X. Got: {elsewhere}"
    ]
    _, problems = find_checkpoints([tmp_path / "a" / "fold_0" / "validation", other], scheme)
    assert problems == [
        "--checkpoint needs the folds of one trainer. Expected: -prob of a single trainer. "
        f"Got: {tmp_path / 'a'}, {tmp_path / 'b'}"
    ]


def test_a_second_fold_that_fails_leaves_no_file(tmp_path):
    for fold, channels in ((0, 2), (1, 3)):
        save(tmp_path / f"fold_{fold}" / FINAL, network(channels=channels).state_dict())
    with pytest.raises(ValueError, match=r"Expected: 2 channels\. Got: \(3,\)"):
        write_tuned([tmp_path / f"fold_{fold}" / FINAL for fold in (0, 1)], [0.0, 1.0], {})
    assert [path.name for path in sorted(tmp_path.rglob("*.p*t*"))] == [FINAL, FINAL]


# A threshold belongs to a network.


def test_probabilities_of_another_network_are_refused(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    fold, npz = trainer / "fold_1", ("case1.npz", "case3.npz", "case5.npz")
    os.utime(fold / FINAL)  # trained again after the probabilities were written
    tune(tmp_path, expected=1)
    assert (
        f"{fold}/validation: probabilities of another network. Expected: files newer than {fold / FINAL}. "
        f"Got: {', '.join(npz)}, which are older (nnUNetv2_train ... --val --npz writes new ones; --force takes them)"
    ) in capsys.readouterr().err
    tune(tmp_path, "--force")
    assert (fold / TUNED).is_file()


def test_the_checkpoint_that_made_the_probabilities_is_tuned(tmp_path, capsys):
    """As threshold.json says after --val_best, or as the user says."""
    trainer = make_trainer(tmp_path)
    for fold in (0, 1):
        save(trainer / f"fold_{fold}" / BEST, network(seed=7 + fold).state_dict())
        network_of = {f"fold_{fold}": {"checkpoint": BEST, "fingerprint": "?"}}
        (trainer / f"fold_{fold}" / THRESHOLD_FILE).write_text(json.dumps({"network": network_of}))
    tune(tmp_path)
    weight = "decoder.seg_layers.1.weight"

    def tuned_from(name):
        pair = (torch.load(trainer / "fold_1" / one, weights_only=False) for one in (name, TUNED))
        return torch.equal(*(one["network_weights"][weight] for one in pair))

    assert tuned_from(BEST) and not tuned_from(FINAL)
    written = json.loads((trainer / "fold_1" / THRESHOLD_FILE).read_text())
    assert written["network"]["fold_1"] == {
        "checkpoint": BEST, "fingerprint": fingerprint(trainer / "fold_1" / BEST)
    }  # fmt: skip
    assert written["thresholds"]["lesion"] == written["rule"]["lesion"]["threshold"] != 0.5
    assert len(written["scores"]["lesion"]["sweep"]) > 25

    folders = [str(trainer / f"fold_{fold}" / "validation") for fold in (0, 1)]
    arguments = ["-gt", str(tmp_path / "gt"), "-prob", *folders, "-o", str(tmp_path / "rule.json"), "-np", "1"]
    assert main(["tune", *arguments, "--checkpoint", FINAL]) == 0 and tuned_from(FINAL)


def test_a_checkpoint_that_changed_after_tuning_is_refused(tmp_path, capsys, monkeypatch):
    trainer = make_trainer(tmp_path)
    tune(tmp_path)
    before = fingerprint(trainer / "fold_0" / FINAL)
    shutil.copytree(trainer, tmp_path / "copy")
    assert not outdated(trainer / "fold_0") and not outdated(tmp_path / "copy" / "fold_1")
    save(trainer / "fold_0" / FINAL, network(seed=0).state_dict(), logging={"more": 1})
    assert not outdated(trainer / "fold_0")  # the same tensors
    save(trainer / "fold_0" / FINAL, network(seed=5).state_dict())
    assert outdated(trainer / "fold_0").startswith(
        f"{trainer / 'fold_0' / TUNED} belongs to an earlier network. Expected: that of {FINAL}, fingerprint {before}."
    )
    for path in (trainer, trainer / "fold_0" / TUNED):
        with pytest.raises(SystemExit) as end:
            main(["tune", "--show", str(path)])
        assert end.value.code == 1 and "belongs to an earlier network" in capsys.readouterr().err
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    shutil.copytree(trainer, tmp_path / "Dataset100_A" / "trainer")
    (finding,) = doctor._thresholds()
    path = tmp_path / "Dataset100_A" / "trainer" / "fold_0" / TUNED
    assert finding.found.startswith(f"{path} belongs to an earlier network.") and finding.remedy.startswith(
        f"rm {path}"
    )
    (trainer / "fold_0" / FINAL).unlink()
    assert not outdated(trainer / "fold_0")  # as after an export of the tuned checkpoint


def test_without_a_gain_no_checkpoint_is_written(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    for number in range(6):  # the prediction is the ground truth
        shutil.copy(trainer / f"fold_{number % 2}" / "validation" / f"case{number}.nii.gz", tmp_path / "gt")
    tune(tmp_path)
    assert "no gain out of fold: 0.5 stays, and no checkpoint is written" in capsys.readouterr().out
    assert not list(tmp_path.rglob(f"*{TUNED}")) and not list(tmp_path.rglob(THRESHOLD_FILE))
    tune(tmp_path, "--thresholds", "0.3", "--force")
    assert len(list(tmp_path.rglob(TUNED))) == 2


def test_cases_that_were_not_held_out_are_refused(tmp_path, capsys, monkeypatch):
    trainer = make_trainer(tmp_path)
    results = tmp_path / "Dataset100_A"
    results.mkdir()
    trainer = trainer.rename(results / "trainer")
    (trainer / "dataset.json").rename(tmp_path / "dataset.json")
    splits = [{"train": [], "val": ["case0", "case2", "case4"]}, {"train": [], "val": ["case1"]}]
    preprocessed = tmp_path / "preprocessed" / "Dataset100_A"
    preprocessed.mkdir(parents=True)
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed.parent))
    folders = [str(trainer / f"fold_{fold}" / "validation") for fold in (0, 1)]
    arguments = ["-gt", str(tmp_path / "gt"), "-prob", *folders, "-o", str(tmp_path / "rule.json"), "-np", "1"]
    assert main(["tune", *arguments]) == 1
    assert (
        f"{folders[1]} holds cases of other folds, perhaps files of an earlier training. Expected: the validation "
        f"cases of fold_1 in {preprocessed / 'splits_final.json'}. Got also: case3, case5; delete them"
    ) in capsys.readouterr().err
    (trainer / "fold_1").rename(trainer / "fold_all")
    arguments[3:5] = [folders[0], str(trainer / "fold_all" / "validation")]
    assert main(["tune", *arguments]) == 1
    assert "fold_all was trained on all cases, so none was held out. Expected: fold_0, fold_1, ... Got: fold_all" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("name", [FINAL, "."])
def test_show_without_a_tuned_checkpoint(tmp_path, capsys, name):
    save(tmp_path / FINAL, network().state_dict())
    with pytest.raises(SystemExit) as end:
        main(["tune", "--show", str(tmp_path / name)])
    says = "is not tuned. Expected: checkpoint_tuned.pth" if name == FINAL else "holds no tuned checkpoint. Expected: "
    assert end.value.code == 1 and says in capsys.readouterr().err


def logit(probability):
    return np.log(probability) - np.log1p(-probability)


def assert_cut_at(masks, probabilities, threshold):
    """Equal to the threshold on the stock probabilities, except where nnU-Net's half precision rounds across it.

    At the border of the image, nnU-Net's weights of tiles leave the range of half precision; elsewhere the rounding is
    small.
    """
    differing = moved = total = 0
    for mask, probability in zip(masks, probabilities, strict=True):
        wrong = mask != (probability > np.float32(threshold))
        inner = (slice(4, -4),) * mask.ndim
        distance = np.abs(logit(probability[inner][wrong[inner]].astype(np.float64)) - logit(threshold))
        assert (distance < 0.01).all(), distance.max()
        differing, total = differing + wrong.sum(), total + mask.size
        moved += (mask != (probability > 0.5)).sum()
    print(f"{differing} of {total} voxels differ from the threshold {threshold:.3f}, {moved} from 0.5")
    assert differing <= ROUNDED * total and moved > 0.01 * total


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("axes", [2, 3])
def test_tiles_mirrors_and_folds_of_nnunet(tmp_path, axes, regions):
    """nnU-Net's own predictor with three folds: the label map of the tuned checkpoints, and the stock probabilities."""
    labels = {"background": 0, "whole": [1, 2], "core": [2]} if regions else {"background": 0, "lesion": 1}
    dataset = {"labels": labels, "regions_class_order": [1, 2]} if regions else {"labels": labels}
    architecture = {"network_class_name": "PlainConvUNet", "arch_kwargs": {}, "_kw_requires_import": []}
    configuration = {"patch_size": [16] * axes, "architecture": architecture}
    plans = PlansManager(
        {"plans_name": "small", "configurations": {"x": configuration}, "label_manager": "LabelManager"}
    )
    paths = [tmp_path / f"fold_{fold}" / FINAL for fold in range(3)]
    for seed, path in enumerate(paths):
        weights = network(axes=axes, seed=seed).state_dict()
        weights["decoder.seg_layers.1.weight"] *= 6
        save(path, weights)
    thresholds = [0.3, 0.8] if regions else [0.7]
    shifts = [-math.log(t / (1 - t)) for t in thresholds]
    tuned = write_tuned(paths, shifts if regions else [0.0, *shifts], {})
    image = torch.randn(1, 20, 24, 28)
    logits = []
    for checkpoints in (paths, tuned):
        predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
        predictor.manual_initialization(
            network(axes=axes, deep_supervision=False),
            plans,
            plans.get_configuration("x"),
            [torch.load(path, weights_only=False)["network_weights"] for path in checkpoints],
            dataset,
            "nnUNetTrainer",
            tuple(range(axes)),
        )
        logits.append(predictor.predict_logits_from_preprocessed_data(image))
    probabilities = predictor.label_manager.apply_inference_nonlin(logits[0]).numpy()
    label_map = np.asarray(predictor.label_manager.convert_logits_to_segmentation(logits[1]))
    if not regions:
        assert_cut_at([label_map == 1], probabilities[1:], 0.7)
        return
    masks = predictor.label_manager.apply_inference_nonlin(logits[1]).numpy() > 0.5
    for mask, probability, threshold in zip(masks, probabilities, thresholds, strict=True):
        assert_cut_at([mask], [probability], threshold)
    np.testing.assert_array_equal(label_map, np.where(masks[1], 2, masks[0]))


def test_the_mask_is_that_of_the_threshold(rng):
    """On float32 logits: the shifted argmax and the threshold on the softmax, ties at exactly t included."""
    logits = rng.normal(scale=3, size=(2, 40_000)).astype(np.float32)
    for threshold in (0.05, 0.3, 0.5, 0.85, 0.98):
        shift = math.log(threshold / (1 - threshold))
        stock = torch.softmax(torch.from_numpy(logits), 0)[1].numpy() > np.float32(threshold)
        tuned = (logits + np.array([[0], [-shift]], np.float32)).argmax(0) == 1
        differing = np.abs(logits[1] - logits[0] - shift)[stock != tuned]
        assert differing.size <= 1 and (differing < 1e-5).all()
    assert np.array([[1.0], [1.0]]).argmax(0) == 0  # equal logits: background, as for a probability not above t
