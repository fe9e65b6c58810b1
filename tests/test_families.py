"""The families of metrics against the naive references, on random masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_ici.evaluation.families import FAMILIES, Pair, evaluate_case, metrics_of
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
        assert values["isles.volume_difference_ml"] == pytest.approx(
            values["atlas22.volume_difference"] * math.prod(spacing_mm) / 1000
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
    assert [value for name, value in values.items() if name.startswith("atlas22.")] == pytest.approx(expected)
    expected = [expected[0], 0.2 * expected[1], *expected[2:]]  # 200 mm3 per voxel
    assert [value for name, value in values.items() if name.startswith("isles.")] == pytest.approx(expected)


def test_the_counts_of_the_paper_by_hand():
    values = evaluate_case(np.array([[1, 0, 1, 0, 0]]), np.array([[1, 0, 0, 0, 1]]), families=["paper"])
    assert values == {
        "paper.dsc": 0.5,
        "paper.label_instances": 2,
        "paper.missed_instances": 1,
        "paper.predicted_instances": 2,
        "paper.false_instances": 1,
        "paper.all_missed": 0,
        "paper.no_mistake": 0,
    }
    assert all(isinstance(value, int) for name, value in values.items() if name != "paper.dsc")


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
    assert (values["paper.all_missed"], values["paper.no_mistake"]) == (all_missed, no_mistake)


def test_corners_part_the_two_challenges():
    label, prediction = np.eye(2, dtype=np.uint8), np.array([[1, 0], [0, 0]], np.uint8)
    values = evaluate_case(label, prediction)
    assert (values["atlas22.lesion_count_difference"], values["isles.lesion_count_difference"]) == (1, 0)
    assert (values["atlas22.lesion_f1"], values["isles.lesion_f1"]) == (pytest.approx(2 / 3), 1)


def test_spacing_counts_in_ml_only():
    label, prediction = np.array([[1, 1, 1, 1]]), np.array([[1, 0, 0, 0]])
    near, far = (evaluate_case(label, prediction, spacing) for spacing in (None, (20.0, 50.0)))
    assert (near.pop("isles.volume_difference_ml"), far.pop("isles.volume_difference_ml")) == (0.003, 3)
    assert near == far and near["atlas22.volume_difference"] == 3


def test_what_needs_probabilities_is_left_out_without_them():
    names = [metric.name for metric in metrics_of(["isles", "detection"], with_probability=False)]
    assert "isles.pr_auc" not in names and "detection.panoptic_quality" in names
    assert [metric.name for metric in metrics_of(["isles"])][-1] == "isles.pr_auc"
    every = [metric.name for metric in metrics_of(list(FAMILIES))]
    assert len(set(every)) == len(every) == 25
    assert all(name.startswith(f"{family}.") for family, some in FAMILIES.items() for name in [m.name for m in some])


def test_without_a_probability_pr_auc_is_nan():
    mask = np.ones((1, 2), bool)
    (metric,) = [metric for metric in FAMILIES["isles"] if metric.needs_probability]
    assert math.isnan(metric.compute(Pair(mask, mask, (1.0, 1.0))))
    assert "isles.pr_auc" not in evaluate_case(mask, mask)


def test_errors():
    mask = np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match=r"differ in shape\. Expected: \(3, 3\), as the label\. Got: \(3, 4\)"):
        evaluate_case(mask, np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match=r"label is not an image\. Expected: 2 or 3 dimensions\. Got: shape \(3,\)"):
        evaluate_case(mask[0], mask[0])
    with pytest.raises(TypeError, match=r"prediction is not a mask.*Got: dtype float32"):
        evaluate_case(mask, mask.astype(np.float32))
