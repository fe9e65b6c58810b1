"""The rule, the sweep and the choice, against plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nnunet_ici.evaluation.cross_validation import read_folds
from nnunet_ici.evaluation.labels import LabelScheme
from nnunet_ici.postprocessing.cases import Case
from nnunet_ici.postprocessing.choice import Grid, choose, draw_folds, match_folds
from nnunet_ici.postprocessing.rule import Rule, Setting, read_rule
from nnunet_ici.postprocessing.sweep import (
    CHOICES,
    STATISTICS,
    THRESHOLDS,
    Sweep,
    column,
    logit,
    refined,
    score_case,
)
from nnunet_ici.postprocessing.tune_report import notes
from tests.reference_postprocessing import (
    LABELS,
    REGIONS,
    SETTINGS,
    naive_label_map,
    naive_mask,
    naive_scores,
    smooth,
)

LESION = LabelScheme({"lesion": (1,)})


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


def lesion_rule(*setting):
    return Rule(LESION, {"lesion": Setting(*setting)})


def lesion_case(prob, label, spacing=(1.0, 1.0), name="a", rule=None):
    return Case.of(name, label.astype(np.uint8), np.stack([1 - prob, prob]), spacing, rule or lesion_rule(), 0.02)


def scored(case, rules, scheme=LESION, name="lesion"):
    return score_case(case, [(name, one) for one in rules], STATISTICS, Rule(scheme, {}))


@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), [((24, 30), (1, 1)), ((24, 30), (0.7, 1)), ((10, 12, 14), (2, 1.2, 1))])
def test_settings_are_scored_as_in_plain_loops(rng, shape, spacing, ignoring):
    prob, scheme = smooth(rng, shape), LabelScheme({"lesion": (1,)}, ignore=2 if ignoring else None)
    label = (smooth(rng, shape) > 0.8).astype(np.uint8)
    if ignoring:
        label[rng.random(shape) > 0.8] = 2
    case = lesion_case(prob, label, spacing, rule=Rule(scheme, {}))
    got = scored(case, [lesion_rule(*vars(one).values()) for one in SETTINGS], scheme)
    assert len(np.unique(got, axis=0)) > 5
    for setting, scores in zip(SETTINGS, got, strict=True):
        mask = naive_mask(prob, setting, np.prod(spacing)) & (label != 2)
        assert scores.tolist() == pytest.approx(naive_scores(label == 1, mask), abs=1e-12), setting
    (plain,) = score_case(case, [("lesion", None)], STATISTICS, Rule(scheme, {}))
    assert plain.tolist() == pytest.approx(naive_scores(label == 1, (prob > 0.5) & (label != 2)))


@pytest.mark.parametrize(
    ("scheme", "order"), [(REGIONS, (1, 2)), (LabelScheme({"core": (2,), "whole": (1, 2)}), (2, 1)), (LABELS, None)]
)
def test_what_is_scored_is_what_is_written(rng, scheme, order):
    """Regions that overwrite each other, also a smaller one; and labels whose masks overlap."""
    prob = smooth(rng, (6, 9, 8), 2 if order else 3)
    prob /= 1 if order else prob.sum(0)
    label = rng.integers(0, 3, (6, 9, 8))
    settings = [Setting(0.3, 3.0), Setting(0.25)]
    rule = Rule(scheme, dict(zip(scheme.classes, settings, strict=True)), order)
    case = Case.of("a", label, prob, (1, 1, 1), rule, 0.02)
    written = naive_label_map(prob, settings, scheme, order, 1.0)
    for name, values in scheme.classes.items():
        (scores,) = scored(case, [rule], scheme, name)
        assert scores.tolist() == pytest.approx(naive_scores(np.isin(label, values), np.isin(written, values)))
    plain = case.spread(case.plain)
    if order is None:
        assert plain.sum() == prob.argmax(0).sum()
    else:
        half = naive_label_map(prob, [Setting(), Setting()], scheme, order, 1.0)
        assert plain.sum() == half.sum() and (plain > 0).sum() == (half > 0).sum()


def test_a_region_hidden_by_a_later_one_is_named(rng):
    scheme = LabelScheme({"core": (2,), "whole": (1, 2)})
    prob = np.stack([smooth(rng, (8, 9)), np.ones((8, 9), np.float32)])
    rule = Rule(scheme, {"core": Setting(), "whole": Setting()}, (2, 1))
    assert rule.hidden_regions() == {"core": "whole"} and not (rule.apply(prob, 1.0) == 2).any()
    assert Rule(REGIONS, rule.settings, (1, 2)).hidden_regions() == {}
    label = 1 + (prob[0] > 0.6)
    cases = [Case.of(str(i), label, prob, (1, 1), rule, 0.02) for i in range(2)]
    choice = choose(Sweep(cases, rule), [[0], [1]], Grid())
    assert not choice.sweep.scores("core", choice.best)[:, STATISTICS.index("dice")].any()
    (few, hidden, no_gain) = notes(choice, "core", Grid())
    assert hidden.startswith("core: hidden by whole, which contains it and is written later; regions_class_order")
    assert "core: no gain out of fold" in no_gain and "are few" in few


def test_empty_label_and_empty_prediction():
    nothing, lesion = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    lesion[1, 2, 3] = True
    rules = [lesion_rule(), lesion_rule(0.5, 2), lesion_rule(0.5, 2, 0.9)]
    dice_to_false = slice(None), slice(5)

    def of(prob, label):
        return scored(lesion_case(prob.astype(np.float32), label, (1, 1, 1)), rules)[dice_to_false].tolist()

    assert of(nothing, nothing) == [[1, 1, 1, 0, 0]] * 3
    assert of(nothing, lesion) == [[0, 0, 0, 1, 0]] * 3
    assert of(0.8 * lesion, nothing) == [[0, 0, 0, 0, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert of(0.8 * lesion, lesion) == [[1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]]


def test_an_ignored_part_saves_a_component_that_is_large_with_it():
    label = np.array([[1, 2, 2, 2, 2, 0]])
    scheme = LabelScheme({"lesion": (1,)}, ignore=2)
    case = lesion_case(np.full((1, 6), 0.8, np.float32), label, rule=Rule(scheme, {}))
    (scores,) = scored(case, [lesion_rule(0.5, 6)], scheme)
    assert scores.tolist() == [2 / 3, 1 / 2, 2 / 3, 0, 1, 1]  # the part at the other end counts as false


def test_thresholds_are_even_in_the_logit():
    steps = np.diff([logit(one) for one in THRESHOLDS])
    assert len(THRESHOLDS) == 25 and np.allclose(steps, steps[0], atol=1e-3) and 0.5 in THRESHOLDS
    assert round(THRESHOLDS[0], 3) == 0.02 and round(THRESHOLDS[-1], 5) == 0.99999
    assert np.allclose(np.diff([logit(t) for t in refined(0.5, THRESHOLDS)[3:]]), steps[0] / 4, atol=1e-5)
    assert len(refined(0.5, THRESHOLDS)) == 6 and len(refined(THRESHOLDS[-1], THRESHOLDS)) == 3


def test_the_stages_leave_out_settings_that_do_the_same():
    grid = Grid((0.4, 0.6, 0.5), False, (5.0, 0.0), (None, 0.4, 0.45))
    assert grid.stage(0, Setting()) == [Setting(0.5), Setting(0.4), Setting(0.6)]
    assert grid.stage(1, Setting(0.4)) == [Setting(0.4)]  # given thresholds are not refined
    assert grid.stage(2, Setting(0.4)) == [Setting(0.4), Setting(0.4, 5.0)]
    assert grid.stage(3, Setting(0.4)) == [Setting(0.4)]
    assert grid.stage(3, Setting(0.4, 5.0)) == [Setting(0.4, 5.0, 0.45), Setting(0.4, 5.0)]


# The choice


def blob_case(high, low, name="a"):
    """A lesion of probability ``high``, and a false component of probability ``low``."""
    prob, label = np.zeros((8, 9), np.float32), np.zeros((8, 9), bool)
    label[1:4, 1:4], prob[1:4, 1:4], prob[5:7, 5:8] = True, high, low
    return lesion_case(prob, label, name=name)


def test_out_of_fold_by_hand():
    # The fold of cases 2 and 3 needs 0.3, which finds the lesion; the others need 0.7, which leaves out what is false.
    cases = [blob_case(0.9, 0.6, "0"), blob_case(0.9, 0.6, "1"), blob_case(0.4, 0.2, "2"), blob_case(0.4, 0.2, "3")]
    choice = choose(Sweep(cases, lesion_rule()), [[0, 1], [2, 3]], Grid((0.3, 0.5, 0.7), refine=False))
    assert [rule.settings["lesion"].threshold for rule in choice.by_fold] == [0.3, 0.7]
    assert choice.out_of_fold("lesion")[:, 2].tolist() == [2 / 3, 2 / 3, 0, 0] and choice.best == lesion_rule(0.3)
    assert choice.sweep.scores("lesion", choice.best)[:, 2].tolist() == [2 / 3, 2 / 3, 1, 1]
    assert not choice.gains("lesion") and choice.rule == lesion_rule(0.5)
    few, no_gain = notes(choice, "lesion", Grid((0.3, 0.5, 0.7)))
    gain = "+0.000 (95 % interval +0.000 to +0.000)"
    assert few == f"lesion: 4 lesions in 4 cases are few; the gain out of fold is {gain}"
    assert no_gain == f"lesion: no gain out of fold ({gain}); 0.5 stays"


def test_a_gain_is_found_between_the_thresholds():
    """False components at 0.92 and 0.94 beside a lesion at 0.95: no threshold of the coarse grid parts the last two."""
    prob, label = np.zeros((8, 9), np.float32), np.zeros((8, 9), bool)
    prob[1:4, 1:4], label[1:4, 1:4], prob[5, 5:8], prob[7, 5:8] = 0.95, True, 0.92, 0.94
    cases = [lesion_case(prob, label, name=str(i)) for i in range(6)]
    choice = choose(Sweep(cases, lesion_rule()), [[0, 1, 2], [3, 4, 5]], Grid())
    assert not any(0.94 <= one < 0.95 for one in THRESHOLDS)
    assert 0.94 <= choice.rule.settings["lesion"].threshold < 0.95 and choice.gain("lesion").low > 0
    assert len(choice.tried["lesion"]) == 31


def test_a_flood_does_not_win():
    """A lesion of 64 voxels, and a region that covers it: F1 would be perfect, the default prefers the lesion."""
    prob, label = np.full((70, 70), 0.04, np.float32), np.zeros((70, 70), bool)
    prob[10:18, 10:18], label[10:18, 10:18], prob[40:42, 40:43] = 0.4, True, 0.45
    cases = [lesion_case(prob, label, name=str(i)) for i in range(2)]
    assert choose(Sweep(cases, lesion_rule()), [[0], [1]], Grid()).rule.settings["lesion"].threshold > 0.04
    by_f1 = choose(Sweep(cases, lesion_rule(), "lesion_f1"), [[0], [1]], Grid())
    assert by_f1.rule.settings["lesion"].threshold < 0.04


def test_notes_on_the_edge_of_the_grid():
    grid = Grid((0.3, 0.9993), False, (2, 6), (None,))
    prob, label = np.zeros((9, 9), np.float32), np.zeros((9, 9), bool)
    label[:3, :3], prob[:3, :3], prob[5:7, 5:7] = True, 0.99951171875, 0.99951171875
    cases = [lesion_case(prob, label, name=str(i)) for i in range(5)]
    choice = choose(Sweep(cases, lesion_rule()), [[0, 1], [2, 3, 4]], grid)
    assert choice.rule == lesion_rule(0.3, 6)
    found = notes(choice, "lesion", grid)[1:]
    assert found == [
        "lesion: threshold 0.3 is at the edge of the grid; widen it with --thresholds",
        "lesion: 6 mm³ is at the edge of the grid; widen it with --volumes-mm3",
    ]


def test_probabilities_of_half_precision_are_recognized(rng):
    prob = np.minimum(smooth(rng, (8, 9)), 0.9)
    prob[0, 0], prob[7, 8] = 1, 0.9994
    label = np.zeros((8, 9), np.uint8)
    label[0, 0] = 1
    both = np.stack([1 - prob, prob]).astype(np.float16).astype(np.float32)
    cases = [Case.of(str(i), label, both, (1, 1), lesion_rule(), 0.02) for i in range(2)]
    exact = [lesion_case(smooth(rng, (8, 9)), label)]
    assert [case.half_precision for case in (*cases, *exact)] == [True, True, False]
    choice = choose(Sweep(cases, lesion_rule()), [[0], [1]], Grid())
    assert choice.rule.settings["lesion"].threshold > 0.999
    assert (
        "of 2 cases were stored in half precision, which has no number between 0.9995 and 1"
        in (notes(choice, "lesion", Grid())[-1])
    )


def test_metrics():
    scores = np.array([[0.5, 1.0, 0.25, 3, 4, 5, 7.0]])
    values = {name: column(scores, name).tolist() for name in ("mean", "dice", "lesion_f1")}
    assert values == {"mean": [0.75], "dice": [0.5], "lesion_f1": [0.25]}
    assert column(scores, "false_instances").tolist() == [-4]
    assert column(scores, "volume_difference_ml").tolist() == [-7]
    assert {"panoptic_quality", "brats_lesion_hd95_mm", "lesion_f1_faces"} < set(CHOICES)
    assert not {"pr_auc", "label_instances"} & set(CHOICES)


def test_any_metric_of_evaluate_chooses_and_one_without_a_value_is_refused():
    cases = [blob_case(0.9, 0.6, str(i)) for i in range(2)]
    for metric in CHOICES:
        choice = choose(Sweep(cases, lesion_rule(), metric), [[0], [1]], Grid((0.3, 0.5, 0.7), refine=False))
        finds_only = metric in ("lesion_recall", "missed_instances", "all_missed", "mostly_outside", "brats_missed")
        assert choice.best == lesion_rule(0.5 if finds_only else 0.7), metric
    empty = [lesion_case(np.zeros((8, 9), np.float32), np.zeros((8, 9), bool), name=str(i)) for i in range(2)]
    with pytest.raises(ValueError, match=r"--metric lesion_recall has no value for lesion\. Expected: a metric"):
        choose(Sweep(empty, lesion_rule(), "lesion_recall"), [[0], [1]], Grid())


def test_a_minimum_overlap():
    """A lesion of nine voxels: at 0.5 one of them is predicted, at 0.3 all and a ring around them."""
    prob, label = np.zeros((9, 9), np.float32), np.zeros((9, 9), bool)
    label[3:6, 3:6], prob[2:7, 2:7], prob[4, 4] = True, 0.4, 0.6
    cases = [lesion_case(prob, label, name=str(i)) for i in range(2)]
    chosen = {}
    for overlap in (0.0, 0.3):
        sweep = Sweep(cases, lesion_rule(), "lesion_f1", overlap)
        chosen[overlap] = choose(sweep, [[0], [1]], Grid((0.3, 0.5), refine=False)).best.settings["lesion"].threshold
    assert chosen == {0.0: 0.5, 0.3: 0.3}


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
