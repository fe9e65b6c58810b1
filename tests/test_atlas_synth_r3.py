"""The synthetic ATLAS R3.0: grids, names and metadata, reproducible, converted and accepted by nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.cli import main
from nnunet_ici.datasets.synth_atlas import STAGES, SynthSubject, metadata_of, synthesize_atlas
from nnunet_ici.datasets.synthetic import load_template, synthesize_subject
from nnunet_ici.datasets.synthetic_native import MARGIN_MM, ZOOM, to_native
from tests.atlas_tree import raw, rows_of, sessions_of

pytest.importorskip("nilearn")

__all__ = ["raw"]  # fixture

SUBJECTS = 9


@pytest.fixture(scope="module")
def template():
    return load_template(4)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Nine subjects of five sites, at 6 mm."""
    out = tmp_path_factory.mktemp("synthetic") / "atlas"
    options = ["--release", "3.0", "-n", str(SUBJECTS), "--spacing", "6", "--seed", "5", "-np", "1"]
    assert main(["synth-atlas", str(out), *options]) == 0
    return out


def arrays(subject):
    return sitk.GetArrayFromImage(subject.image), sitk.GetArrayFromImage(subject.mask)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_grid_of_its_own_around_the_brain(template):
    spacings, sizes, flips = [], set(), set()
    for seed in range(30):
        before = synthesize_subject(template, seed)
        after = to_native(before, [seed, 2])
        image, mask = arrays(after)
        assert image.dtype == np.int16 and mask.dtype == np.uint8 and image.shape == mask.shape
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(after.image, geometry)() == getattr(after.mask, geometry)()
        zoom = np.array(after.image.GetSpacing()) / 4
        assert (zoom >= ZOOM[0]).all() and (zoom <= ZOOM[1]).all()
        axes = np.array(after.image.GetDirection()).reshape(3, 3)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        tilt = np.degrees(np.arccos(np.abs(np.diag(axes))))  # against the template's axes, which are the patient's
        assert (tilt < 12).all() and (tilt > 0).all()
        flips.add(bool(np.linalg.det(axes) > 0))
        spacings.append(after.image.GetSpacing())
        sizes.add(after.image.GetSize())
    assert len(sizes) > 20 and flips == {False, True}
    isotropic = [max(spacing) - min(spacing) < 1e-9 for spacing in spacings]
    assert 0 < sum(isotropic) < 30


def test_brain_and_lesions_are_the_same_in_space_and_volume(template):
    for seed in range(12):
        before = synthesize_subject(template, seed)
        after = to_native(before, [seed, 2])
        volumes, centers_mm = [], []
        for made in (before, after):
            image, mask = arrays(made)
            voxel_mm3 = np.prod(made.image.GetSpacing())
            brain = np.argwhere(image > 0)
            volumes.append([len(brain) * voxel_mm3, mask.sum() * voxel_mm3])
            middle = brain.mean(0)[::-1].tolist()
            centers_mm.append(made.image.TransformContinuousIndexToPhysicalPoint(middle))
        (brain_before, lesion_before), (brain_after, lesion_after) = volumes
        assert 0.9 < brain_after / brain_before < 1.2  # the rim is interpolated
        assert abs(lesion_after - lesion_before) < 0.2 * lesion_before + 2 * voxel_mm3
        np.testing.assert_allclose(*centers_mm, atol=1)
        counts = [ndimage.label(arrays(made)[1], np.ones((3, 3, 3)))[1] for made in (before, after)]
        assert counts[1] >= 1 and abs(counts[1] - counts[0]) <= 1


def test_the_margin_is_empty(template):
    after = to_native(synthesize_subject(template, 3), 1)
    image, _ = arrays(after)
    brain = np.argwhere(image > 0)
    low_mm = brain.min(0)[::-1] * after.image.GetSpacing()
    high_mm = (np.array(image.shape) - 1 - brain.max(0))[::-1] * after.image.GetSpacing()
    for margin_mm in (*low_mm, *high_mm):
        assert margin_mm <= MARGIN_MM[1] + 2 * max(after.image.GetSpacing())
    assert 0.3 < (image == 0).mean() < 0.9


def test_a_lesion_between_the_voxels_keeps_one(template):
    before = synthesize_subject(template, 0)
    for seed in range(40):
        array = np.zeros(template.t1.shape, np.uint8)
        array[tuple(np.argwhere(template.tissue)[seed * 97])] = 1  # of one voxel
        mask = sitk.GetImageFromArray(array)
        mask.CopyInformation(before.mask)
        after = to_native(type(before)(before.image, mask), seed)
        found = np.argwhere(arrays(after)[1])[:, ::-1]
        assert len(found) >= 1
        voxel = np.argwhere(array)[0, ::-1].tolist()
        distances_mm = [
            np.linalg.norm(np.subtract(after.mask.TransformIndexToPhysicalPoint(index), place))
            for place in [mask.TransformIndexToPhysicalPoint(voxel)]
            for index in found.tolist()
        ]
        assert min(distances_mm) < 4 * 1.2 * np.sqrt(3)


def test_names_sites_and_sheets(atlas):
    assert "SYNTHETIC" in (atlas / "README.txt").read_text()
    assert f"--release 3.0 -n {SUBJECTS} --test 0 --seed 5 --spacing 6" in (atlas / "README.txt").read_text()
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
    assert {len(row) for row in rows} == {5}
    assert {next(iter(row)) for row in rows if row["SITE"] == "SOOP"} == {"ATLAS2_DATASET"}
    assert {next(iter(row)) for row in rows if row["SITE"] != "SOOP"} == {"SESSION_ID"}
    assert len({row["SESSION_ID"] for row in rows}) == 200
    assert len({row["SITE"] for row in rows}) > 40


def test_a_subject_depends_on_nothing_but_seed_spacing_and_number(atlas, tmp_path):
    synthesize_atlas(tmp_path / "again", 2, 0, seed=5, spacing_mm=6, processes=2, release="3.0")
    again, whole = files_of(tmp_path / "again" / "ATLAS3_Training_Raw"), files_of(atlas / "ATLAS3_Training_Raw")
    assert len(again) == 6 and all(whole[path] == content for path, content in again.items())
    synthesize_atlas(tmp_path / "other", 1, 0, seed=6, spacing_mm=6, processes=1, release="3.0")
    other = files_of(tmp_path / "other" / "ATLAS3_Training_Raw")
    assert all(whole[path] != content for path, content in other.items())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"release": "3.0", "testing": 1}, r"all subjects of R3\.0 have masks\. Expected: 0 test subjects\. Got: 1"),
        ({"release": "2.1", "testing": 0}, r"no such release\. Expected: 2\.0 or 3\.0\. Got: 2\.1"),
    ],
)
def test_what_cannot_be_made(tmp_path, options, what):
    with pytest.raises(ValueError, match=what):
        synthesize_atlas(tmp_path / "atlas", training=1, **options)
    assert not (tmp_path / "atlas").exists()


def test_from_nothing_to_what_nnunet_accepts(atlas, raw, capsys):
    command = ["convert-atlas", str(atlas), "-np", "1", "--split", "volume", "--exclude-atlas2", "test"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("ATLAS R3.0, native space\n")
    folder = raw / "Dataset100_ATLAS"
    rows = rows_of(folder / "cases.csv")
    excluded = rows_of(folder / "excluded.csv")
    assert len(rows) + len(excluded) == SUBJECTS and {row["ATLAS2_DATASET"] for row in excluded} == {"Testing"}
    for row in rows:
        image, label = (
            sitk.ReadImage(str(folder / path))
            for path in (f"imagesTr/{row['case']}_0000.nii.gz", f"labelsTr/{row['case']}.nii.gz")
        )
        assert image.GetSize() == label.GetSize()
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(image, geometry)(), getattr(label, geometry)(), atol=1e-5)
        lesion = sitk.GetArrayFromImage(label)
        volume_mm3 = lesion.sum() * np.prod(label.GetSpacing())
        assert float(row["lesion_volume_mm3"]) == pytest.approx(volume_mm3, rel=1e-4)
        assert int(row["lesion_count"]) == ndimage.label(lesion, np.ones((3, 3, 3)))[1]
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
