"""The implants data set: contrast measured and given back, lesions kept, patients parted, distractors not labelled."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.datasets import implants, implants_case, implants_distractors, implants_warp, synthetic
from nnunet_ici.datasets.atlas_to_raw import BadInputError
from nnunet_ici.datasets.implants import implant_lesions, part_patients
from nnunet_ici.datasets.implants_case import make_case
from nnunet_ici.datasets.implants_distractors import KINDS, add_distractors
from nnunet_ici.datasets.implants_measure import (
    LOG_SPREAD,
    MEDIAN_CONTRAST,
    brain_tissue,
    draw_contrast,
    lesions_and_shells,
    measure_contrast,
)
from nnunet_ici.datasets.implants_warp import warp
from nnunet_ici.datasets.synthetic import load_template
from scripts.implant_lesions import main
from tests.conftest import SHARED_DATA

pytest.importorskip("nilearn")

MS = SHARED_DATA / "ms-lesions"
BALL = ndimage.generate_binary_structure(3, 1)


@pytest.fixture(scope="module")
def template():
    return load_template()


def lesion_mask(seed=0, count=30):
    """Lesions of 1, 7 and 25 voxels and a large one, apart from each other, inside a patient's brain."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((182, 218, 182), np.uint8)
    for i in range(count):
        z, y, x = rng.integers(11, 15), rng.integers(8, 17), rng.integers(6, 12)
        center = np.array([8 * z, 8 * y, 8 * x + (0 if rng.random() < 0.5 else 7)])
        box = tuple(slice(c - 2, c + 3) for c in center)
        one = np.zeros((5, 5, 5), bool)
        one[2, 2, 2] = True
        mask[box] |= ndimage.binary_dilation(one, BALL, iterations=i % 3) if i % 3 else one
    mask[88:98, 100:118, 60:66] = 1
    image = sitk.GetImageFromArray(mask)
    image.SetOrigin((-90.0, 126.0, -72.0))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def count(mask):
    return ndimage.label(mask, np.ones((3, 3, 3)))[1]


@pytest.fixture(scope="module")
def case(template):
    """At 1 mm, with contrasts that follow their medians exactly."""

    def median(volume_mm3, rng):
        return MEDIAN_CONTRAST[int(np.digitize(volume_mm3, (10, 50)))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(implants_case, "draw_contrast", median)
        return make_case(template, lesion_mask(0, 60), 1, np.random.default_rng(0))


@pytest.fixture
def masks(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for i in range(6):
        sitk.WriteImage(lesion_mask(i, 6), str(folder / f"patient{i:02d}_lesions.nii.gz"))
    return folder


def arrays(case):
    return [sitk.GetArrayFromImage(image) for image in (case.image, case.label, case.distractors)]


def test_a_contrast_by_hand():
    # Tissue: planes of 90 and 110 by turns, mean 100 about a lesion of two voxels, standard deviation 10.
    image = np.full((12, 12, 12), 90.0)
    image[1::2] = 110
    mask = np.zeros(image.shape, np.uint8)
    mask[5:7, 6, 6] = 1
    image[5:7, 6, 6] = 130
    table = measure_contrast(image, mask)
    assert table.voxels.tolist() == [2] and table.contrast[0] == pytest.approx(3, abs=0.01)
    # CSF and what is outside the brain are no surroundings, and no tissue.
    image[:, :, 9:10], image[:, :, 10:] = 20, 0
    assert measure_contrast(image, mask).contrast[0] == pytest.approx(3, abs=0.01)
    # Nor are other lesions, however bright.
    mask[5:7, 6, 3], image[5:7, 6, 3] = 1, 1000
    assert measure_contrast(image, mask).contrast.max() > 50
    assert measure_contrast(image, mask).contrast.min() == pytest.approx(3, abs=0.01)


def test_contrast_without_lesion_tissue_or_brain():
    image, mask = np.ones((9, 9, 9)), np.zeros((9, 9, 9), np.uint8)
    image[0] = 2
    assert measure_contrast(image, mask).voxels.size == measure_contrast(image, mask).contrast.size == 0
    mask[1:] = 1  # the one shell is 0 to 1 voxels off
    assert np.isnan(measure_contrast(image, mask).contrast).all()
    with pytest.raises(ValueError, match="the image holds no brain"):
        measure_contrast(image, np.ones_like(mask))
    with pytest.raises(ValueError, match=r"must have one shape. Got: \(9, 9, 9\) and \(9, 9\)"):
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


def test_an_empty_deformation_keeps_every_lesion(template, monkeypatch):
    for name in ("ROTATION_RAD", "STRETCH", "SHIFT_MM", "CONTROL_SD_MM"):
        monkeypatch.setattr(implants_warp, name, 0.0)
    mask = lesion_mask()
    values = sitk.GetArrayFromImage(mask)
    for seed, flipped in ((1, False), (2, True)):
        brain = warp(template, mask, 1, np.random.default_rng(seed))
        assert brain.flipped == flipped
        assert brain.lesions_of_patient == count(values) == count(brain.ids > 0) and brain.restored == 0
        # The same place of space, or its mirror image.
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


def test_contrasts_are_given_back(case):
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


def test_patients_are_parted():
    names = [f"p{i}" for i in range(27)]
    parts = part_patients(names, 1)
    assert sorted(parts.train + parts.val + parts.test) == sorted(names)
    assert part_patients(names[::-1], 1) == parts != part_patients(names, 2)
    smallest = part_patients(["a", "b", "c"])
    assert len(smallest.train) == len(smallest.val) == len(smallest.test) == 1
    for wrong in (["a", "b"], ["a", "b", "b"]):
        with pytest.raises(ValueError, match=r"three patients are needed at least, each once. Got:"):
            part_patients(wrong)


def read_cases(folder):
    with (folder / "cases.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_data_set(masks, tmp_path):
    folder = implant_lesions(masks, tmp_path / "raw", training=4, testing=3, seed=5, spacing_mm=4, processes=2)
    assert folder == tmp_path / "raw" / "Dataset300_Implants"
    rows = read_cases(folder)
    parts = {part: {r["patient"] for r in rows if r["part"] == part} for part in ("train", "val", "test")}
    assert [len(parts[part]) for part in parts] == [3, 1, 2]
    assert len(set.union(*parts.values())) == 6  # nobody is on two sides
    assert [r["case"][-2:] for r in rows if r["part"] == "test"] == ["_1", "_1", "_2"]
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    for part, cases in fold.items():
        assert cases == sorted(r["case"] for r in rows if r["part"] == part)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "FLAIR"} and dataset["numTraining"] == 4
    assert dataset["labels"] == {"background": 0, "lesion": 1}
    for side, number in (("Tr", 4), ("Ts", 3)):
        assert (
            len(list((folder / f"images{side}").iterdir())) == len(list((folder / f"labels{side}").iterdir())) == number
        )
    for row in rows:
        side = "Ts" if row["part"] == "test" else "Tr"
        label = sitk.ReadImage(str(folder / f"labels{side}" / f"{row['case']}.nii.gz"))
        image = sitk.ReadImage(str(folder / f"images{side}" / f"{row['case']}_0000.nii.gz"))
        values = sitk.GetArrayFromImage(label)
        assert label.GetSpacing() == image.GetSpacing() == (4.0, 4.0, 4.0) and label.GetOrigin() == image.GetOrigin()
        assert int(row["components"]) == count(values) > 0
        assert float(row["lesion_volume_mm3"]) == 64 * values.sum()
        assert int(row["implanted"]) <= int(row["lesions_of_patient"]) <= int(row["implanted"]) + 1
        assert (folder / "distractors" / f"{row['case']}.nii.gz").is_file()

    # Other numbers of cases and processes: what both have is the same.
    again = implant_lesions(masks, tmp_path / "again", training=3, testing=1, seed=5, spacing_mm=4, processes=1)
    same = {r["case"] for r in rows} & {r["case"] for r in read_cases(again)}
    assert len(same) == 4
    for path in sorted(again.rglob("*.nii.gz")):
        first = sitk.ReadImage(str(folder / path.relative_to(again)))
        np.testing.assert_array_equal(*(sitk.GetArrayFromImage(i) for i in (first, sitk.ReadImage(str(path)))))


def test_another_seed_another_case(template):
    cases = [make_case(template, lesion_mask(), 4, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    first, same, other = (arrays(case)[0] for case in cases)
    np.testing.assert_array_equal(first, same)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_the_command(masks, tmp_path, capsys):
    raw = tmp_path / "raw"
    options = [str(masks), str(raw), "-n", "2", "--test", "1", "--spacing", "4", "-np", "1"]
    assert main([*options, "-d", "7"]) == 0
    assert "Dataset007_Implants: 2 training and 1 test cases. SYNTHETIC" in capsys.readouterr().out
    (fold,) = json.loads((raw / "Dataset007_Implants" / "splits_final.json").read_text())
    assert len(fold["train"]) == len(fold["val"]) == 1
    assert main([*options, "-d", "7"]) == 1
    assert "Dataset007_Implants: the target folder exists. Expected: none with this number" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*options, "-np", "0"])
    assert "-np must be at least 1. Got: 0" in capsys.readouterr().err


def test_all_that_is_wrong_is_said_and_nothing_written(masks, tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    empty = sitk.Image([5, 5, 5], sitk.sitkUInt8)
    sitk.WriteImage(empty, str(masks / "patient07.nii.gz"))
    sitk.WriteImage(empty + 3, str(masks / "patient08.nii.gz"))
    (masks / "patient09.nii.gz").write_bytes(b"no image")
    sitk.WriteImage(lesion_mask(), str(masks / "patient05.nii.gz"))
    assert main([str(masks), str(raw), "-d", "1000", "-n", "0", "--spacing", "0.5"]) == 1
    said = capsys.readouterr().err
    assert "7 problems, nothing was written" in said
    assert "no such data set number. Expected: 1 to 999. Got: 1000" in said
    assert "too few cases. Expected: 2 for training at least, of which one is for validation" in said
    assert "Got: 0 and 9" in said
    assert "no such spacing. Expected: 1 to 4 mm. Got: 0.5" in said
    assert "patient07.nii.gz: an empty mask. Expected: at least one voxel of 1. Got: 0 only" in said
    assert "patient08.nii.gz: a mask that is not 0/1" in said
    assert "patient09.nii.gz: cannot be read. Expected: a whole image" in said
    assert "two masks of patient05. Expected: one. Got:" in said
    assert not list(raw.iterdir())
    with pytest.raises(BadInputError, match=r"too few masks. Expected: .* of three patients at least.* Got: 0"):
        implant_lesions(tmp_path / "nowhere", raw)


def test_lesions_elsewhere_leave_nothing_behind(masks, tmp_path, capsys):
    for path in masks.iterdir():
        mask = sitk.ReadImage(str(path))
        mask.SetOrigin((400.0, 0.0, 0.0))
        sitk.WriteImage(mask, str(path))
    raw = tmp_path / "raw"
    assert main([str(masks), str(raw), "-n", "2", "--test", "1", "--spacing", "4", "-np", "1"]) == 1
    assert "lesions.nii.gz: no lesion lies in the brain. Expected: a mask in MNI space" in capsys.readouterr().err
    assert not list(raw.iterdir())


def test_without_nilearn(masks, tmp_path, monkeypatch, capsys):
    implants._load_template.cache_clear()
    monkeypatch.setattr(synthetic.importlib.util, "find_spec", lambda name: None)
    assert main([str(masks), str(tmp_path / "raw")]) == 1
    assert "nnunet-ici[demo]" in capsys.readouterr().err and not (tmp_path / "raw").exists()
