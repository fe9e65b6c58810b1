"""``nnunet_ici tune`` and ``postprocess`` on folders."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.cli import main
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.postprocessing.cases import Case
from nnunet_ici.postprocessing.rule import Rule, Setting, read_rule
from nnunet_ici.postprocessing.sweep import STATISTICS, score_case
from tests.reference_postprocessing import LABELS, REGIONS, SETTINGS, naive_label_map, naive_mask, naive_scores
from tests.tune_command import DECLARED, gather, make, postprocess, read, tune, write


def naive_choice(cases, scheme, order, subset):
    """The stages of tune in plain loops, on the cases (label, probabilities) of a subset; and the scores of a rule."""
    settings = dict.fromkeys(scheme.classes, Setting())

    def scores(chosen, name, case):
        written = naive_label_map(case[1], chosen.values(), scheme, order, 1.0)
        return naive_scores(*(np.isin(one, scheme.classes[name]) for one in (case[0], written)))

    for name in reversed(scheme.classes):
        for stage in range(3):
            t, v, _ = vars(settings[name]).values()
            peaks = [0.9, None] if t < 0.9 and v else [None]
            options = [[Setting(t) for t in (0.5, 0.3, 0.7)], [Setting(t, v) for v in (0, 3, 8)], peaks][stage]
            options = [one if isinstance(one, Setting) else Setting(t, v, one) for one in options]
            means = [np.mean([scores(settings | {name: one}, name, cases[i])[:2] for i in subset]) for one in options]
            settings[name] = options[int(np.flatnonzero(np.array(means) >= max(means) - 1e-12)[0])]
    return settings, scores


@pytest.mark.parametrize("kind", ["lesion", "labels", "regions"])
def test_tune_equals_plain_loops(tmp_path, kind):
    make(tmp_path, kind)
    report = tune(tmp_path, "--force")
    scheme = {"labels": LABELS, "regions": REGIONS, "lesion": LabelScheme({"lesion": (1,)})}[kind]
    cases = []
    for index in range(6):
        prob = np.load(tmp_path / f"fold_{index % 2}" / f"case{index}.npz")["probabilities"]
        cases.append((read(tmp_path / "gt" / f"case{index}.nii.gz"), prob))
    order = (1, 2) if kind == "regions" else None
    best, scores = naive_choice(cases, scheme, order, range(6))
    assert read_rule(tmp_path / "rule.json").settings == best
    for name in scheme.classes:
        written = report["scores"][name]
        expected = np.array([scores(best, name, case) for case in cases])
        for statistic, values in zip(STATISTICS, expected.T, strict=True):
            total = np.sum if statistic.endswith("instances") else np.mean
            assert written["in_sample"][statistic] == pytest.approx(total(values))
        assert written["lesions"] == expected[:, 5].sum()
        held_out = np.zeros(6)
        for fold in written["folds"]:
            inside = [index for index in range(6) if f"case{index}" in fold["cases"]]
            chosen, _ = naive_choice(cases, scheme, order, [index for index in range(6) if index not in inside])
            assert fold["setting"] == vars(chosen[name])
            held_out[inside] = [np.mean(scores(chosen, name, cases[index])[:2]) for index in inside]
        assert written["out_of_fold"]["mean"] == pytest.approx(held_out.mean())
        assert written["gain"]["difference"] == pytest.approx(held_out.mean() - written["plain"]["mean"])


@pytest.mark.parametrize("kind", ["lesion", "regions"])
def test_what_is_applied_is_what_was_scored(tmp_path, kind):
    """The label maps that postprocess writes have the scores that the search saw."""
    make(tmp_path, kind, cases=2)
    gather(tmp_path)
    names = [name for name in DECLARED[kind]["labels"] if name != "background"]
    scheme = LabelScheme({name: tuple(np.ravel(DECLARED[kind]["labels"][name]).tolist()) for name in names})
    order = (1, 2) if kind == "regions" else None
    for number, setting in enumerate(SETTINGS):
        rule = Rule(scheme, dict.fromkeys(names, setting), order)
        (tmp_path / "rule.json").write_text(json.dumps(rule.to_json()))
        postprocess(tmp_path, "all", out=f"out{number}")
        for case in ("case0", "case1"):
            label, got = read(tmp_path / "gt" / f"{case}.nii.gz"), read(tmp_path / f"out{number}" / f"{case}.nii.gz")
            prob = np.load(tmp_path / "all" / f"{case}.npz")["probabilities"]
            jobs = [(name, rule) for name in names]
            scored = score_case(Case.of(case, label, prob, (2, 1, 0.5), rule, 0.3), jobs, STATISTICS, rule)
            expected = [naive_scores(*scheme.masks(name, label, got)) for name in names]
            assert scored == pytest.approx(np.array(expected)), (setting, case)


def test_without_a_gain_nothing_but_a_plain_rule_is_written(tmp_path, capsys):
    make(tmp_path, "lesion", cases=4)
    for index in range(4):  # the prediction is the ground truth
        shutil.copy(tmp_path / f"fold_{index % 2}" / f"case{index}.nii.gz", tmp_path / "gt")
    report = tune(tmp_path)
    out = capsys.readouterr().out
    assert "no gain out of fold: 0.5 stays, and no checkpoint is written (--force writes the choice)" in out
    assert "lesions in 4 cases are few; the gain out of fold is +0.000 (95 % interval +0.000 to +0.000)" in out
    assert report["rule"]["lesion"] == vars(Setting())


def test_report_and_output(tmp_path, capsys):
    make(tmp_path, "lesion")
    report = tune(tmp_path, "--metric", "dice")
    out = capsys.readouterr().out
    assert report["rule"]["lesion"]["threshold"] == 0.3  # the label was cut at 0.35
    assert "classes: lesion (1)" in out and "\nlesion  chosen, out of fold " in out and "lesion: above 0.3" in out
    assert report["metric"] == "dice" and report["grid"]["peaks"] == [None, 0.9]
    assert report["files"]["case0"]["probabilities"] == str(tmp_path / "fold_0" / "case0.npz")
    assert report["folds"] == "3 drawn with seed 0" and report["versions"]["numpy"] == np.__version__
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "fold_0", "fold_1", "gt", "rule.json"]


def test_several_processes_and_folds_of_nnunet(tmp_path):
    make(tmp_path, "lesion")
    val = [["case0", "case2", "case4"], ["case1", "case3", "case5"]]
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": [], "val": fold} for fold in val]))
    arguments = ["tune", "-gt", str(tmp_path / "gt"), "-prob", str(tmp_path / "fold_0"), str(tmp_path / "fold_1")]
    arguments += ["--folds", str(tmp_path / "splits_final.json"), "--thresholds", "0.4", "0.5"]
    for processes in ("1", "2"):
        assert main([*arguments, "-np", processes, "-o", str(tmp_path / f"{processes}.json")]) == 0
    one, two = (json.loads((tmp_path / f"{processes}.json").read_text()) for processes in "12")
    assert [fold["cases"] for fold in one["scores"]["lesion"]["folds"]] == val
    assert one["scores"] == two["scores"] and one["rule"] == two["rule"]


def test_the_trainers_folder_says_what_labels_mean(tmp_path):
    make(tmp_path, "lesion")
    (tmp_path / "dataset.json").rename(tmp_path / "model.json")
    for number in (0, 1):
        (tmp_path / f"fold_{number}" / "dataset.json").unlink()
        shutil.move(tmp_path / f"fold_{number}", tmp_path / "model" / f"fold_{number}" / "validation")
    shutil.move(tmp_path / "model.json", tmp_path / "model" / "dataset.json")
    folders = [str(tmp_path / "model" / f"fold_{number}" / "validation") for number in (0, 1)]
    out = tmp_path / "rule.json"
    arguments = ["-gt", str(tmp_path / "gt"), "-prob", *folders, "-o", str(out), "-np", "1", "--thresholds", "0.5"]
    assert main(["tune", *arguments]) == 0
    assert list(json.loads(out.read_text())["rule"]) == ["lesion"]


def test_without_a_dataset_json(tmp_path, capsys):
    make(tmp_path, "lesion")
    for path in tmp_path.rglob("dataset.json"):
        path.unlink()
    report = tune(tmp_path)
    assert "no dataset.json found, all values above 0 form one class" in capsys.readouterr().out
    assert report["classes"] == {"foreground": []} and report["file_ending"] == ".nii.gz"
    postprocess(tmp_path)
    prob = np.load(tmp_path / "fold_0" / "case0.npz")["probabilities"]
    expected = naive_mask(prob[1], read_rule(tmp_path / "rule.json").settings["foreground"], 1.0)
    np.testing.assert_array_equal(read(tmp_path / "out" / "case0.nii.gz"), expected)
    write(tmp_path / "gt" / "case9.nrrd", np.zeros((6, 12, 14), np.uint8))
    tune(tmp_path, expected=1)
    assert "the file ending of the label maps is ambiguous. Expected: one of .nii.gz" in capsys.readouterr().err


def test_geometry_and_copies(tmp_path, capsys):
    make(tmp_path, "lesion")
    tune(tmp_path)
    (tmp_path / "fold_0" / "plans.json").write_text("{}")
    (tmp_path / "out").mkdir()  # an empty folder may exist
    postprocess(tmp_path)
    assert "3 cases, 3 from probabilities: " in capsys.readouterr().out
    names = ["case0.nii.gz", "case2.nii.gz", "case4.nii.gz", "dataset.json", "plans.json", "postprocessing.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / "postprocessing.json").read_bytes() == (tmp_path / "rule.json").read_bytes()
    before, after = (sitk.ReadImage(str(tmp_path / folder / "case0.nii.gz")) for folder in ("fold_0", "out"))
    assert after.GetSpacing() == before.GetSpacing() == (0.5, 1.0, 2.0)
    assert after.GetOrigin() == before.GetOrigin() and after.GetDirection() == before.GetDirection()
    assert after.GetPixelID() == sitk.sitkUInt8
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("ending", "spacing", "pixel"), [(".png", None, 1.0), (".nii.gz", (0.5, 0.5), 0.25)])
def test_flat_images(tmp_path, ending, spacing, pixel):
    make(tmp_path, "lesion", ending, (20, 24), spacing)
    tune(tmp_path)
    postprocess(tmp_path)
    setting = read_rule(tmp_path / "rule.json").settings["lesion"]
    prob = np.load(tmp_path / "fold_0" / "case0.npz")["probabilities"]
    assert prob.shape == (2, 1, 20, 24)
    expected = naive_mask(prob[1, 0], setting, pixel)
    np.testing.assert_array_equal(read(tmp_path / "out" / f"case0{ending}"), expected)


def test_an_empty_prediction_stays_empty(tmp_path):
    make(tmp_path, "lesion")
    tune(tmp_path)
    empty = np.zeros((2, 6, 12, 14), np.float32)
    empty[0] = 1
    np.savez_compressed(tmp_path / "fold_0" / "case0.npz", probabilities=empty)
    write(tmp_path / "fold_0" / "case0.nii.gz", empty[1].astype(np.uint8))
    postprocess(tmp_path)
    assert not read(tmp_path / "out" / "case0.nii.gz").any()


def test_label_maps_without_probabilities(tmp_path, capsys):
    make(tmp_path, "lesion")
    tune(tmp_path)
    for path in (tmp_path / "fold_0").glob("*.npz"):
        path.unlink()
    postprocess(tmp_path, expected=1)
    err = capsys.readouterr().err
    assert "3 problems, nothing was written:" in err
    npz = tmp_path / "fold_0" / "case0.npz"
    assert f"case case0: the rule needs probabilities. Expected: {npz} (nnUNetv2_predict --save_probabilities)" in err
    rule = json.loads((tmp_path / "rule.json").read_text())
    rule["rule"]["lesion"] = {"threshold": 0.5, "minimum_volume_mm3": 8, "peak_probability": None}
    (tmp_path / "rule.json").write_text(json.dumps(rule))
    postprocess(tmp_path)
    before, after = (read(tmp_path / folder / "case0.nii.gz") for folder in ("fold_0", "out"))
    np.testing.assert_array_equal(after, naive_mask(before.astype(np.float32), Setting(0.5, 8), 1.0))
    assert 0 < after.sum() < before.sum()


def test_an_ensemble_of_nnunet(tmp_path):
    ensembling = pytest.importorskip("nnunetv2.ensembling.ensemble")
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    make(tmp_path, "lesion", cases=4)
    sitk_stuff = {"spacing": (0.5, 1.0, 2.0), "origin": (5.0, -3.0, 2.0), "direction": np.eye(3).ravel().tolist()}
    (tmp_path / "ensemble").mkdir()
    for index in range(4):
        files = [tmp_path / f"fold_{index % 2}" / f"case{index}.npz", tmp_path / "second" / f"case{index}.npz"]
        files[1].parent.mkdir(exist_ok=True)
        prob = np.load(files[0])["probabilities"]
        np.savez(files[1], probabilities=np.roll(prob, 1, axis=3).astype(np.float16))
        with open(files[0].with_suffix(".pkl"), "wb") as file:
            pickle.dump({"sitk_stuff": sitk_stuff}, file)
        manager = LabelManager({"background": 0, "lesion": 1}, None)
        out = str(tmp_path / "ensemble" / f"case{index}")
        ensembling.merge_files([*map(str, files)], out, ".nii.gz", SimpleITKIO(), manager, save_probabilities=True)
    arguments = ["-gt", str(tmp_path / "gt"), "-prob", str(tmp_path / "ensemble"), "-np", "1", "--k", "2"]
    assert main(["tune", *arguments, "-o", str(tmp_path / "rule.json"), "--thresholds", "0.3", "0.4"]) == 0
    postprocess(tmp_path, "ensemble")
    setting = read_rule(tmp_path / "rule.json").settings["lesion"]
    prob = np.load(tmp_path / "ensemble" / "case1.npz")["probabilities"]
    np.testing.assert_array_equal(read(tmp_path / "out" / "case1.nii.gz"), naive_mask(prob[1], setting, 1.0))
