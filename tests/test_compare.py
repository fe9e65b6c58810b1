"""``nnunet_ici compare`` on small folders of trained models."""

from __future__ import annotations

import json
import shlex
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.evaluation.summary import read_rows
from nnunet_ici.postprocessing.rule import Rule, Setting
from tests.evaluate_command import save_probabilities, write

DATASET = "Dataset007_Cells"
FOLDS = {"0": ("c0", "c1"), "1": ("c2", "c3")}
OWN, PQ = "nnUNetTrainer", "nnUNetTrainerPQ"
SCHEME = LabelScheme({"cell": (1,)}, None, ".png")


def lesions(*present):
    """A mask with lesions of 4, 1 and 1 pixels, and a false prediction; those that are present."""
    mask = np.zeros((8, 9), np.uint8)
    mask[1:3, 1:3], mask[6, 7], mask[0, 7], mask[5, 0] = present
    return mask


def train(root, trainer, folds="01", plans="nnUNetPlans", present=(1, 0, 0, 0), probability=None):
    """Make the folder of a trainer whose folds predict these lesions in every case."""
    folder = root / "nnUNet_results" / DATASET / f"{trainer}__{plans}__2d"
    for fold in folds:
        for case in FOLDS[fold]:
            write(folder / f"fold_{fold}" / "validation" / f"{case}.png", lesions(*present))
            if probability is not None:
                save_probabilities(folder / f"fold_{fold}" / "validation" / f"{case}.npz", probability)
        (folder / f"fold_{fold}" / "checkpoint_final.pth").touch()
    return folder


@pytest.fixture
def root(dataset, monkeypatch):
    """The same without the report, which takes most of the time."""
    monkeypatch.setattr("nnunet_ici.report.report.main", lambda argv: 0)
    return dataset


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A dataset with three lesions in each case, without a trained model."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable / DATASET).mkdir(parents=True)
    raw, preprocessed = tmp_path / "nnUNet_raw" / DATASET, tmp_path / "nnUNet_preprocessed" / DATASET
    for case in (case for cases in FOLDS.values() for case in cases):
        write(raw / "labelsTr" / f"{case}.png", lesions(1, 1, 1, 0))
    declared = {"labels": {"background": 0, "cell": 1}, "file_ending": ".png"}
    (raw / "dataset.json").write_text(json.dumps(declared))
    splits = [{"train": list(FOLDS[other]), "val": list(FOLDS[fold])} for fold, other in ("01", "10")]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    return tmp_path


def compare(*arguments, dataset="7", expected=0):
    assert main(["compare", dataset, "2d", "-np", "1", *arguments]) == expected


def out(root, name="compare_2d"):
    return root / "nnUNet_results" / DATASET / name


def missed(root):
    """Sum of missed lesions by model, and the cases."""
    rows = read_rows(out(root) / "cases.csv")
    totals = {model: sum(row["missed_instances"] for row in rows if row["model"] == model) for model in [*models(rows)]}
    return totals, sorted({row["case"] for row in rows})


def models(rows):
    return list(dict.fromkeys(row["model"] for row in rows))


def test_from_trained_models_to_a_verdict(dataset, capsys):
    root = dataset
    train(root, PQ, present=(1, 1, 1, 0))
    train(root, "nnUNetTrainerCounted_5epochs")
    train(root, OWN)
    compare()
    assert missed(root) == ({OWN: 8, "nnUNetTrainerCounted_5epochs": 8, PQ: 0}, ["c0", "c1", "c2", "c3"])
    assert list(missed(root)[0]) == [OWN, "nnUNetTrainerCounted_5epochs", PQ]  # nnU-Net's own loss is the reference
    written = sorted(path.name for path in out(root).iterdir())
    assert written == sorted(
        ["cases.csv", "instances.csv", "report.html", "summary.json", "tables.csv", "tables.md", "tables.tex"]
    )
    text = capsys.readouterr().out
    assert f"4 cases cannot show a clear difference between {PQ} and {OWN}: at least 10 are needed." in " ".join(
        text.split()
    )
    lines = text.splitlines()
    assert lines[-3:] == [
        "",
        f"To predict with {PQ}:",
        f"  nnUNetv2_predict -d 7 -c 2d -tr {PQ} -f 0 1 -i IMAGES -o PREDICTIONS",
    ]
    assert any(f"{OWN} has no PR-AUC, AP or FROC, as --npz was not given: nnUNetv2_train 7" in line for line in lines)
    assert len(lines) <= 30


def test_trainers_folds_plans_and_output(root, capsys):
    for trainer in (OWN, PQ, "nnUNetTrainerICI_5epochs"):
        train(root, trainer, plans="Small")
    compare("-tr", PQ, "nnUNetTrainerICI_5epochs", "-f", "1", "-p", "Small", "-o", str(root / "mine"), dataset=DATASET)
    rows = read_rows(root / "mine" / "cases.csv")
    assert models(rows) == [PQ, "nnUNetTrainerICI_5epochs"] and {row["case"] for row in rows} == {"c2", "c3"}
    assert f"nnUNetv2_predict -d {DATASET} -c 2d -tr {PQ} -p Small -f 1 -i IMAGES" in capsys.readouterr().out
    assert not out(root).exists()
    compare()  # the only plans are found
    assert missed(root)[0] == {OWN: 8, "nnUNetTrainerICI_5epochs": 8, PQ: 8}


def test_several_plans(root, capsys):
    train(root, OWN, plans="A")
    train(root, PQ, plans="B")
    compare(expected=1)
    assert "several plans. Expected: -p with one of them. Got: A, B" in capsys.readouterr().err
    compare("-tr", PQ)
    assert missed(root)[0] == {PQ: 8}
    train(root, OWN)
    compare()  # nnU-Net's default is preferred
    assert missed(root)[0] == {OWN: 8}


def test_what_is_missing_is_left_out_and_said_with_its_command(root, capsys):
    train(root, OWN, probability=0.9 * lesions(1, 0, 0, 0))
    train(root, PQ, folds="0", probability=0.9 * lesions(1, 0, 0, 0))
    folder = train(root, "nnUNetTrainerICI", folds="")
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_0" / "checkpoint_latest.pth").touch()
    compare()
    assert missed(root) == ({OWN: 4, PQ: 4}, ["c0", "c1"])
    lines = capsys.readouterr().out.splitlines()
    assert (
        "nnUNetTrainerICI is left out, it has no fold 0: nnUNetv2_train 7 2d 0 -tr nnUNetTrainerICI --npz --c" in lines
    )
    assert f"fold 1 is left out, {PQ} has none: nnUNetv2_train 7 2d 1 -tr {PQ} --npz" in lines
    assert not any("no PR-AUC" in line for line in lines)
    compare("-f", "1")
    assert missed(root) == ({OWN: 4}, ["c2", "c3"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-tr", PQ, "nnUNetTrainerICI"], "Got: no fold 0 of nnUNetTrainerICI. Try: nnUNetv2_train 7 2d 0 -tr nnUNet"),
        (["-tr", PQ, "-f", "0", "1"], f"Got: no fold 1 of {PQ}. Try: nnUNetv2_train 7 2d 1 -tr {PQ} --npz --val"),
        (
            ["-tr", PQ, "-f", "2", "3"],
            f"Got: no fold 2 of {PQ} (and 1 more). Try: nnUNetv2_train 7 2d 2 -tr {PQ}",
        ),
        (["-f", "3"], "validation predictions are missing. Expected: all folds of all trainers. Got: no fold 3 of"),
        (
            ["-p", "Other"],
            "no trained model. Expected: TRAINER__Other__2d. Got: nnUNetTrainerPQ__nnUNetPlans__2d, nn",
        ),
        (["-tr", OWN, PQ], "no fold has predictions of all trainers. Expected: one that all have. Got: no fold 0 of"),
    ],
)
def test_missing_folds(root, capsys, arguments, message):
    folder = train(root, PQ)
    for path in (folder / "fold_1" / "validation").iterdir():
        path.unlink()
    train(root, OWN, folds="1")
    compare(*arguments, expected=1)
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) <= 5 and not out(root).exists()
    command = error.split("Try: ")[1].split() if "Try: " in error else []
    assert command[:3] == ["nnUNetv2_train", "7", "2d"] and "--npz" in command


def test_folders_that_are_missing(root, capsys, monkeypatch):
    compare(dataset="8", expected=1)
    assert f"Expected: one with the number or name 8. Got: {DATASET}" in capsys.readouterr().err
    compare(expected=1)
    assert (
        "no trained model. Expected: TRAINER__nnUNetPlans__2d. Got: none. Try: nnUNetv2_train"
        in capsys.readouterr().err
    )
    monkeypatch.delenv("nnUNet_results")
    compare(expected=1)
    assert "nnUNet_results: not set. Expected: a folder. Try: export nnUNet_results=" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare("-f", "all")
    assert "-f: Expected: the number of a fold. Got: all (it has no held-out cases)" in capsys.readouterr().err


def test_the_ground_truth_of_the_preprocessed_data(root, capsys):
    train(root, OWN)
    raw, preprocessed = (root / name / DATASET for name in ("nnUNet_raw", "nnUNet_preprocessed"))
    (raw / "labelsTr").rename(preprocessed / "gt_segmentations")
    (raw / "dataset.json").rename(preprocessed / "dataset.json")
    compare()
    assert missed(root)[0] == {OWN: 8}
    (preprocessed / "gt_segmentations").rename(preprocessed / "elsewhere")
    compare(expected=1)
    assert f"no ground truth. Expected: labelsTr of {DATASET} in $nnUNet_raw. Got: " in capsys.readouterr().err


def test_probabilities_of_some_folds(root, capsys):
    folder = train(root, PQ, probability=0.9 * lesions(1, 0, 0, 0))
    for path in (folder / "fold_1" / "validation").glob("*.npz"):
        path.unlink()
    compare(expected=1)
    assert (
        f"{PQ}: probabilities of fold 1 are missing. Expected: CASE.npz of all predictions, or of none. Got: some. "
        f"Try: nnUNetv2_train 7 2d 1 -tr {PQ} --npz --val" in capsys.readouterr().err
    )


def tune(folder, settings, best, folds="01"):
    """Write the choice of ``tune --checkpoint``: for each fold of two cases its setting, and the best on all."""
    scores = [{"cases": list(FOLDS[fold]), "setting": asdict(settings[fold])} for fold in FOLDS]
    content = Rule(SCHEME, {"cell": best}).to_json() | {
        "scores": {"cell": {"folds": scores, "plain": {"lesion_dice": 0.25}, "out_of_fold": {"lesion_dice": 0.5}}}
    }
    for fold in folds:
        (folder / f"fold_{fold}" / "threshold.json").write_text(json.dumps(content))
        (folder / f"fold_{fold}" / "checkpoint_tuned.pth").touch()


# The lesions have the probabilities 0.9, 0.4 and 0.2, a false prediction 0.3.
PROBABILITY = sum(p * lesions(*(n == at for n in range(4))) for at, p in enumerate((0.9, 0.4, 0.2, 0.3)))


def test_a_tuned_model_is_judged_at_thresholds_chosen_on_other_cases(root, capsys):
    train(root, OWN)
    folder = train(root, PQ, probability=PROBABILITY)
    tune(folder, {"0": Setting(0.35), "1": Setting(0.1)}, best=Setting(0.25))
    compare()
    tuned = f"{PQ} (tuned)"
    assert missed(root)[0] == {OWN: 8, PQ: 8, tuned: 2 * 1 + 2 * 0}
    false = {row["case"]: row["false_instances"] for row in read_rows(out(root) / "cases.csv") if row["model"] == tuned}
    assert false == {"c0": 0, "c1": 0, "c2": 1, "c3": 1}
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(out(root) / "tuned" / PQ / "c0.png")))
    np.testing.assert_array_equal(written, lesions(1, 1, 0, 0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"To predict with {tuned}:",
        f"  nnUNetv2_predict -d 7 -c 2d -tr {PQ} -f 0 1 -i IMAGES -o PREDICTIONS -chk checkpoint_tuned.pth",
    ]
    compare()  # again, into the same folder
    assert missed(root)[0][tuned] == 2


def test_a_tuned_model_that_removes_small_lesions_is_predicted_with_postprocess(root, capsys):
    folder = train(root, PQ, probability=PROBABILITY)
    setting = Setting(0.1, minimum_volume_mm3=2.0)
    tune(folder, {"0": setting, "1": Setting(0.1)}, best=setting)
    compare()
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:3] == ["nnunet_ici", "postprocess", str(out(root) / "rule.json")]
    (root / "INPUT").mkdir()
    write(root / "INPUT" / "x.png", lesions(1, 1, 1, 1))  # as predicted by the tuned checkpoints
    assert main([*command[1:3], "-i", str(root / "INPUT"), "-o", str(root / "OUTPUT"), "-np", "1"]) == 0
    cleaned = sitk.GetArrayFromImage(sitk.ReadImage(str(root / "OUTPUT" / "x.png")))
    np.testing.assert_array_equal(cleaned, lesions(1, 0, 0, 0))


def test_rules_that_change_nothing_or_are_not_in_all_folds_make_no_model(root):
    folder = train(root, PQ, probability=PROBABILITY)
    tune(folder, {"0": Setting(0.4), "1": Setting(0.4)}, best=Setting())
    compare()
    assert list(missed(root)[0]) == [PQ]
    tune(folder, {"0": Setting(0.1), "1": Setting(0.1)}, best=Setting(0.1))
    (folder / "fold_1" / "checkpoint_tuned.pth").unlink()
    compare()
    assert list(missed(root)[0]) == [PQ]
    compare("-f", "0")
    assert list(missed(root)[0]) == [PQ, f"{PQ} (tuned)"]


def test_tuned_predictions_need_probabilities(root, capsys):
    folder = train(root, PQ)
    tune(folder, {"0": Setting(0.1), "1": Setting(0.1)}, best=Setting(0.1))
    compare()
    message = f"{PQ} is compared at 0.5, not at its tuned threshold (lesion-wise Dice 0.500 instead of 0.250), as --npz"
    message += " was not given: "
    assert f"{message}nnUNetv2_train 7 2d 0 -tr {PQ} --npz --val, also fold 1\n" in capsys.readouterr().out


def test_a_rule_that_does_not_fit_is_left_out(root, capsys):
    folder = train(root, PQ, probability=PROBABILITY)
    tune(folder, {"0": Setting(0.1), "1": Setting(0.1)}, best=Setting(0.1))
    path = folder / "fold_0" / "threshold.json"
    content = path.read_text()
    path.write_text(content.replace('"c1"', '"c9"'))
    compare()
    assert list(missed(root)[0]) == [PQ]
    message = "Expected: a setting chosen without case c1. Got: none. Try: nnUNetv2_train 7 2d 0 -tr nnUNetTrainerPQ"
    assert f"{PQ}: no tuned predictions. {path} does not fit the validation. {message}" in capsys.readouterr().out
    with zipfile.ZipFile(folder / "fold_0" / "checkpoint_final.pth", "w") as file:
        file.writestr("archive/data/0", "trained again")
    network = {"fold_0": {"checkpoint": "checkpoint_final.pth", "fingerprint": "0123456789abcdef"}}
    path.write_text(json.dumps(json.loads(content) | {"network": network}))
    compare()
    assert list(missed(root)[0]) == [PQ]
    assert "checkpoint_tuned.pth belongs to an earlier network. Expected:" in capsys.readouterr().out


def test_an_output_that_is_a_file(root, capsys):
    train(root, PQ)
    (root / "file").touch()
    compare("-o", str(root / "file"), expected=1)
    assert "-o is not usable. Expected: a folder" in capsys.readouterr().err


def test_nothing_is_left_behind_if_a_file_cannot_be_used(root, capsys):
    folder = train(root, PQ, probability=PROBABILITY)
    tune(folder, {"0": Setting(0.1), "1": Setting(0.1)}, best=Setting(0.1))
    write(root / "nnUNet_raw" / DATASET / "labelsTr" / "c3.png", np.zeros((5, 5), np.uint8))
    compare(expected=1)
    assert "differs in shape from its ground truth" in capsys.readouterr().err and not out(root).exists()
