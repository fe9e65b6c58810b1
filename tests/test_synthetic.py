"""The synthetic ATLAS: names and grid, reproducible, lesions as described, read back by the converter."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_ici.cli import main
from nnunet_ici.datasets import synth_atlas, synthetic
from nnunet_ici.datasets.atlas_to_raw import convert_atlas
from nnunet_ici.datasets.synth_atlas import synthesize_atlas
from nnunet_ici.datasets.synthetic import GRID, load_template, synthesize_subject
from tests.atlas_tree import sessions_of

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def template():
    return load_template(3)


def arrays(subject):
    return sitk.GetArrayFromImage(subject.image), sitk.GetArrayFromImage(subject.mask)


def test_the_template_has_the_grid_of_atlas():
    template = load_template()
    assert template.geometry.GetSize() == GRID and template.t1.shape == GRID[::-1]
    x, y, z = template.coordinates_mm
    assert [x[0], x[-1], y[0], y[-1], z[0], z[-1]] == [-98, 98, -134, 98, -72, 116]
    assert 0.9 < np.median(template.t1[template.white_matter > 0.9]) < 1.1


def test_another_spacing_keeps_the_place(template):
    assert template.geometry.GetSize() == tuple((n - 1) // 3 + 1 for n in GRID)
    assert template.geometry.GetOrigin() == load_template().geometry.GetOrigin()
    assert template.geometry.GetSpacing() == (3.0, 3.0, 3.0)


def test_the_same_seed_the_same_subject(template):
    first, again, other = (synthesize_subject(template, seed) for seed in ([0, 1], [0, 1], [0, 2]))
    for a, b in zip(arrays(first), arrays(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(arrays(first)[0], arrays(other)[0])


def test_lesions_are_few_dark_and_inside_the_brain(template):
    volumes, darker = [], []
    for seed in range(40):
        image, mask = arrays(synthesize_subject(template, seed))
        assert image.dtype == np.int16 and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
        assert image.shape == mask.shape == template.t1.shape
        ids, count = ndimage.label(mask, np.ones((3, 3, 3)))
        assert 1 <= count <= 10
        volumes += list(np.bincount(ids.ravel())[1:] * 27.0)
        lesion, tissue = mask == 1, template.tissue & (mask == 0)
        assert (template.t1[lesion] > 0).all()
        darker.append(image[lesion].mean() < 0.85 * image[tissue].mean())
    assert np.mean(darker) > 0.8  # the tiny ones are shallow
    assert min(volumes) < 100 and max(volumes) > 50_000  # mm3: from a few voxels to a territory
    assert 500 < np.median(volumes) < 5_000


def test_volumes_are_those_drawn(template, monkeypatch):
    monkeypatch.setattr(synthetic, "LESIONS", (1, 1))
    monkeypatch.setattr(synthetic, "LOG_SD", 0.0)
    volumes = [arrays(synthesize_subject(template, seed))[1].sum() * 27 for seed in range(10)]
    assert synthetic.MEDIAN_VOLUME_MM3 * 0.6 < np.median(volumes) <= synthetic.MEDIAN_VOLUME_MM3 * 1.05


def test_contrast_bias_and_noise_vary(template):
    white = template.white_matter > 0.95
    scales, noises = [], []
    for seed in range(8):
        image, mask = arrays(synthesize_subject(template, seed))
        inside = image[white & (mask == 0)].astype(float)
        scales.append(inside.mean())
        noises.append(inside.std() / inside.mean())
    assert max(scales) > 1.3 * min(scales) and max(noises) > 1.2 * min(noises)


def test_a_data_set_in_the_layout_of_atlas(tmp_path):
    out = tmp_path / "ATLAS_2"
    synthesize_atlas(out, training=7, testing=2, seed=3, spacing_mm=6, processes=2)
    path = out / "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"
    assert path.is_file()
    assert (out / "Training/R002/sub-r002s001/ses-1/anat").is_dir()
    sessions, metadata, problems = sessions_of(out)
    assert not problems and sum(s.mask is None for s in sessions) == 2 and len(sessions) == 9
    assert metadata.of(sessions[0])["Origin"] == "synthetic"
    assert (
        "SYNTHETIC" in (out / "README.txt").read_text() and "--seed 3 --spacing 6" in (out / "README.txt").read_text()
    )
    done = convert_atlas(out, tmp_path / "raw", split="paper", processes=1)
    assert len(done.sessions) == 9

    again = tmp_path / "again"
    synthesize_atlas(again, training=3, testing=0, seed=3, spacing_mm=6, processes=1)
    same = path.relative_to(out)
    np.testing.assert_array_equal(*(sitk.GetArrayFromImage(sitk.ReadImage(str(r / same))) for r in (out, again)))


def test_the_command(tmp_path, capsys):
    out = tmp_path / "atlas"
    out.mkdir()  # empty: fine
    assert main(["synth-atlas", str(out), "-n", "2", "--test", "0", "--spacing", "8", "-np", "1"]) == 0
    assert "2 training and 0 test subjects. SYNTHETIC" in capsys.readouterr().out
    assert main(["synth-atlas", str(out), "-n", "2", "--spacing", "8"]) == 1
    assert f"OUT is not usable. Expected: a new or empty folder. Got: files in {out}" in capsys.readouterr().err
    assert main(["synth-atlas", str(tmp_path / "b"), "-n", "0"]) == 1
    assert "there must be at least one training subject. Got: 0 training" in capsys.readouterr().err
    for spacing in ("-1", "0.1", "50", "nan"):
        assert main(["synth-atlas", str(tmp_path / "b"), "--spacing", spacing]) == 1
        assert f"the spacing is out of range. Expected: 0.5 to 10 mm. Got: {spacing}" in capsys.readouterr().err
        assert not (tmp_path / "b").exists()
    assert not (tmp_path / "b").exists()


def test_without_nilearn(tmp_path, monkeypatch, capsys):
    synth_atlas._load_template.cache_clear()
    monkeypatch.setattr(synthetic.importlib.util, "find_spec", lambda name: None)
    assert main(["synth-atlas", str(tmp_path / "b"), "-n", "1"]) == 1
    assert 'pip install "nnunet-ici[demo]"' in capsys.readouterr().err and os.listdir(tmp_path) == []
