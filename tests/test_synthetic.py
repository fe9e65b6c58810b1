"""The synthetic ATLAS: names and grids, reproducible, lesions as described, converted and accepted by nnU-Net."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.cli import main
from nnunet_ici.command import InputError
from nnunet_ici.datasets import synth_atlas, synthetic
from nnunet_ici.datasets.atlas_to_raw import convert_atlas
from nnunet_ici.datasets.synth_atlas import STAGES, SynthSubject, metadata_of, synthesize_atlas
from nnunet_ici.datasets.synthetic import GRID, Subject, load_template, synthesize_subject
from nnunet_ici.datasets.synthetic_native import MARGIN_MM, ZOOM, to_native
from tests.atlas_tree import array_of, raw, rows_of, sessions_of

pytest.importorskip("nilearn")

__all__ = ["raw"]  # fixture

SUBJECTS = 9
EVERYWHERE = np.ones((3, 3, 3))  # 26 neighbors


@pytest.fixture(scope="module")
def template():
    return load_template(4)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """R3.0: nine subjects of five sites, at 6 mm."""
    out = tmp_path_factory.mktemp("synthetic") / "atlas"
    options = ["--release", "3.0", "-n", str(SUBJECTS), "--spacing", "6", "--seed", "5", "-np", "1"]
    assert main(["synth-atlas", str(out), *options]) == 0
    return out


def arrays(subject):
    return sitk.GetArrayFromImage(subject.image), sitk.GetArrayFromImage(subject.mask)


def grid_of(image):
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_template_has_the_grid_of_atlas_and_keeps_its_place_at_another_spacing(template):
    fine = load_template()
    assert fine.geometry.GetSize() == GRID and fine.t1.shape == GRID[::-1]
    x, y, z = fine.coordinates_mm
    assert [x[0], x[-1], y[0], y[-1], z[0], z[-1]] == [-98, 98, -134, 98, -72, 116]
    assert 0.9 < np.median(fine.t1[fine.white_matter > 0.9]) < 1.1
    assert template.geometry.GetSize() == tuple((n - 1) // 4 + 1 for n in GRID)
    assert template.geometry.GetOrigin() == fine.geometry.GetOrigin()
    assert template.geometry.GetSpacing() == (4.0, 4.0, 4.0)


def test_lesions_are_few_dark_and_inside_the_brain_and_images_vary(template):
    volumes, darker, scales, noises = [], [], [], []
    for seed in range(40):
        image, mask = arrays(synthesize_subject(template, seed))
        assert image.dtype == np.int16 and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
        assert image.shape == mask.shape == template.t1.shape
        ids, count = ndimage.label(mask, EVERYWHERE)
        assert 1 <= count <= 10
        volumes += list(np.bincount(ids.ravel())[1:] * 64.0)
        lesion, tissue = mask == 1, template.tissue & (mask == 0)
        assert (template.t1[lesion] > 0).all()
        darker.append(image[lesion].mean() < 0.85 * image[tissue].mean())
        inside = image[(template.white_matter > 0.95) & (mask == 0)].astype(float)
        scales.append(inside.mean())
        noises.append(inside.std() / inside.mean())
    assert np.mean(darker) > 0.8  # the tiny ones are shallow
    assert min(volumes) < 100 and max(volumes) > 40_000  # mm3: from a few voxels to a territory
    assert 500 < np.median(volumes) < 5_000
    assert max(scales) > 1.3 * min(scales) and max(noises) > 1.2 * min(noises)


def test_volumes_are_those_drawn(template, monkeypatch):
    monkeypatch.setattr(synthetic, "LESIONS", (1, 1))
    monkeypatch.setattr(synthetic, "LOG_SD", 0.0)
    volumes = [arrays(synthesize_subject(template, seed))[1].sum() * 64 for seed in range(10)]
    assert synthetic.MEDIAN_VOLUME_MM3 * 0.6 < np.median(volumes) <= synthetic.MEDIAN_VOLUME_MM3 * 1.05


def test_a_data_set_in_the_layout_of_r20(tmp_path):
    out = tmp_path / "ATLAS_2"
    synthesize_atlas(out, training=7, testing=2, seed=3, spacing_mm=6, processes=2)
    path = out / "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"
    assert path.is_file() and (out / "Training/R002/sub-r002s001/ses-1/anat").is_dir()
    sessions, metadata, problems = sessions_of(out)
    assert not problems and sum(s.mask is None for s in sessions) == 2 and len(sessions) == 9
    assert metadata.of(sessions[0])["Origin"] == "synthetic"
    readme = (out / "README.txt").read_text()
    assert "SYNTHETIC" in readme and "--seed 3 --spacing 6" in readme
    assert len(convert_atlas(out, tmp_path / "raw", split="paper", processes=1).sessions) == 9
    again = tmp_path / "again"
    synthesize_atlas(again, training=3, testing=0, seed=3, spacing_mm=6, processes=1)
    np.testing.assert_array_equal(array_of(path), array_of(again / path.relative_to(out)))


def test_the_command(tmp_path, capsys):
    out = tmp_path / "atlas"
    out.mkdir()  # empty: fine
    assert main(["synth-atlas", str(out), "-n", "2", "--test", "0", "--spacing", "8", "-np", "1"]) == 0
    assert "2 training and 0 test subjects. SYNTHETIC" in capsys.readouterr().out
    assert main(["synth-atlas", str(out), "-n", "2", "--spacing", "8"]) == 1
    assert f"OUT is not usable. Expected: a new or empty folder. Got: files in {out}" in capsys.readouterr().err
    wrong = {("-n", "0"): "there must be at least one training subject. Got: 0 training"}
    for spacing in ("-1", "0.1", "50", "nan"):
        wrong["--spacing", spacing] = f"the spacing is out of range. Expected: 0.5 to 10 mm. Got: {spacing}"
    wrong["--release", "3.0", "--test", "1"] = "all subjects of R3.0 have masks. Expected: 0 test subjects. Got: 1"
    for options, message in wrong.items():
        assert main(["synth-atlas", str(tmp_path / "b"), *options]) == 1
        assert message in capsys.readouterr().err and not (tmp_path / "b").exists()
    with pytest.raises(ValueError, match=r"no such release\. Expected: 2\.0 or 3\.0\. Got: 2\.1"):
        synthesize_atlas(tmp_path / "b", 1, 0, release="2.1")
    with pytest.raises(InputError, match="OUT is not usable"):
        synthesize_atlas(out, 1, 0)


def test_without_nilearn(tmp_path, monkeypatch, capsys):
    synth_atlas._load_template.cache_clear()
    monkeypatch.setattr(synthetic.importlib.util, "find_spec", lambda name: None)
    assert main(["synth-atlas", str(tmp_path / "b"), "-n", "1"]) == 1
    assert 'pip install "nnunet-ici[demo]"' in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_a_native_grid_of_its_own_around_the_same_brain_and_lesions(template):
    spacings, sizes, flips = [], set(), set()
    for seed in range(30):
        before = synthesize_subject(template, seed)
        after = to_native(before, [seed, 2])
        image, mask = arrays(after)
        assert image.dtype == np.int16 and mask.dtype == np.uint8 and grid_of(after.image) == grid_of(after.mask)
        zoom = np.array(after.image.GetSpacing()) / 4
        assert (zoom >= ZOOM[0]).all() and (zoom <= ZOOM[1]).all()
        axes = np.array(after.image.GetDirection()).reshape(3, 3)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        tilt = np.degrees(np.arccos(np.abs(np.diag(axes))))  # against the template's axes, which are the patient's
        assert (tilt < 12).all() and (tilt > 0).all()
        flips.add(bool(np.linalg.det(axes) > 0))
        spacings.append(after.image.GetSpacing())
        sizes.add(after.image.GetSize())
        if seed < 12:
            check_content(before, after)
    assert len(sizes) > 20 and flips == {False, True}
    isotropic = [max(spacing) - min(spacing) < 1e-9 for spacing in spacings]
    assert 0 < sum(isotropic) < 30


def check_content(before, after):
    """Brain and lesions have the same place and volume, and the margin is empty."""
    volumes, centers_mm, counts = [], [], []
    for made in (before, after):
        image, mask = arrays(made)
        voxel_mm3 = np.prod(made.image.GetSpacing())
        brain = np.argwhere(image > 0)
        volumes.append([len(brain) * voxel_mm3, mask.sum() * voxel_mm3])
        centers_mm.append(made.image.TransformContinuousIndexToPhysicalPoint(brain.mean(0)[::-1].tolist()))
        counts.append(ndimage.label(mask, EVERYWHERE)[1])
    (brain_before, lesion_before), (brain_after, lesion_after) = volumes
    assert 0.9 < brain_after / brain_before < 1.2  # the rim is interpolated
    assert abs(lesion_after - lesion_before) < 0.2 * lesion_before + 2 * voxel_mm3
    np.testing.assert_allclose(*centers_mm, atol=1)
    assert counts[1] >= 1 and abs(counts[1] - counts[0]) <= 1
    spacing = after.image.GetSpacing()
    margins = (brain.min(0)[::-1] * spacing, (np.array(image.shape) - 1 - brain.max(0))[::-1] * spacing)
    assert np.max(margins) <= MARGIN_MM[1] + 2 * max(spacing) and 0.3 < (image == 0).mean() < 0.9


def test_a_lesion_between_the_voxels_keeps_one(template):
    before = synthesize_subject(template, 0)
    for seed in range(40):
        array = np.zeros(template.t1.shape, np.uint8)
        voxel = np.argwhere(template.tissue)[seed * 97]
        array[tuple(voxel)] = 1
        mask = sitk.GetImageFromArray(array)
        mask.CopyInformation(before.mask)
        after = to_native(Subject(before.image, mask), seed)
        found = np.argwhere(arrays(after)[1])[:, ::-1].tolist()
        place = mask.TransformIndexToPhysicalPoint(voxel[::-1].tolist())
        distances_mm = [np.subtract(after.mask.TransformIndexToPhysicalPoint(index), place) for index in found]
        assert np.linalg.norm(distances_mm, axis=1).min() < 4 * 1.2 * np.sqrt(3)


def test_names_sites_and_sheets_of_r30(atlas):
    readme = (atlas / "README.txt").read_text()
    assert "SYNTHETIC" in readme and f"--release 3.0 -n {SUBJECTS} --test 0 --seed 5 --spacing 6" in readme
    first = atlas / "ATLAS3_Training_Raw/R001/sub-r001s001/ses-1/anat"
    assert sorted(path.name for path in first.iterdir()) == [
        "sub-r001s001_ses-1_metadata.csv",
        "sub-r001s001_ses-1_space-orig_desc-brain_T1w.nii.gz",
        "sub-r001s001_ses-1_space-orig_label-lesion_desc-T1lesion_mask.nii.gz",
    ]
    sessions, metadata, problems = sessions_of(atlas)
    assert not problems and len(sessions) == metadata.own_sheets == SUBJECTS
    sites = [session.site for session in sessions]
    assert {site: sites.count(site) for site in sites} == {"R001": 3, "R002": 1, "R003": 2, "R004": 1, "SOOP": 2}
    assert {metadata.of(session)["ATLAS2_DATASET"] for session in sessions} == {"Training", "Testing", ""}


def test_the_metadata_fit_together():
    rows = [metadata_of(SynthSubject("3.0", index, True), seed=0) for index in range(200)]
    known = [row for row in rows if row["CHRONICITY"]]
    assert {row["CHRONICITY"] for row in known} == set(STAGES) and 0.8 < len(known) / len(rows) < 0.97
    for row in known:
        days = float(row["DAYS_POST_STROKE"])
        assert {"acute": 0 <= days <= 7, "subacute": 7 <= days <= 180, "chronic": days >= 180}[row["CHRONICITY"]]
    assert {next(iter(row)) for row in rows if row["SITE"] == "SOOP"} == {"ATLAS2_DATASET"}
    assert {next(iter(row)) for row in rows if row["SITE"] != "SOOP"} == {"SESSION_ID"}
    assert {len(row) for row in rows} == {5} and len({row["SESSION_ID"] for row in rows}) == 200
    assert len({row["SITE"] for row in rows}) > 40


def test_a_subject_depends_on_nothing_but_seed_spacing_and_number(atlas, tmp_path):
    synthesize_atlas(tmp_path / "again", 2, 0, seed=5, spacing_mm=6, processes=2, release="3.0")
    again, whole = files_of(tmp_path / "again" / "ATLAS3_Training_Raw"), files_of(atlas / "ATLAS3_Training_Raw")
    assert len(again) == 6 and all(whole[path] == content for path, content in again.items())
    synthesize_atlas(tmp_path / "other", 1, 0, seed=6, spacing_mm=6, processes=1, release="3.0")
    other = files_of(tmp_path / "other" / "ATLAS3_Training_Raw")
    assert all(whole[path] != content for path, content in other.items())


def test_from_nothing_to_what_nnunet_accepts(atlas, raw, capsys):
    command = ["convert-atlas", str(atlas), "-np", "1", "--split", "volume", "--exclude-atlas2", "test"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("ATLAS R3.0, native space\n")
    folder = raw / "Dataset100_ATLAS"
    rows, excluded = rows_of(folder / "cases.csv"), rows_of(folder / "excluded.csv")
    assert len(rows) + len(excluded) == SUBJECTS and {row["ATLAS2_DATASET"] for row in excluded} == {"Testing"}
    for row in rows:
        label = sitk.ReadImage(str(folder / f"labelsTr/{row['case']}.nii.gz"))
        lesion = sitk.GetArrayFromImage(label)
        volume_mm3 = lesion.sum() * np.prod(label.GetSpacing())
        assert float(row["lesion_volume_mm3"]) == pytest.approx(volume_mm3, rel=1e-4)
        assert int(row["lesion_count"]) == ndimage.label(lesion, EVERYWHERE)[1]
    splits = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(row["case"] for row in rows)
    assert verify_as_nnunet(folder) == len(rows)
    said = capsys.readouterr().out
    assert "Warning" not in said and "Error" not in said


def verify_as_nnunet(folder: Path) -> int:
    """Check each case as nnUNetv2_plan_and_preprocess --verify_dataset_integrity does, in this process."""
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    dataset_json = json.loads((folder / "dataset.json").read_text())
    cases = get_filenames_of_train_images_and_targets(str(folder), dataset_json)
    assert len(cases) == dataset_json["numTraining"]
    for case in cases.values():
        reader = determine_reader_writer_from_dataset_json(dataset_json, case["images"][0])
        assert reader.__name__ == "NibabelIOWithReorient"
        assert check_cases(case["images"], case["label"], 1, reader)
        assert verify_labels(case["label"], reader, [0, 1])
    return len(cases)
