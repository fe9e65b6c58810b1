"""Probabilities on the grid of their label map, against nnU-Net's own readers."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_ici.evaluation.grids import read_on_grid
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.evaluation.labels import FOREGROUND

ORIENTATIONS = ["RAS", "LAS", "LPS", "PIR", "ASL", "IRP"]


@pytest.fixture(params=ORIENTATIONS)
def written(request, tmp_path, rng):
    """A prediction as nnU-Net writes it with its reorienting reader: label map turned back, probabilities not."""
    ornt = nib.orientations.axcodes2ornt(request.param)
    image = nib.Nifti1Image(np.zeros((5, 6, 7), np.float32), np.diag([1.0, 1.25, 1.5, 1]))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), ornt)
    nib.save(image.as_reoriented(turn), tmp_path / "image.nii.gz")
    _, properties = NibabelIOWithReorient().read_images((str(tmp_path / "image.nii.gz"),))
    probability = rng.random((7, 6, 5)).astype(np.float32)
    path = tmp_path / "case.nii.gz"
    NibabelIOWithReorient().write_seg((probability > 0.5).astype(np.uint8), str(path), properties)
    np.savez(tmp_path / "case.npz", probabilities=np.stack([1 - probability, probability]))
    return path


@pytest.mark.parametrize("reader", [None, "NibabelIOWithReorient"])
def test_turned_back_as_the_label_map_was(written, reader):
    if reader:
        (written.parent / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))
    label_map = read_label_map(written)
    found = read_on_grid(written.with_name("case.npz"), FOREGROUND, label_map)
    np.testing.assert_array_equal(found[1] > 0.5, label_map.array == 1)
    assert found.flags.c_contiguous and found.shape == (2, *label_map.array.shape)


def test_an_empty_label_map_goes_by_the_reader(tmp_path, rng):
    image = nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.diag([-1.0, 1, 1, 1]))
    nib.save(image, tmp_path / "case.nii.gz")
    probability = rng.random((5, 5, 5)).astype(np.float32) / 2
    np.savez(tmp_path / "case.npz", probabilities=np.stack([1 - probability, probability]))
    for reader, expected in (("NibabelIOWithReorient", probability[:, :, ::-1]), ("SimpleITKIO", probability)):
        (tmp_path / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))
        label_map = read_label_map(tmp_path / "case.nii.gz")
        found = read_on_grid(tmp_path / "case.npz", FOREGROUND, label_map)
        np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_a_reader_that_turns_nothing(tmp_path, rng):
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.float32), np.diag([-1.0, -1, 1, 1])), tmp_path / "image.nii.gz")
    _, properties = SimpleITKIO().read_images((str(tmp_path / "image.nii.gz"),))
    probability = rng.random((7, 6, 5)).astype(np.float32)
    SimpleITKIO().write_seg((probability > 0.5).astype(np.uint8), str(tmp_path / "case.nii.gz"), properties)
    np.savez(tmp_path / "case.npz", probabilities=np.stack([1 - probability, probability]))
    label_map = read_label_map(tmp_path / "case.nii.gz")
    found = read_on_grid(tmp_path / "case.npz", FOREGROUND, label_map)
    np.testing.assert_array_equal(found[1], probability)


def test_probabilities_of_another_case_are_refused(tmp_path):
    label_map = np.zeros((4, 4, 4), np.uint8)
    label_map[0] = 1
    nib.save(nib.Nifti1Image(label_map.T, np.eye(4)), tmp_path / "case.nii.gz")
    probability = np.zeros((4, 4, 4), np.float32)
    probability[3] = 0.9
    np.savez(tmp_path / "case.npz", probabilities=np.stack([1 - probability, probability]))
    with pytest.raises(ValueError, match=r"case\.npz does not fit its label map\. .* Got: 0 of its 16 voxels"):
        read_on_grid(tmp_path / "case.npz", FOREGROUND, read_label_map(tmp_path / "case.nii.gz"))
