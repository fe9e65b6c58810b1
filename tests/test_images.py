"""Incomplete files, values that are almost integers, and hidden files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.datasets.atlas_checks import binary_mask
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.images import read_image, visible, whole_numbers


@pytest.fixture(params=[".nii", ".nii.gz"])
def path(request, tmp_path, rng):
    path = tmp_path / f"image{request.param}"
    sitk.WriteImage(sitk.GetImageFromArray(rng.integers(0, 99, (20, 21, 22)).astype(np.int16)), str(path))
    return path


def test_a_whole_file_is_read(path):
    assert read_image(path).GetSize() == (22, 21, 20)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_file_is_noticed(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{path} cannot be read\. Expected: a complete image\. Got: "):
        read_image(path)


def test_a_damaged_file_is_noticed(tmp_path, rng):
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(rng.integers(0, 99, (20, 21, 22)).astype(np.int16)), str(path))
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CRC check failed"):
        read_image(path)


def test_no_image_and_no_file(tmp_path):
    (tmp_path / "text.nii.gz").write_text("hello")
    for name in ("text.nii.gz", "none.nii.gz", "none.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_tolerance_for_the_converter_and_the_evaluation(tmp_path, dtype):
    values = np.array([0, 0.99999994, 1, 3.0000002, 199.9999], dtype).reshape(1, 1, 5)
    assert whole_numbers(values).ravel().tolist() == [0, 1, 1, 3, 200]
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    assert read_label_map(tmp_path / "a.nii.gz").array.ravel().tolist() == [0, 1, 1, 3, 200]
    nearly = values[..., :3]
    assert binary_mask(nearly, binarize=False).ravel().tolist() == [0, 1, 1]
    for value in (0.99999, 1.00001, -0.00001):
        with pytest.raises(ValueError, match="a mask that is not binary"):
            binary_mask(np.full((1, 1, 1), value, dtype), binarize=False)
        nib.save(nib.Nifti1Image(np.full((1, 1, 1), value, dtype), np.eye(4)), tmp_path / "b.nii.gz")
        with pytest.raises(ValueError, match=r"b\.nii\.gz is not a label map\. Expected: whole numbers\. Got: -?\d"):
            read_label_map(tmp_path / "b.nii.gz")


def test_voxels_of_a_scaled_file_and_its_place(tmp_path):
    """nibabel reads floating-point voxels, SimpleITK their position."""
    affine = np.diag([2, 3, 4, 1.0])
    affine[:3, 3] = 5, 6, 7
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    image.header.set_slope_inter(0.5, 1)
    nib.save(image, tmp_path / "a.nii")
    read, expected = read_image(tmp_path / "a.nii"), sitk.ReadImage(str(tmp_path / "a.nii"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(expected))
    for of in (sitk.Image.GetSize, sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        assert of(read) == of(expected)


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.full((2, 2, 2), np.nan, np.float32), "whole numbers. Got: nan and 7 more of 8 values"),
        (np.full((2, 2, 2), np.inf, np.float64), "whole numbers. Got: inf and 7 more of 8 values"),
        (np.full((2, 2, 2), 1 + 1j, np.complex64), "whole numbers. Got: complex64"),
        (np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "Got: 3 channels in 3 dimensions"),
        (np.zeros((2, 2, 2, 2), np.float32), "Got: 1 channels in 4 dimensions"),
    ],
    ids=["NaN", "infinity", "complex", "colors", "four axes"],
)
def test_a_file_that_is_no_label_map_is_named(tmp_path, voxels, message):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    with pytest.raises(ValueError, match=f"{path} is not a label map.*{message}"):
        read_label_map(path)


def test_hidden_files_and_folders_are_ignored(tmp_path):
    for name in ("b/x.png", "a.png", "._a.png", ".c/x.png", "b/._x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert visible(tmp_path, "*") == [tmp_path / "a.png", tmp_path / "b"]
    assert visible(tmp_path, "*/*.png") == [tmp_path / "b" / "x.png"]
