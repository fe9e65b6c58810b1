"""One implanted case: lesions survive the warp, contrasts are restored, distractors are bright and not labeled."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.datasets.synthetic import load_template
from scripts.study.implants import case as implants_case
from scripts.study.implants import distractors as implants_distractors
from scripts.study.implants import warp as implants_warp
from scripts.study.implants.case import make_case
from scripts.study.implants.contrast import MEDIAN_CONTRAST, brain_tissue, measure_contrast
from scripts.study.implants.distractors import KINDS, add_distractors
from scripts.study.implants.warp import warp
from tests.lesion_masks import count, lesion_mask

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def case(template):
    """At 1 mm, with contrasts that follow their medians exactly."""

    def median(volume_mm3, rng):
        return MEDIAN_CONTRAST[int(np.digitize(volume_mm3, (10, 50)))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(implants_case, "draw_contrast", median)
        return make_case(template, lesion_mask(0, 60), 1, np.random.default_rng(0))


def arrays(case):
    return [sitk.GetArrayFromImage(image) for image in (case.image, case.label, case.distractors)]


def test_an_empty_deformation_keeps_every_lesion(template, monkeypatch):
    for name in ("ROTATION_RAD", "STRETCH", "SHIFT_MM", "CONTROL_SD_MM"):
        monkeypatch.setattr(implants_warp, name, 0.0)
    mask = lesion_mask()
    values = sitk.GetArrayFromImage(mask)
    for seed, flipped in ((1, False), (2, True)):
        brain = warp(template, mask, 1, np.random.default_rng(seed))
        assert brain.flipped == flipped
        assert brain.lesions_of_patient == count(values) == count(brain.ids > 0) and brain.restored == 0
        # The same position, or its mirror image.
        back = sitk.GetImageFromArray((brain.ids > 0).astype(np.uint8))
        back.CopyInformation(brain.geometry)
        there = sitk.GetArrayFromImage(sitk.Resample(back, mask, sitk.Transform(), sitk.sitkNearestNeighbor))
        mirrored = values[:, :, ::-1]  # voxel x lies at x - 90 mm, so 90 is the middle of 0 to 180
        expected = np.concatenate([mirrored[:, :, 1:], mirrored[:, :, :1]], axis=2) if brain.flipped else values
        np.testing.assert_array_equal(there, expected)


@pytest.mark.parametrize(("spacing_mm", "bound", "volume_bound"), [(1, 1, 0.1), (2, 2, 0.3), (3, 4, 0.6)])
def test_small_lesions_do_not_vanish(template, spacing_mm, bound, volume_bound):
    mask = lesion_mask(1)
    brain = warp(template, mask, spacing_mm, np.random.default_rng(1))
    assert brain.lesions_of_patient == count(sitk.GetArrayFromImage(mask))
    kept = len(np.unique(brain.ids)) - 1
    assert brain.lesions_of_patient - 1 <= kept <= brain.lesions_of_patient  # one may be cut off at the brain's rim
    assert (brain.t1[brain.ids > 0] > 0).all()
    assert brain.restored > 0 or spacing_mm == 1
    assert abs(count(brain.ids > 0) - kept) <= bound  # neighbors may touch, thin ones break
    volume_mm3 = (brain.ids > 0).sum() * spacing_mm**3
    assert volume_mm3 == pytest.approx(sitk.GetArrayFromImage(mask).sum(), rel=volume_bound)
    assert brain.geometry.GetSpacing() == (spacing_mm,) * 3
    assert brain.geometry.GetSize() == brain.ids.shape[::-1]


def test_the_brain_has_a_patients_size_and_differs_from_case_to_case(template):
    sizes = []
    for seed in range(4):
        brain = warp(template, lesion_mask(), 4, np.random.default_rng(seed))
        inside = np.nonzero(brain.t1 > 0)
        sizes.append([4 * (at.max() - at.min() + 1) for at in inside])
        assert all(at.min() <= 1 and at.max() >= n - 2 for at, n in zip(inside, brain.t1.shape, strict=True))
    assert np.abs(np.mean(sizes, axis=0) - [128, 157, 128]).max() < 12 and len({tuple(s) for s in sizes}) > 2


def test_a_case(case):
    image, label, distractors = arrays(case)
    assert image.dtype == np.int16 and label.dtype == distractors.dtype == np.uint8
    assert image.shape == label.shape == distractors.shape and set(np.unique(label)) == {0, 1}
    assert (image[label > 0] > 0).all() and image.min() == 0
    assert case.image.GetOrigin() == case.label.GetOrigin() and case.image.GetSpacing() == (1.0, 1.0, 1.0)
    tissue = brain_tissue(image.astype(float), label > 0)
    assert 0.1 < image[tissue].std() / np.median(image[tissue]) < 0.2  # real: 0.15 and 0.17


def test_contrasts_are_restored(case):
    image, label, _ = arrays(case)
    table = measure_contrast(image, label)
    medians = [np.median(table.contrast[np.digitize(table.voxels, (10, 50)) == i]) for i in range(3)]
    assert medians[0] < medians[1] < medians[2]
    np.testing.assert_allclose(medians, MEDIAN_CONTRAST, atol=0.2)


def test_contrast_bias_and_noise_vary(template):
    levels, noises, greys = [], [], []
    for seed in range(5):
        image, label, _ = arrays(make_case(template, lesion_mask(), 3, np.random.default_rng(seed)))
        inside = image[(image > 0) & (label == 0)].astype(float)
        levels.append(np.median(inside))
        noises.append(inside.std() / levels[-1])
        greys.append(np.percentile(inside, 90) / levels[-1])
    assert max(levels) > 1.3 * min(levels) and np.ptp(noises) > 0.01 and np.ptp(greys) > 0.01


def test_distractors_are_not_labelled(case):
    _, label, distractors = arrays(case)
    assert 1 <= len(case.placed) <= 10 and set(np.unique(distractors)) <= {0, *KINDS.values()}
    assert set(case.placed) == {kind for kind, number in KINDS.items() if (distractors == number).any()}
    near = ndimage.binary_dilation(label, np.ones((3, 3, 3)), iterations=2)
    assert not (near & (distractors > 0)).any()


def test_distractors_are_bright(template, monkeypatch):
    monkeypatch.setattr(implants_case, "SCALE", (600.0, 600.0))
    image, label, distractors = arrays(make_case(template, lesion_mask(), 3, np.random.default_rng(0)))
    monkeypatch.setattr(implants_case, "add_distractors", lambda image, *_: (np.zeros(image.shape, np.uint8), []))
    without = make_case(template, lesion_mask(), 3, np.random.default_rng(0))
    plain, same, nothing = arrays(without)
    assert without.placed == [] and not nothing.any()
    np.testing.assert_array_equal(same, label)
    assert (image >= plain).all() and (image[distractors > 0] > plain[distractors > 0]).mean() > 0.9
    np.testing.assert_array_equal(image[label > 0], plain[label > 0])


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_of_distractor(kind, monkeypatch, rng):
    monkeypatch.setattr(implants_distractors, "KINDS", {kind: KINDS[kind]})
    white, cortex, mask = (np.zeros((50, 50, 50), dtype) for dtype in (np.float32, bool, bool))
    white[:25], cortex[25:], mask[10:14, 10:14, 10:14] = 1, True, True
    image = np.ones(white.shape, np.float32)
    kinds, placed = add_distractors(image, white, cortex, mask, 1, 0.1, rng)
    assert placed and set(placed) == {kind} and set(np.unique(kinds)) == {0, KINDS[kind]}
    core = kinds > 0
    assert image[core].mean() > 1.05 and image.min() == 1 and image.max() < 1 + 0.1 * 6
    assert (image[ndimage.binary_dilation(mask, np.ones((3, 3, 3)), iterations=2)] < 1 + 0.05 * 0.1 * 6).all()
    ids, n = ndimage.label(core, np.ones((3, 3, 3)))
    assert 1 <= n <= len(placed)
    volumes = np.bincount(ids.ravel())[1:]
    longest = [max(side.stop - side.start for side in box) for box in ndimage.find_objects(ids)]
    if kind == "vessel":
        assert max(longest) >= 7 and volumes.max() < 5 * max(longest) * 3
    else:
        assert max(longest) <= 2 * 10 and (core[25:] if kind == "spot" else core[:30]).any()


def test_no_room_for_distractors(rng):
    image = np.ones((9, 9, 9), np.float32)
    nothing = np.zeros(image.shape, bool)
    kinds, placed = add_distractors(image, np.zeros_like(image), nothing, nothing, 1, 0.1, rng)
    assert placed == [] and not kinds.any() and (image == 1).all()


def test_another_seed_another_case(template):
    cases = [make_case(template, lesion_mask(), 4, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    first, same, other = (arrays(case)[0] for case in cases)
    np.testing.assert_array_equal(first, same)
    assert first.shape != other.shape or not np.array_equal(first, other)
