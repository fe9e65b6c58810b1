"""The shares of instances in the terms: by hand, and against the losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ici.explain.shares import LOSSES, explain
from nnunet_ici.losses import (
    blob_loss,
    center_loss,
    instance_loss,
    lesionwise_loss,
    pq_loss,
    predicted_instance_loss,
)
from tests import reference
from tests.terms import in_2d_and_3d, random_case


def share_sum(explained, term):
    sides = (explained.label, explained.predicted)
    return sum(side.shares[term].sum() for side in sides if term in side.shares)


@in_2d_and_3d
@pytest.mark.parametrize("binary", [False, True])
def test_shares_add_up_to_the_losses(rng, axes, binary):
    for repeat in range(40):
        prob, target, _ = random_case(rng, axes, binary)
        prob, target = prob[0, 0], target[0, 0]
        if repeat % 2:
            prob = prob.astype(np.float32)
        size, threshold = int(rng.choice([1, 3, 7, 9])), float(rng.choice([0.3, 0.5, 0.7]))
        explained = explain(target, prob, threshold, size)
        given = torch.from_numpy(prob)[None, None], torch.from_numpy(target)[None, None]
        expected = {
            "instance": instance_loss(*given, threshold=threshold),
            "predicted": predicted_instance_loss(*given, threshold=threshold),
            "center": center_loss(*given, threshold=threshold, size=size),
            "lesionwise": lesionwise_loss(*given, threshold=threshold),
            "pq": pq_loss(*given, threshold=threshold),
            "blob": blob_loss(*given),
        }
        for term, value in expected.items():
            assert explained.terms[term] == pytest.approx(float(value), abs=1e-5)
            assert share_sum(explained, term) == pytest.approx(float(value), abs=1e-5)
        naive = reference.center_loss(prob[None, None], target[None, None], threshold=threshold, size=size)
        assert share_sum(explained, "center") == pytest.approx(naive, abs=1e-5)
        for side in (explained.label, explained.predicted):
            # In the PQ loss a lesion just under the threshold is not hit, and its Dice may exceed a half.
            assert all((shares >= -1e-12).all() for term, shares in side.shares.items() if term != "pq" or binary)


def test_instances_by_hand():
    """L1 is found by P1 at 1 of 2 voxels, L2 by P1 too, L3 is missed, P2 is false."""
    label = np.array([[1, 1, 0, 1, 0, 1, 0, 0]], bool)
    prediction = np.array([[0, 1, 1, 1, 0, 0, 0, 1]], np.float64)
    explained = explain(label, prediction, center_size=1)
    assert explained.label.size.tolist() == [2, 1, 1] and explained.predicted.size.tolist() == [3, 1]
    assert explained.label.touched == [[1], [1], []] and explained.predicted.touched == [[1, 2], []]
    assert explained.label.unmatched.tolist() == [False, False, True]
    assert explained.label_ids.tolist() == [[1, 1, 0, 2, 0, 3, 0, 0]]
    assert explained.predicted_ids.tolist() == [[0, 1, 1, 1, 0, 0, 0, 2]]
    # Eq. 5: 1 - 2 / (1 + 1 + 2), 1 - 2 / (1 + 1 + 1), 1; over three instances.
    assert explained.label.shares["instance"] == pytest.approx(np.array([1 / 2, 1 / 3, 1]) / 3, abs=1e-5)
    # Eq. 6: 1 - 2 * 2 / (3 + 3), 1; over two.
    assert explained.predicted.shares["predicted"] == pytest.approx(np.array([1 / 3, 1]) / 2, abs=1e-5)
    # Lesion-wise: the same losses of the lesions, and one false; over four lesions.
    assert explained.label.shares["lesionwise"] == pytest.approx(np.array([1 / 2, 1 / 3, 1]) / 4, abs=1e-5)
    assert explained.predicted.shares["lesionwise"] == pytest.approx([0, 1 / 4], abs=1e-5)
    # PQ: 3 lesions, 2 hits, 1 false; (1 + 1 - 2 D) / 6 for a hit, 1 / 6 for the missed and the false one.
    assert explained.label.shares["pq"] == pytest.approx(np.array([2 - 1, 2 - 4 / 3, 1]) / 6, abs=1e-5)
    assert explained.predicted.shares["pq"] == pytest.approx([0, 1 / 6], abs=1e-5)
    # Blob loss: one false voxel more, P2, for everyone.
    assert explained.label.shares["blob"] == pytest.approx(np.array([1 - 2 / 5, 1 - 2 / 4, 1]) / 3, abs=1e-5)
    # Centers of the labels: 1 (0.5 rounded up), 3, 5; of the predictions: 2, 7. No two of these five meet.
    assert explained.label.shares["center"] == pytest.approx([0.2] * 3, abs=1e-5)
    assert explained.predicted.shares["center"] == pytest.approx([0.2] * 2, abs=1e-5)
    assert explained.terms["dice"] == pytest.approx(1 - 4 / 8, abs=1e-5)
    assert explained.value_of("DICI") == pytest.approx(sum(explained.terms[t] for t in LOSSES["DICI"]))


def test_an_error_in_two_cubes_is_split():
    """The cubes of L1 (0 to 1, clipped) and L2 (1 to 3) share a pixel, and nothing is predicted."""
    label = np.array([[1, 0, 1, 0, 0, 0]], bool)
    explained = explain(label, np.zeros((1, 6)), center_size=3)
    assert explained.label.shares["center"] == pytest.approx([1.5 / 4, 2.5 / 4], abs=1e-5)
    assert explained.cubes.tolist() == [[1, 1, 1, 1, 0, 0]]
    assert explained.center_error.tolist() == [[1, 1, 1, 1, 0, 0]]


def test_predicted_cubes_share_only_what_lies_off_the_label_cubes():
    """The cube of P1 (1 to 3) meets that of L1 (0 to 1, clipped) in a pixel. P2, of probability 0.5, is false."""
    label = np.array([[1, 0, 0, 0, 0, 0, 0, 0]], bool)
    explained = explain(label, np.array([[0, 0, 1, 0, 0, 0, 0.5, 0]]), center_size=3)
    assert explained.cubes.tolist() == [[1, 5, 4, 4, 0, 4, 4, 4]]
    assert explained.label.shares["center"] == pytest.approx([1 / 8], abs=1e-5)
    assert explained.predicted.shares["center"] == pytest.approx([2 / 8, 1.5 / 8], abs=1e-5)


@in_2d_and_3d
def test_empty_label_and_prediction(axes):
    nothing, something = np.zeros((9,) * axes, bool), np.zeros((9,) * axes, bool)
    something[(4,) * axes] = True
    zero = np.zeros(something.shape, np.float32)
    both = explain(nothing, zero)
    assert set(both.terms.values()) == {0.0} and len(both.label) == len(both.predicted) == 0
    assert explain(something, zero).terms == pytest.approx(
        {"dice": 1, "instance": 1, "predicted": 0, "center": 1, "lesionwise": 1, "pq": 1, "blob": 1}, abs=4e-5
    )
    assert explain(nothing, something.astype(np.float32)).terms == pytest.approx(
        {"dice": 1, "instance": 0, "predicted": 1, "center": 1, "lesionwise": 1, "pq": 1, "blob": 0}, abs=4e-5
    )
