"""The contrast of lesions: by hand, and constants that are those of the real FLAIR images."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from scripts.study.implants.contrast import (
    LOG_SPREAD,
    MEDIAN_CONTRAST,
    draw_contrast,
    lesions_and_shells,
    measure_contrast,
)
from tests.conftest import SHARED_DATA

MS = SHARED_DATA / "ms-lesions"


def test_a_contrast_by_hand():
    # Tissue: alternating planes of 90 and 110 around a lesion of two voxels, mean 100, standard deviation 10.
    image = np.full((12, 12, 12), 90.0)
    image[1::2] = 110
    mask = np.zeros(image.shape, np.uint8)
    mask[5:7, 6, 6] = 1
    image[5:7, 6, 6] = 130
    table = measure_contrast(image, mask)
    assert table.voxels.tolist() == [2] and table.contrast[0] == pytest.approx(3, abs=0.01)
    # CSF and voxels outside the brain are neither surroundings nor tissue.
    image[:, :, 9:10], image[:, :, 10:] = 20, 0
    assert measure_contrast(image, mask).contrast[0] == pytest.approx(3, abs=0.01)
    # Nor are other lesions, however bright they are.
    mask[5:7, 6, 3], image[5:7, 6, 3] = 1, 1000
    assert measure_contrast(image, mask).contrast.max() > 50
    assert measure_contrast(image, mask).contrast.min() == pytest.approx(3, abs=0.01)


def test_contrast_without_lesion_tissue_or_brain():
    image, mask = np.ones((9, 9, 9)), np.zeros((9, 9, 9), np.uint8)
    image[0] = 2
    assert measure_contrast(image, mask).voxels.size == measure_contrast(image, mask).contrast.size == 0
    mask[1:] = 1  # the only shell is 0 to 1 voxels away
    assert np.isnan(measure_contrast(image, mask).contrast).all()
    with pytest.raises(ValueError, match="the image contains no brain"):
        measure_contrast(image, np.ones_like(mask))
    with pytest.raises(ValueError, match=r"must have the same shape. Got: \(9, 9, 9\) and \(9, 9\)"):
        measure_contrast(image, mask[0])


def test_shells():
    ids = np.zeros((15, 15, 15), np.int32)
    ids[7, 7, 7], ids[7, 7, 10] = 3, 1  # no id 2
    (first, *_), (second, box, lesion, shell) = lesions_and_shells(ids)
    assert (first, second) == (1, 3) and lesion.sum() == 1 and box == (slice(2, 13),) * 3
    distance = np.sqrt(((np.indices((11, 11, 11)) - 5) ** 2).sum(0))
    assert shell.sum() == ((distance >= 2) & (distance <= 4)).sum() - 1


def test_contrasts_drawn():
    rng = np.random.default_rng(0)
    for volume_mm3, median, spread in zip((9.9, 10, 50), MEDIAN_CONTRAST, LOG_SPREAD, strict=True):
        logs = np.log([draw_contrast(volume_mm3, rng) for _ in range(4000)])
        assert np.exp(np.median(logs)) == pytest.approx(median, rel=0.03)
        assert logs.std() == pytest.approx(spread, rel=0.05)


@pytest.mark.skipif(not MS.is_dir(), reason="../shared/data/ms-lesions is absent")
def test_the_constants_are_those_of_the_real_flair():
    sizes, contrasts = [], []
    for patient in ("07", "19"):
        image, mask = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(MS / name)))
            for name in (f"images/patient{patient}_FLAIR.nii.gz", f"masks/patient{patient}_lesions.nii.gz")
        )
        table = measure_contrast(image, mask)
        sizes.append(table.voxels)
        contrasts.append(table.contrast)
    size, contrast = np.concatenate(sizes), np.concatenate(contrasts)
    bins = np.digitize(size, (10, 50))
    assert np.bincount(bins).tolist() == [54, 57, 24]
    for i, (median, spread) in enumerate(zip(MEDIAN_CONTRAST, LOG_SPREAD, strict=True)):
        quartiles = np.percentile(contrast[bins == i], [25, 50, 75])
        assert quartiles[1] == pytest.approx(median, abs=0.006)
        assert np.log(quartiles[2] / quartiles[0]) / 1.349 == pytest.approx(spread, abs=0.006)
