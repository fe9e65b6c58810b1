"""The families of metrics against the naive references, on random masks."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from nnunet_ici.evaluation.families import FAMILIES, METRICS, OLD_NAMES, Pair, evaluate_case, metrics_of
from tests import reference_metrics as reference

DENSITIES = (0, 0.02, 0.1, 0.3, 0.7, 1)


def compare_with_references(label, prediction, spacing_mm, probability=None, families=("atlas22", "isles", "paper")):
    found = evaluate_case(label, prediction, spacing_mm, probability, families)
    expected = {
        "atlas22": lambda: reference.atlas22(label, prediction),
        "isles": lambda: reference.isles(label, prediction, spacing_mm, probability),
        "paper": lambda: reference.paper(label, prediction),
        "detection": lambda: reference.detection(label, prediction),
    }
    wanted = {name: value for family in families for name, value in expected[family]().items()}
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name
    return found


@pytest.mark.parametrize("axes", [2, 3])
def test_random_masks_against_loops(axes, rng):
    seen = set()
    for _ in range(200):
        shape = rng.integers(1, 20 if axes == 2 else 10, size=axes)
        if axes == 3 and rng.random() < 0.2:
            shape[rng.integers(3)] = 1  # a flat volume
        label, prediction = (rng.random(shape) < rng.choice(DENSITIES) for _ in range(2))
        spacing_mm = tuple(rng.choice([0.5, 1, 1.5, 3], size=axes).tolist())
        values = compare_with_references(label, prediction, spacing_mm)
        seen.add((bool(label.any()), bool(prediction.any())))
        assert values["volume_difference_ml"] == pytest.approx(
            values["volume_difference_voxels"] * math.prod(spacing_mm) / 1000
        )
    assert len(seen) == 4  # both, one and none empty


@pytest.mark.parametrize("axes", [2, 3])
def test_random_masks_with_probabilities(axes, rng):
    for _ in range(50):
        shape = tuple(rng.integers(2, 12 if axes == 2 else 6, size=axes))
        label = rng.random(shape) < rng.choice(DENSITIES)
        probability = np.round(rng.random(shape), 2).astype(np.float32)
        compare_with_references(label, probability > 0.5, (1.0,) * axes, probability, families=("isles",))


@pytest.mark.parametrize("axes", [2, 3])
def test_detection_on_random_masks(axes, rng):
    for _ in range(50):
        label, prediction = (rng.random((9, 9, 4)[:axes]) < rng.choice(DENSITIES) for _ in range(2))
        compare_with_references(label, prediction, (1.0,) * axes, families=("detection",))


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        # 3 lesion voxels in 2 lesions, 2 predicted voxels in 2 components; one hit, one miss, one false
        ([1, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1], [0.4, 1, 0, 0.5]),
        ([1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 3, 2, 0]),
        ([0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1], [0, 2, 2, 0]),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1]),
    ],
)
def test_challenges_by_hand(label, prediction, expected):
    label, prediction = np.array([[label]]), np.array([[prediction]])
    values = evaluate_case(label, prediction, spacing_mm=(10.0, 5.0, 4.0))
    assert [values[name] for name in FAMILIES["atlas22"]] == pytest.approx(expected)
    expected = [expected[0], 0.2 * expected[1], *expected[2:]]  # 200 mm3 per voxel
    assert [values[name] for name in FAMILIES["isles"][:-1]] == pytest.approx(expected)


def test_the_counts_of_the_paper_by_hand():
    values = evaluate_case(np.array([[1, 0, 1, 0, 0]]), np.array([[1, 0, 0, 0, 1]]), families=["paper"])
    assert values == {
        "dice": 0.5,
        "label_instances": 2,
        "missed_instances": 1,
        "predicted_instances": 2,
        "false_instances": 1,
        "all_missed": 0,
        "no_mistake": 0,
    }
    assert all(isinstance(value, int) for name, value in values.items() if name != "dice")


@pytest.mark.parametrize(
    ("label", "prediction", "all_missed", "no_mistake"),
    [
        ([1, 0, 1], [1, 0, 0], 0, 0),
        ([1, 0, 1], [0, 1, 0], 1, 0),
        ([1, 0, 1], [1, 1, 1], 0, 1),
        ([1, 0, 0], [1, 0, 1], 0, 0),
        ([0, 0, 0], [0, 0, 0], 0, 1),  # nothing to miss, and nothing missed
        ([0, 0, 0], [0, 0, 1], 0, 0),
    ],
)
def test_cases_of_the_paper(label, prediction, all_missed, no_mistake):
    values = evaluate_case(np.array([label]), np.array([prediction]), families=["paper"])
    assert (values["all_missed"], values["no_mistake"]) == (all_missed, no_mistake)


def test_corners_part_the_two_challenges():
    label, prediction = np.eye(2, dtype=np.uint8), np.array([[1, 0], [0, 0]], np.uint8)
    values = evaluate_case(label, prediction)
    assert (values["lesion_count_difference_faces"], values["lesion_count_difference"]) == (1, 0)
    assert (values["lesion_f1_faces"], values["lesion_f1"]) == (pytest.approx(2 / 3), 1)


def test_spacing_counts_in_ml_only():
    label, prediction = np.array([[1, 1, 1, 1]]), np.array([[1, 0, 0, 0]])
    near, far = (evaluate_case(label, prediction, spacing) for spacing in (None, (20.0, 50.0)))
    assert (near.pop("volume_difference_ml"), far.pop("volume_difference_ml")) == (0.003, 3)
    assert near == far and near["volume_difference_voxels"] == 3


def test_what_needs_probabilities_is_left_out_without_them():
    names = [metric.name for metric in metrics_of(["isles", "detection"], with_probability=False)]
    assert "pr_auc" not in names and "panoptic_quality" in names
    assert [metric.name for metric in metrics_of(["isles"])][-1] == "pr_auc"
    every = [metric.name for metric in metrics_of(list(FAMILIES))]
    assert sorted(every) == sorted(set(METRICS) - {"brats_lesion_hd95_voxels"})
    assert set(OLD_NAMES.values()) - {"found"} < set(METRICS)


def test_without_a_probability_pr_auc_is_nan():
    mask = np.ones((1, 2), bool)
    assert math.isnan(METRICS["pr_auc"].compute(Pair(mask, mask, (1.0, 1.0), 1.0)))
    assert "pr_auc" not in evaluate_case(mask, mask)


def test_a_flood_finds_a_lesion_at_any_overlap_only():
    """A prediction of 4,000 times the lesion's volume that shares one voxel with it."""
    label, prediction = np.zeros((20, 20, 22), bool), np.zeros((20, 20, 22), bool)
    label[0, 0, :2] = True
    prediction[:, :, 1:21] = True  # 8,000 voxels; the lesion has 2
    values = evaluate_case(label, prediction, families=["detection"])
    assert (values["lesion_f1"], values["lesion_recall"], values["lesion_f1_iou10"]) == (1, 1, 0)
    assert values["mostly_outside"] == 1 and values["lesion_dice"] == pytest.approx(2 / 8002)
    strict = evaluate_case(label, prediction, families=["paper", "detection"], overlap=0.1)
    assert (strict["missed_instances"], strict["false_instances"], strict["lesion_f1"]) == (1, 1, 0)
    assert strict["lesion_dice"] == values["lesion_dice"]  # its false lesions touch none


@pytest.mark.parametrize(("overlap", "found"), [(0.0, 2), (0.25, 2), (0.26, 1), (0.5, 1), (0.51, 0)])
def test_found_at_an_overlap(overlap, found):
    label = np.array([[1, 1, 1, 1, 0, 1, 1]])
    prediction = np.array([[1, 0, 0, 0, 0, 1, 0]])  # IoU 1/4 and 1/2
    values = evaluate_case(label, prediction, families=["paper", "detection"], overlap=overlap)
    assert values["missed_instances"] == values["false_instances"] == 2 - found
    assert values["lesion_recall"] == values["lesion_precision"] == values["lesion_f1"] == found / 2


@pytest.mark.parametrize(
    ("prediction", "count"),
    [([1, 1, 0, 0], 0), ([1, 1, 1, 1], 0), ([0, 1, 1, 1], 1), ([0, 0, 1, 1], 0)],  # half inside is not mostly outside
)
def test_mostly_outside(prediction, count):
    assert (
        evaluate_case(np.array([[1, 1, 0, 0]]), np.array([prediction]), families=["detection"])["mostly_outside"]
        == count
    )


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        ([0, 0, 0], [0, 0, 0], 1),
        ([0, 1, 0], [0, 0, 0], 0),
        ([0, 0, 0], [0, 1, 0], 0),
        # regions 0 to 2 and 3 to 6; a false component at 6 lowers the Dice of the second lesion
        ([1, 1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 1], (2 / 3 + 2 / 3) / 2),
        # one component over both lesions: each voxel counts in its own region
        ([1, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1], (2 / 4 + 2 * 2 / 6) / 2),
    ],
)
def test_cc_dice_by_hand(label, prediction, expected):
    values = evaluate_case(np.array([label]), np.array([prediction]), families=["cc"])
    assert values == {"cc_dice": pytest.approx(expected)}


def test_cc_dice_is_that_of_monai(rng):
    monai = pytest.importorskip("monai.metrics.meandice")
    torch = pytest.importorskip("torch")
    if "per_component" not in inspect.signature(monai.compute_dice).parameters:
        pytest.skip("MONAI has it since 1.6")
    for axes in (2, 3):
        for _ in range(20):
            label, prediction = (rng.random((9, 10, 7)[:axes]) < density for density in (0.05, 0.2))
            label[0], prediction[-1] = True, True  # neither is empty
            both = (torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (prediction, label))
            expected = float(monai.compute_dice(*both, per_component=True))
            found = evaluate_case(label, prediction, families=["cc"])["cc_dice"]
            assert found == pytest.approx(expected, abs=1e-6)


def test_errors():
    mask = np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match=r"differ in shape\. Expected: \(3, 3\), as the label\. Got: \(3, 4\)"):
        evaluate_case(mask, np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match=r"label is not an image\. Expected: 2 or 3 dimensions\. Got: shape \(3,\)"):
        evaluate_case(mask[0], mask[0])
    with pytest.raises(TypeError, match=r"prediction is not a mask.*Got: dtype float32"):
        evaluate_case(mask, mask.astype(np.float32))
