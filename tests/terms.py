"""Shared by the tests of the terms: the terms by name, and random cases of every density."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ici.losses import (
    CenterLoss,
    FalseInstanceRateLoss,
    InstanceLoss,
    InstanceProximityLoss,
    LesionWiseTerm,
    PQTerm,
    PredictedInstanceLoss,
    center_loss,
    false_instance_rate_loss,
    instance_loss,
    instance_proximity_loss,
    lesionwise_loss,
    pq_loss,
    predicted_instance_loss,
)
from tests import reference, reference_family

TERMS = {
    "instance": (instance_loss, InstanceLoss, reference.instance_loss),
    "predicted": (predicted_instance_loss, PredictedInstanceLoss, reference.predicted_instance_loss),
    "center": (center_loss, CenterLoss, reference.center_loss),
    "lesionwise": (lesionwise_loss, LesionWiseTerm, reference.lesionwise_loss),
    "pq": (pq_loss, PQTerm, reference.pq_loss),
    "false_rate": (false_instance_rate_loss, FalseInstanceRateLoss, reference_family.false_instance_rate_loss),
    "proximity": (instance_proximity_loss, InstanceProximityLoss, reference_family.instance_proximity_loss),
}
by_term = pytest.mark.parametrize("name", TERMS)
in_2d_and_3d = pytest.mark.parametrize("axes", [2, 3])


def random_case(rng, axes, binary=False):
    """prob, target, mask or None, as NumPy arrays, of any density from empty to full."""
    shape = (rng.integers(1, 4), rng.integers(1, 3), *rng.integers(1, 24 if axes == 2 else 11, size=axes))
    target = rng.random(shape) < rng.choice([0, 0.02, 0.1, 0.5, 1])
    prob = np.clip(rng.choice([0, 0.5, 0.9]) * target + rng.random(shape) * rng.choice([0.3, 1]), 0, 1)
    if binary:
        prob = (prob > 0.5).astype(np.float64)
    mask = rng.random((shape[0], 1, *shape[2:])) < 0.8 if rng.random() < 0.4 else None
    return prob, target, mask


def tensors(*arrays):
    return [None if a is None else torch.from_numpy(a) for a in arrays]
