"""Incomplete files, values that are almost integers, and hidden files."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image

from nnunet_ici.datasets.atlas_checks import binary_mask
from nnunet_ici.evaluation.folders import FILE_ENDINGS
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.geometry import Grid
from nnunet_ici.images import read_image, visible, whole_numbers, write_image


@pytest.fixture(params=[".nii", ".nii.gz"])
def path(request, tmp_path, rng):
    path = tmp_path / f"image{request.param}"
    sitk.WriteImage(sitk.GetImageFromArray(rng.integers(0, 99, (20, 21, 22)).astype(np.int16)), str(path))
    return path


def test_a_whole_file_is_read(path):
    assert read_image(path).GetSize() == (22, 21, 20)


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


def store_as(path, array):
    """Write a file as programs for its format do, 1-bit images among them."""
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, compression="zlib", photometric="minisblack")
    elif path.suffix in (".png", ".bmp"):
        Image.fromarray(array).save(path)
    elif path.suffix == ".nii":
        nib.save(nib.Nifti1Image(array.T, np.diag([1, 2, 3, 1.0])), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_the_same_values_as_nnunet_in_each_of_its_formats(tmp_path, rng, ending):
    path = tmp_path / f"case{ending}"
    same = []
    for dtype, shape in itertools.product(
        (np.bool_, np.uint8, np.uint16, np.float32), ((6, 7), (5, 6, 7), (5, 6, 3), (1, 6, 7))
    ):
        array = rng.integers(0, 2 if dtype == np.bool_ else 200, shape).astype(dtype)
        with contextlib.suppress(Exception):  # the format has no such images, or nnU-Net does not read them
            store_as(path, array)
            reader = determine_reader_writer_from_file_ending(ending, str(path), verbose=False)
            expected, properties = reader().read_seg(str(path))
            same.append((expected, properties, read_image(path)))
    for expected, properties, image in same:
        got = sitk.GetArrayFromImage(image)
        if image.GetNumberOfComponentsPerPixel() > 1:
            got = np.moveaxis(got, -1, 0)
        np.testing.assert_array_equal(got.reshape(expected.shape), expected)
        if image.GetDimension() == 3:
            assert Grid.of(image, path).spacing_mm[::-1] == pytest.approx(properties["spacing"])
    assert len(same) >= (3 if ending == ".bmp" else 4)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_of_any_format_is_noticed(tmp_path, rng, ending, share):
    path = tmp_path / f"case{ending}"
    store_as(
        path, rng.integers(0, 200, (40, 50) if ending in (".png", ".bmp", ".tif") else (9, 40, 50)).astype(np.uint8)
    )
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{path} cannot be read\. Expected: a complete image\. Got: "):
        read_image(path)


@pytest.mark.parametrize("ending", [".tif", ".tiff"])
def test_the_spacing_of_a_tiff_is_in_a_file_of_nnunet(tmp_path, ending):
    path, file = tmp_path / f"case{ending}", tmp_path / "case.json"
    store_as(path, np.ones((4, 6, 7), np.uint8))
    assert read_label_map(path).spacing_mm == (1, 1, 1) and not read_label_map(path).grid.in_mm
    file.write_text('{"spacing": [3, 0.5, 0.25]}')
    label_map = read_label_map(path)
    assert label_map.spacing_mm == (3, 0.5, 0.25) and label_map.grid.voxel_mm3 == pytest.approx(0.375)
    image = path.rename(tmp_path / f"case_0000{ending}")  # whose spacing file has no channel in its name
    assert Grid.of(read_image(image), image).spacing_mm == (0.25, 0.5, 3)
    write_image(label_map.grid.image_of(label_map.array), tmp_path / f"again{ending}")
    array, properties = Tiff3DIO().read_seg(str(tmp_path / f"again{ending}"))
    assert properties["spacing"] == [3, 0.5, 0.25] and (array == 1).all() and array.shape == (1, 4, 6, 7)
    for content in ("no json", "[3, 1, 1]", '{"spacing": [3, 1]}', '{"spacing": [3, 0, 1]}', '{"spacing": "3"}'):
        file.write_text(content)
        with pytest.raises(
            ValueError, match=rf"{file} cannot be read\. Expected: .*\[z, y, x\].*, in mm, above 0\. Got: "
        ):
            Grid.of(read_image(image), image)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_a_file_that_is_not_written_completely_is_an_error(tmp_path, ending, rng):
    """ITK reports no error for a full disk in some formats. The limit of the file size has the same effect here."""
    code = f"""
import resource, signal, sys
import numpy as np, SimpleITK as sitk
from pathlib import Path
from nnunet_ici.images import write_image
shape = (90, 80) if "{ending}" in (".png", ".bmp") else (30, 50, 60)
image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    write_image(image, Path("{tmp_path}/x{ending}"))
except OSError as error:
    sys.exit(error.errno in (5, 27))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 1
