"""Where images lie: turns between grids, tolerances, and files that SimpleITK refuses."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from scipy.spatial.transform import Rotation

from nnunet_ici.evaluation.grids import read_prediction
from nnunet_ici.evaluation.label_maps import read_label_map
from nnunet_ici.geometry import Grid, TwoTransformsError, reorient, turn_between
from nnunet_ici.images import read_image, read_nifti, write_image

SHAPE = (5, 6, 7)  # x, y, z
SPACING = (1.0, 1.5, 2.5)
SHEAR = np.array([[1, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
TURNS = [
    np.array(list(zip(axes, flips, strict=True)), float)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def affine_of(seed=0, origin=(-90.0, 30.0, 12.0)):
    """Rotated at random, so that no axis of the image is near one of the body."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * SPACING
    affine[:3, 3] = origin
    return affine


def grid(affine, name="own.mha", size=SHAPE):
    return Grid(Path(name), size, affine, in_mm=not name.endswith(".png"))


def save(path, array, affine, qform_code=1, sform_code=1, dtype=np.uint8):
    """``array`` (x, y, z); the qform cannot hold a shear."""
    image = nib.Nifti1Image(array.astype(dtype), affine)
    image.set_sform(affine, sform_code)
    image.header["qform_code"] = 0
    if qform_code:
        image.set_qform(affine, qform_code)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_every_flip_and_permutation_is_undone(turn):
    wanted = grid(affine_of())
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE[::-1])  # z, y, x
    other = wanted.turned(turn)
    stored = reorient(voxels, turn)
    assert stored.shape == other.size[::-1]
    found = turn_between(other, wanted, "x")
    back = reorient(np.stack([stored, 2 * stored]), found)
    np.testing.assert_array_equal(back, [voxels, 2 * voxels])
    assert (found is None) == np.array_equal(turn, TURNS[0]) and back.flags.c_contiguous
    # the same place: the voxel with index i, j, k of the stored array
    assert np.allclose((other.affine @ (1, 2, 3, 1))[:3], position(wanted, back[0], stored[3, 2, 1]))


def position(where, array, value):
    (z, y, x) = np.argwhere(array == value)[0]
    return (where.affine @ (x, y, z, 1))[:3]


def rescaled(*factors):
    return lambda affine: affine @ np.diag([*factors, 1])


def moved(mm):
    return lambda affine: affine + np.pad([[mm]], ((0, 3), (3, 0)))


def rotated(degrees):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return lambda affine: affine @ turn


@pytest.mark.parametrize(
    ("change", "what", "expected", "got"),
    [
        (rescaled(0.5, 0.5, 0.5), "spacing", "[1.0, 1.5, 2.5]", "[0.5, 0.75, 1.25]"),
        (rescaled(1, 1, 1.00002), "spacing", "[1.0, 1.5, 2.5]", "[1.0, 1.5, 2.50005]"),
        (moved(12), "origin", "[-90.0, 30.0, 12.0]", "[-78.0, 30.0, 12.0]"),
        (moved(0.002), "origin", "[-90.0, 30.0, 12.0]", "[-89.998, 30.0, 12.0]"),
    ],
)
def test_any_other_difference_is_named_with_both_files(change, what, expected, got):
    message = f"own.mha differs in {what} from its image. Expected: {expected}, as in gt.mha. Got: {got}"
    with pytest.raises(ValueError, match=re.escape(message)):
        turn_between(grid(change(affine_of())), grid(affine_of(), "gt.mha"), "its image")


def test_another_direction_and_another_shape():
    own, wanted = grid(rotated(0.01)(affine_of())), grid(affine_of(), "gt.mha")
    with pytest.raises(ValueError, match=r"own\.mha differs in direction from it\. Expected: \[\["):
        turn_between(own, wanted, "it")
    with pytest.raises(ValueError, match=r"in shape from it\. Expected: \(7, 6, 5\), as in .* Got: \(7, 6, 6\)"):
        turn_between(grid(affine_of(), size=(6, 6, 7)), wanted, "it")
    flat = Grid(Path("flat.mha"), (5, 6), np.eye(3), in_mm=True)
    with pytest.raises(ValueError, match=r"in shape from it\. Expected: \(7, 6, 5\), as in .* Got: \(6, 5\)"):
        turn_between(flat, wanted, "it")


@pytest.mark.parametrize("change", [rescaled(1.000009, 1, 1), moved(0.0009), rotated(0.0005)])
def test_rounding_is_no_difference(change):
    assert turn_between(grid(change(affine_of())), grid(affine_of()), "x") is None
    assert turn_between(grid(affine_of().astype(np.float32)), grid(affine_of()), "x") is None


def test_formats_without_millimetres_have_a_shape_only():
    flat, other = (
        Grid(Path(name), (5, 6), np.diag([d, d, 1.0]), in_mm=False) for name, d in (("a.png", 1), ("b.png", 3))
    )
    assert turn_between(flat, other, "x") is None and flat.spacing_mm == other.spacing_mm == (1.0, 1.0)
    assert other.voxel_mm3 == 1 and grid(affine_of()).voxel_mm3 == pytest.approx(3.75)


def test_a_slice_is_turned_too():
    wanted = Grid(Path("a.mha"), (3, 2), np.array([[0, 2.0, 5], [-1, 0, 7], [0, 0, 1]]), in_mm=True)
    turn = np.array([[1, -1.0], [0, 1]])
    array = np.arange(6).reshape(2, 3)
    other = wanted.turned(turn)
    assert other.size == (2, 3)
    np.testing.assert_array_equal(reorient(reorient(array, turn), turn_between(other, wanted, "x")), array)


def test_axes_that_simpleitk_straightens_are_the_same_place(tmp_path, rng):
    """nnU-Net writes its predictions with SimpleITK, which makes the axes perpendicular."""
    for seed in range(5):
        affine = np.round(affine_of(seed), 4)
        path = save(tmp_path / "gt.nii.gz", rng.random(SHAPE) < 0.5, affine, qform_code=0)
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(image, str(tmp_path / "own.nii.gz"))
        again = read_image(tmp_path / "own.nii.gz")
        assert turn_between(Grid.of(again, tmp_path / "own.nii.gz"), Grid.of(image, path), "x") is None


MIRROR = np.diag([-1, 1, 1, 1.0])


def two_transforms(path, sform, qform, pixdim=None):
    """A mask of one voxel; without a qform if that is None."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1, 2, 3] = 1
    save(path, voxels, sform, qform_code=0)
    image = nib.load(path)
    if qform is not None:
        image.set_qform(qform, 1)
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    nib.save(image, path)
    return path


DIFFERING = {
    "mirrored": (np.eye(4), MIRROR, None, "8 mm. Expected: one, because some programs"),
    "moved": (np.eye(4), moved(0.6)(np.eye(4)), None, "0.6 mm."),
    "rotated": (affine_of(1), rotated(20)(affine_of(1)), None, "2.74 mm."),
    "scaled": (np.eye(4), np.diag([2, 2, 2, 1.0]), None, "8.77 mm."),
    "pixdim": (np.diag([2, 2, 2, 1.0]), None, (1, 1, 1), "8.77 mm."),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_two_transforms_in_one_header_are_refused(tmp_path, name):
    *transforms, said = DIFFERING[name]
    path = two_transforms(tmp_path / "mask.nii.gz", *transforms)
    for read in (read_image, read_label_map, read_nifti):
        with pytest.raises(
            TwoTransformsError, match=re.escape(f"{path} has two transforms that differ by up to {said}")
        ):
            read(path)


def test_rounding_of_a_second_transform_is_tolerated(tmp_path):
    for qform in (affine_of(1).round(3), moved(0.2)(affine_of(1)), rotated(0.5)(affine_of(1))):
        path = two_transforms(tmp_path / "mask.nii.gz", affine_of(1), qform)
        assert read_image(path).GetSize() == SHAPE


def test_without_any_transform_nibabel_and_simpleitk_may_have_written_the_prediction(tmp_path):
    """They assume different positions, so the prediction of one lies elsewhere for the other."""
    path = save(tmp_path / "gt.nii.gz", np.ones(SHAPE), np.eye(4), qform_code=0, sform_code=0)
    label = read_label_map(path)
    for writer in (SimpleITKIO, NibabelIO):
        array, properties = writer().read_seg(str(path))
        writer().write_seg(array[0].astype(np.uint8), str(tmp_path / "own.nii.gz"), properties)
        assert read_prediction(tmp_path / "own.nii.gz", label).array.shape == label.array.shape
    save(tmp_path / "own.nii.gz", np.ones(SHAPE), moved(1)(np.eye(4)), qform_code=0)
    with pytest.raises(ValueError, match=r"differs in origin from its ground truth"):
        read_prediction(tmp_path / "own.nii.gz", label)


def sheared(seed=0, by=0.05):
    shear = np.eye(4)
    shear[0, 1] = by
    return affine_of(seed) @ shear


@pytest.mark.parametrize(
    "affine", [np.round(affine_of(), 3), sheared(), sheared(by=0.001)], ids=["rounded", "0.05", "0.001"]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_an_affine_that_simpleitk_refuses_is_read_and_written_as_it_is(tmp_path, rng, affine, ending):
    voxels = rng.integers(0, 200, SHAPE).astype(np.uint8)
    path = save(tmp_path / f"own{ending}", voxels, affine, qform_code=0)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    image = read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), voxels.T)
    np.testing.assert_allclose(Grid.of(image, path).affine, affine, rtol=0, atol=1e-5)
    write_image(image, tmp_path / f"again{ending}")
    again = nib.load(tmp_path / f"again{ending}")
    np.testing.assert_allclose(again.affine, affine, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(again.dataobj, voxels)
    assert again.get_data_dtype() == np.uint8
    own, wanted = Grid.of(read_image(tmp_path / f"again{ending}"), path), Grid.of(image, path)
    assert turn_between(own, wanted, "x") is None
    flip = np.array([[0, 1.0], [2, -1], [1, 1]])
    assert turn_between(own.turned(flip), wanted, "x") is not None
    with pytest.raises(ValueError, match=r"differs in (spacing|direction) from"):
        turn_between(grid(affine_of()), wanted, "x")


def test_rounded_affines_are_read_in_all_of_30_rotations(tmp_path):
    for seed in range(30):
        affine = np.round(affine_of(seed), 3)
        path = save(tmp_path / "x.nii.gz", np.ones(SHAPE), affine, qform_code=0)
        np.testing.assert_allclose(Grid.of(read_image(path), path).affine, affine, rtol=0, atol=2e-3)


@pytest.mark.parametrize("writer", [SimpleITKIO, NibabelIO, NibabelIOWithReorient])
@pytest.mark.parametrize("kind", ["rotated", "rounded to 4 decimals", "rounded to 3 decimals", "sheared"])
def test_predictions_of_every_reader_of_nnunet_lie_where_their_image_does(tmp_path, rng, writer, kind):
    change = {
        "rotated": lambda affine: affine,
        "rounded to 4 decimals": lambda affine: np.round(affine, 4),
        "rounded to 3 decimals": lambda affine: np.round(affine, 3),
        "sheared": lambda affine: affine @ SHEAR,
    }[kind]
    count = 0
    for seed in range(12):
        voxels = (rng.random(SHAPE) < 0.5).astype(np.uint8)
        qform_code = seed % 2 if kind == "rotated" else 0
        path = save(tmp_path / "gt.nii.gz", voxels, change(affine_of(seed)), qform_code)
        try:
            array, properties = writer().read_seg(str(path))
        except RuntimeError as error:  # nnU-Net then takes nibabel
            assert writer is SimpleITKIO and "orthonormal" in str(error)
            continue
        writer().write_seg(array[0].astype(np.uint8), str(tmp_path / "own.nii.gz"), properties)
        label, prediction = read_label_map(path), read_prediction(tmp_path / "own.nii.gz", read_label_map(path))
        np.testing.assert_array_equal(prediction.array, label.array)
        assert not prediction.turned
        count += 1
    assert count >= (0 if writer is SimpleITKIO and kind in ("sheared", "rounded to 3 decimals") else 10)
