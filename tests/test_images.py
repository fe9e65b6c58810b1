"""Files that are not whole."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ici.images import read_image


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
    with pytest.raises(ValueError, match=rf"{path} cannot be read\. Expected: a whole image\. Got: "):
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
