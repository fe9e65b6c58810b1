"""The terms on every real lesion mask, against the naive loops. Skipped where ../shared/data is absent."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from nnunet_ici.losses import center_loss, instance_loss, predicted_instance_loss
from tests import reference
from tests.conftest import SHARED_DATA

MASKS = sorted((SHARED_DATA / "ms-lesions" / "masks").glob("*.nii.gz"))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MASKS, reason="../shared/data/ms-lesions is absent")]


def half_trained(label, rng):
    """Probabilities that miss small lesions, find false ones, and blur the rest."""
    noise = ndimage.gaussian_filter(rng.standard_normal(label.shape).astype(np.float32), 1.5)
    logits = 6 * ndimage.gaussian_filter(label.astype(np.float32), 0.7) - 3 + 1.4 * noise / noise.std()
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("path", MASKS, ids=lambda path: path.name.split("_")[0])
def test_equal_to_the_naive_loops(path, rng):
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[None, None] > 0
    prob = half_trained(label[0, 0], rng)[None, None]
    p, y = torch.from_numpy(prob), torch.from_numpy(label)
    labels = reference.components(label[0, 0])[1]
    assert 17 <= len(labels) <= 370
    tau = float(rng.uniform(0.3, 0.7))
    hit = sum((prob.ravel()[g] >= tau).any() for g in labels)
    assert 0 < hit < len(labels)  # some found, some missed
    for fast, naive in (
        (instance_loss, reference.instance_loss),
        (predicted_instance_loss, reference.predicted_instance_loss),
        (center_loss, reference.center_loss),
    ):
        assert fast(p, y, threshold=tau).item() == pytest.approx(naive(prob, label, None, tau), abs=1e-5)
