"""The rule, the sweep and the choice, against plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nnunet_ici.evaluation.cross_validation import read_folds
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.postprocessing.choice import Choice, choose, draw_folds, match_folds, metric_values
from nnunet_ici.postprocessing.rule import Rule, Setting, read_rule
from nnunet_ici.postprocessing.sweep import STATISTICS, Grid, sweep_case
from nnunet_ici.postprocessing.tune_report import Tuned, notes
from tests.reference_postprocessing import GRID, LABELS, REGIONS, naive_mask, naive_scores, smooth


def test_a_small_component_stays_for_its_peak():
    prob = np.zeros((3, 9), np.float32)
    prob[0, 0:2], prob[0, 4], prob[2, 7:9], prob[2, 0] = 0.6, 0.95, 0.55, 0.45
    assert np.argwhere(Setting(0.5, 4, 0.9).mask(prob, 2.0)).tolist() == [[0, 0], [0, 1], [0, 4], [2, 7], [2, 8]]
    assert np.argwhere(Setting(0.5, 4).mask(prob, 1.0)).tolist() == []
    assert np.argwhere(Setting(0.4, 0).mask(prob, 1.0)).shape == (6, 2)
    assert np.argwhere(Setting(0.5, 1.5, 0.6).mask(prob, 1.0)).tolist() == [[0, 0], [0, 1], [0, 4], [2, 7], [2, 8]]


def test_a_component_of_the_smallest_volume_stays_whatever_the_rounding():
    prob = np.ones((1, 10), np.float32)
    assert Setting(0.5, 1.0).mask(prob, float(np.float32(0.1)) * (1 - 1e-7)).all()
    assert not Setting(0.5, 1.0).mask(prob, 0.0999).any()


def test_the_threshold_is_not_part_of_the_mask():
    prob = np.array([[0.3, np.nextafter(np.float32(0.3), np.float32(1))]], np.float32)
    assert Setting(0.3).mask(prob, 1.0).tolist() == [[False, True]]


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (1, 5, 6)])
def test_nothing_above_the_threshold_is_an_empty_mask(shape):
    assert not Setting(0.5, 3, 0.9).mask(np.zeros(shape, np.float32), 1.0).any()


def test_labels_go_to_the_highest_probability_among_the_masks(rng):
    settings = {"edema": Setting(0.2, 4.0, 0.8), "core": Setting(0.35, 2.0)}
    prob = smooth(rng, (8, 9, 10), 3)
    prob /= prob.sum(0)
    got = Rule(LABELS, settings).apply(prob, 0.5)
    masks = {name: naive_mask(prob[i + 1], settings[name], 0.5) for i, name in enumerate(settings)}
    for voxel in np.ndindex(got.shape):
        candidates = [(prob[i + 1][voxel], -i) for i, name in enumerate(settings) if masks[name][voxel]]
        assert got[voxel] == (1 - max(candidates)[1] if candidates else 0)
    assert (masks["edema"] & masks["core"]).any() and np.isin([0, 1, 2], got).all()


def test_regions_are_written_in_nnunets_order(rng):
    prob = smooth(rng, (8, 9, 10), 2)
    settings = {"whole": Setting(0.4, 3.0), "core": Setting(0.6)}
    got = Rule(REGIONS, settings, (1, 2)).apply(prob, 1.0)
    whole, core = naive_mask(prob[0], settings["whole"], 1.0), prob[1] > np.float32(0.6)
    np.testing.assert_array_equal(got, np.where(core, 2, whole))


def test_without_classes_the_values_are_the_channels(rng):
    prob = smooth(rng, (7, 8), 4)
    prob /= prob.sum(0)
    rule = Rule(LabelScheme({"foreground": ()}), {"foreground": Setting(0.6)})
    expected = np.where(1 - prob[0] > 0.6, 1 + prob[1:].argmax(0), 0)
    np.testing.assert_array_equal(rule.apply(prob, 1.0), expected)


def test_label_maps_alone():
    label_map = np.array([[1, 1, 0, 2, 0, 1, 0, 2, 2, 2]], np.uint8)
    rule = Rule(LABELS, {"edema": Setting(0.5, 2), "core": Setting(0.5, 3)})
    assert rule.apply_to_label_map(label_map, 1.0).tolist() == [[1, 1, 0, 0, 0, 0, 0, 2, 2, 2]]
    regions = Rule(REGIONS, {"whole": Setting(0.5, 2), "core": Setting(0.5, 2)}, (1, 2))
    label_map = np.array([[1, 2, 1, 0, 2, 0, 2, 2]], np.uint8)  # a small core inside a whole is whole
    assert regions.apply_to_label_map(label_map, 1.0).tolist() == [[1, 1, 1, 0, 0, 0, 2, 2]]
    foreground = Rule(LabelScheme({"foreground": ()}), {"foreground": Setting(0.5, 2)})
    assert foreground.apply_to_label_map(np.array([[7, 3, 0, 7]]), 1.0).tolist() == [[7, 3, 0, 0]]
    with pytest.raises(ValueError, match=r"the rule needs probabilities\. Expected: --save_probabilities"):
        Rule(LABELS, {"edema": Setting(0.4), "core": Setting()}).apply_to_label_map(label_map, 1.0)


@pytest.mark.parametrize(
    ("setting", "needed"),
    [(Setting(), False), (Setting(0.5, 9), False), (Setting(0.4), True), (Setting(0.5, 9, 0.8), True)],
)
def test_what_needs_probabilities(setting, needed):
    assert setting.needs_probabilities == needed


def test_a_rule_survives_its_json(tmp_path):
    rule = Rule(
        LabelScheme(REGIONS.classes, None, ".nii.gz"), {"whole": Setting(0.4, 10, 0.9), "core": Setting()}, (1, 2)
    )
    (tmp_path / "rule.json").write_text(json.dumps(rule.to_json()))
    assert read_rule(tmp_path / "rule.json") == rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is not a rule. Expected: an object of format 1. Got: format 2"),
        ({"classes": {"a": 1}}, "classes. Expected: lists of integers by name."),
        ({"classes": {}}, "classes. Expected: lists of integers by name."),
        ({"rule": {}}, "rule. Expected: one setting each for lesion. Got: "),
        ({"rule": {"lesion": {"threshold": 0.5}}}, "lesion: not a setting. Expected: threshold, minimum_volume_mm3, "),
        ({"file_ending": 1}, "file_ending. Expected: a string or null. Got: 1"),
        ({"regions_class_order": [1]}, "regions_class_order. Expected: null, as there are no regions. Got:"),
        ({"classes": {"lesion": [1, 2]}}, "regions_class_order. Expected: 1 integer. Got: null"),
    ],
)
def test_bad_rules(tmp_path, change, message):
    rule = Rule(LabelScheme({"lesion": (1,)}), {"lesion": Setting()})
    path = tmp_path / "rule.json"
    path.write_text(json.dumps(rule.to_json() | change))
    with pytest.raises(ValueError) as error:
        read_rule(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_bad_values_in_one_message(tmp_path):
    values = {"threshold": 1.0, "minimum_volume_mm3": -1, "peak_probability": "high"}
    rule = Rule(LabelScheme({"lesion": (1,)}), {"lesion": Setting()}).to_json() | {"rule": {"lesion": values}}
    path = tmp_path / "rule.json"
    path.write_text(json.dumps(rule))
    with pytest.raises(ValueError) as error:
        read_rule(path)
    assert "lesion: threshold. Expected: a number of at least 0 and below 1. Got: 1.0" in str(error.value)
    assert "lesion: minimum_volume_mm3. Expected: a number of at least 0. Got: -1" in str(error.value)
    assert 'lesion: peak_probability. Expected: a number from 0 to 1 or null. Got: "high"' in str(error.value)
    for content in ("", "[]", "{"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"is not a rule|cannot be read\. Expected: a rule of nnunet_ici tune"):
            read_rule(path)


# The search


@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize(("shape", "voxel_mm3"), [((24, 30), 1.0), ((24, 30), 0.7), ((10, 12, 14), 2.4)])
def test_the_sweep_equals_plain_loops(rng, shape, voxel_mm3, ignoring):
    prob = smooth(rng, shape)
    label = smooth(rng, shape) > 0.8
    counts = rng.random(shape) > 0.2 if ignoring else None
    settings = GRID.settings()
    got = sweep_case(prob, label, settings, voxel_mm3, counts)
    assert got.shape == (len(settings), len(STATISTICS)) and len(np.unique(got, axis=0)) > 5
    for setting, scores in zip(settings, got, strict=True):
        mask = naive_mask(prob, setting, voxel_mm3)
        np.testing.assert_array_equal(setting.mask(prob, voxel_mm3), mask)
        expected = naive_scores(label, mask) if counts is None else naive_scores(label & counts, mask & counts)
        assert scores.tolist() == pytest.approx(expected, abs=1e-12), setting


def test_empty_label_and_empty_prediction():
    nothing, lesion = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    lesion[1, 2, 3] = True
    settings = [Setting(), Setting(0.5, 2), Setting(0.5, 2, 0.9)]
    assert sweep_case(nothing.astype(np.float32), nothing, settings, 1.0).tolist() == [[1, 1, 0, 0]] * 3
    assert sweep_case(nothing.astype(np.float32), lesion, settings, 1.0).tolist() == [[0, 0, 1, 0]] * 3
    prob = np.float32(0.8) * lesion
    assert sweep_case(prob, nothing, settings, 1.0).tolist() == [[0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert sweep_case(prob, lesion, settings, 1.0).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]


def test_an_ignored_part_saves_a_component_that_is_large_with_it():
    prob, label = np.full((1, 6), 0.8, np.float32), np.zeros((1, 6), bool)
    label[0, 0] = True
    counts = np.array([[True, False, False, False, False, True]])
    (scores,) = sweep_case(prob, label, [Setting(0.5, 6)], 1.0, counts)
    assert scores.tolist() == [2 / 3, 2 / 3, 0, 1]  # the part at the other end counts as false


def test_the_grid_leaves_out_settings_that_do_the_same():
    settings = Grid((0.5, 0.4), (5.0,), (None, 0.4, 0.45)).settings()
    assert settings == [
        Setting(0.5),
        Setting(0.5, 5.0),
        Setting(0.4),
        Setting(0.4, 5.0, 0.45),
        Setting(0.4, 5.0),
    ]
    assert [one.threshold for one in Grid((0.6, 0.4, 0.5), (0.0,), (None,)).settings()] == [0.5, 0.4, 0.6]


# The choice


def test_out_of_fold_by_hand():
    # Four cases, three settings: the fold of cases 2 and 3 is better off with the last one.
    values = np.array([[0.5, 0.6, 0.0], [0.5, 0.6, 0.0], [0.5, 0.0, 1.0], [0.5, 0.0, 1.0]])
    choice = choose(values, [[0, 1], [2, 3]])
    assert choice == Choice(setting=0, by_fold=(2, 1), by_case=(2, 2, 1, 1))
    scores = np.stack([values, values, np.zeros_like(values), np.ones_like(values)], axis=-1)
    tuned = Tuned(4, scores[:, 0], scores, [Setting(), Setting(0.4), Setting(0.3)], choice, [[0, 1], [2, 3]])
    assert tuned.out_of_fold[:, 0].tolist() == [0, 0, 0, 0]
    assert tuned.in_sample[:, 0].tolist() == [0.5, 0.5, 0.5, 0.5] and tuned.setting == Setting()
    (note,) = notes("lesion", tuned, Grid((0.3, 0.5, 0.7), (0.0,), (None,)), "mean")
    assert note == "lesion: no gain out of fold (0.000, nnU-Net's own 0.500); better to leave it unchanged"


def test_notes_on_the_edge_of_the_grid():
    scores = np.zeros((2, 1, 4))
    scores[:, 0, 0] = 1
    tuned = Tuned(1, np.zeros((2, 4)), scores, [Setting(0.3, 20)], choose(scores[..., 0], [[0], [1]]), [[0], [1]])
    found = notes("lesion", tuned, Grid((0.3, 0.5), (0, 20), (None,)), "dice")
    assert found == [
        "lesion: threshold 0.3 is at the edge of the grid; widen it with --thresholds",
        "lesion: 20 mm³ is at the edge of the grid; widen it with --volumes-mm3",
    ]


def test_metrics():
    scores = np.array([[0.5, 1.0, 3, 4]])
    assert [metric_values(scores, name).tolist() for name in ("mean", "dice", "lesion_f1")] == [
        [0.75],
        [0.5],
        [1.0],
    ]


def test_equal_settings_up_to_rounding_go_to_the_first():
    values = np.array([[0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]])[:, ::-1]
    assert choose(np.vstack([values, values]), [[0, 1], [2, 3]]).setting == 0


def test_drawn_folds():
    names = [f"case{i}" for i in range(11)]
    folds = draw_folds(names, 3, seed=1)
    assert sorted(name for fold in folds for name in fold) == sorted(names) and sorted(map(len, folds)) == [3, 4, 4]
    assert draw_folds(names[::-1], 3, seed=1) == folds != draw_folds(names, 3, seed=2)
    for k in (1, 12):
        with pytest.raises(ValueError, match=f"Expected: 2 to 11, the number of cases. Got: {k}"):
            draw_folds(names, k, seed=0)


def test_folds_of_nnunet(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["b", "c"]}]))
    folds = read_folds(path)
    assert folds == [["a"], ["b", "c"]]
    assert match_folds(folds, ["a", "b", "c"], "f") == ([[0], [1, 2]], [])
    assert match_folds([*folds, ["d"]], ["a", "b", "c"], "f") == ([[0], [1, 2]], [])  # a fold not trained
    _, problems = match_folds(folds, ["b", "x"], "f")
    assert problems == [
        "f: case x is in no folds. Expected: in val of exactly one. Got: 0",
        "f: a fold is incomplete. Expected: probabilities of all its 2 cases. Got: none for c",
        "f: too few folds. Expected: two or more with probabilities (--k makes folds of the available cases). Got: 1",
    ]
    _, problems = match_folds([["a"], ["a", "b"]], ["a", "b"], "f")
    assert problems == ["f: case a is in 2 folds. Expected: in val of exactly one. Got: 2"]
    for content in ("[]", "{}", '[{"val": "a"}]', "[1]", "null"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"holds no folds\. Expected: a list of"):
            read_folds(path)
    with pytest.raises(ValueError, match=r"none.json cannot be read. Expected: a splits_final.json"):
        read_folds(tmp_path / "none.json")


# The commands
