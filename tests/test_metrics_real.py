"""All metrics on every real lesion mask, against the naive references. Skipped where ../shared/data is absent."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.evaluation.families import evaluate_case
from tests import reference_metrics as reference
from tests.conftest import SHARED_DATA

MASKS = sorted((SHARED_DATA / "ms-lesions" / "masks").glob("*.nii.gz"))

pytestmark = pytest.mark.skipif(not MASKS, reason="../shared/data/ms-lesions is absent")


def cropped(mask, margin=4):
    """The mask's bounding box and a margin; voxels farther away change nothing."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return np.pad(mask[box], margin)


@pytest.mark.parametrize("path", MASKS, ids=lambda path: path.name.split("_")[0])
def test_equal_to_the_naive_references(path, rng):
    image = sitk.ReadImage(str(path))
    label = cropped(sitk.GetArrayFromImage(image) > 0)
    spacing_mm = (1.5, *image.GetSpacing()[1:])  # not 1 mm3
    for prediction in (
        np.roll(label, (1, 2, 0), axis=(0, 1, 2)),
        ndimage.binary_erosion(label),  # lesions vanish, and fall to pieces
        label & (rng.random(label.shape) < 0.1),  # thinned: many pieces, small lesions are lost
    ):
        expected = (
            reference.atlas22(label, prediction)
            | reference.isles(label, prediction, spacing_mm)
            | reference.paper(label, prediction)
        )
        found = evaluate_case(label, prediction, spacing_mm)
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, abs=1e-9)
        assert 0 <= found["dice"] < 1 and found["lesion_f1_faces"] < 1
