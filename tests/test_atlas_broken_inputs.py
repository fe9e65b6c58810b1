"""Broken inputs of the converter: each is named before anything is written, or left out with --skip-bad."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from scipy.spatial.transform import Rotation

from nnunet_ici.datasets.atlas_to_raw import BadInputError
from nnunet_ici.geometry import Grid
from nnunet_ici.images import read_image
from tests.atlas_tree import SHEET, Tree, array_of, convert, native, problems_of, raw, rows_of, tree

__all__ = ["native", "raw", "tree"]  # fixtures

SUBJECT = "r001s001"  # the session that is broken
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def voxels(change, dtype=np.float32):
    """Other voxels, (x, y, z), with the same affine."""

    def write(path):
        image = nib.load(path)
        nib.save(
            nib.Nifti1Image(change(np.asarray(image.dataobj).astype(np.float32)).astype(dtype), image.affine), path
        )

    return write


def affine(change):
    def write(path):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), change(image.affine)), path)

    return write


def header(offset, form, *values):
    """Other bytes in the header."""

    def write(path):
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into(form, content, offset, *values)
        path.write_bytes(gzip.compress(content))

    return write


def content(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def put(value):
    """The value in the voxel at the origin."""

    def change(array):
        array[0, 0, 0] = value
        return array

    return change


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_dangling_link(path):
    path.unlink()
    path.symlink_to(path.with_name("elsewhere.nii.gz"))


def with_another_name(path):
    shutil.copy(path, path.with_name(path.name.replace("s001", "s009")))


def unpacked(path):
    """An uncompressed copy, cut short."""
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-100])
    path.unlink()


def shifted(mm):
    return lambda matrix: matrix + np.pad([[mm]], ((0, 3), (3, 0)))


def scaled(*factors):
    return lambda matrix: matrix @ np.diag([*factors, 1])


TILT = np.array([[0.96, 0.28, 0, 0], [-0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
MIRROR = np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
WHOLE = "unreadable. Expected: a complete image. Got: "
SHAPE = "differs in shape from its image. Expected: (10, 9, 8), as in "
NUMBER, REAL_NUMBER = "Expected: one number per voxel.", "Expected: one real number per voxel."
BINARY = "a mask that is not binary. Expected: 0 and 1 (--binarize makes voxels above 0 lesion)."

# Which file is broken, how, and the message about it.
FILES = {
    "missing": ("image", lambda path: path.unlink(), "missing image. Expected: this file. Got: sub-r001s001"),
    "missing mask": ("mask", lambda path: path.unlink(), "missing mask. Expected: this file. Got: sub-r001s001"),
    "cut short": ("image", content(lambda c: c[:-200]), f"{WHOLE}Compressed file ended before"),
    "mask cut short": ("mask", content(lambda c: c[: len(c) // 2]), f"{WHOLE}Compressed file ended before"),
    "uncompressed, cut short": ("image", unpacked, WHOLE),
    "damaged": ("image", content(lambda c: c[:-6] + bytes([c[-6] ^ 255]) + c[-5:]), f"{WHOLE}CRC check failed"),
    "something after the end": ("mask", content(lambda c: c + b"more"), f"{WHOLE}Not a gzipped file"),
    "empty file": ("image", content(lambda _: b""), WHOLE),
    "text": ("mask", content(lambda _: b"no gzip"), f"{WHOLE}Not a gzipped file"),
    "compressed text": ("image", content(lambda _: gzip.compress(b"hello" * 99)), WHOLE),
    "a folder": ("image", as_folder, f"{WHOLE}[Errno 21] Is a directory"),
    "a dangling link": ("mask", as_dangling_link, f"{WHOLE}[Errno 2] No such file or directory"),
    "named after another case": ("mask", with_another_name, "named after another case. Expected: sub-r001s001_ses-1"),
    "slope without intercept": ("image", header(112, "<2f", 2, np.nan), f"{WHOLE}Valid slope but invalid intercept"),
    "unknown data type": ("image", header(70, "<h", 99), WHOLE),
    "a header for more voxels": ("image", header(40, "<4h", 3, 900, 900, 900), WHOLE),
    "a negative size": ("mask", header(40, "<4h", 3, -5, 9, 8), WHOLE),
    "a size of zero": ("image", header(40, "<4h", 3, 0, 9, 8), "not a volume. Expected: 3 axes. Got: shape (0"),
    "no axes": ("image", header(40, "<4h", 0, 1, 1, 1), "not a volume. Expected: 3 axes. Got: shape (0"),
    "colors": ("image", voxels(lambda a: np.zeros(a.shape, RGB), RGB), f"a color image. {NUMBER} Got: RGB"),
    "a mask in colors": ("mask", voxels(lambda a: np.ones(a.shape, RGB), RGB), f"a color image. {NUMBER} Got: RGB"),
    "complex": ("image", voxels(lambda a: a, np.complex64), f"a complex image. {REAL_NUMBER} Got: complex64"),
    "a complex mask": ("mask", voxels(lambda a: a, np.complex64), f"a complex image. {REAL_NUMBER} Got: complex64"),
    "four axes": ("image", voxels(lambda a: np.stack([a, a], -1)), "not a volume. Expected: 3 axes. Got: shape (8,"),
    "a slice": ("mask", voxels(lambda a: a[..., 0]), "not a volume. Expected: 3 axes. Got: shape (8, 9)"),
    "NaN in the affine": ("image", header(280, "<f", np.nan), "two transforms that differ by up to nan mm."),
    "flat sform": ("image", header(280, "<12f", *[0] * 12), "two transforms that differ by up to 181 mm."),
    "singular": ("image", header(252, "<2h18f", 0, 1, *[0] * 18), "a singular affine. Expected: three inde"),
    "a mirrored sform": ("mask", header(280, "<4f", -1, 0, 0, 98), "two transforms that differ by up to 196 mm."),
    "a moved qform": ("image", header(268, "<3f", 0, 0, 0), "two transforms that differ by up to 181 mm."),
    "another voxel size": ("image", header(80, "<f", 2), "two transforms that differ by up to 7 mm."),
    "another size": ("mask", voxels(lambda a: a[:, :, 1:]), SHAPE),
    "transposed": ("mask", voxels(lambda a: a.T), SHAPE),
    "moved": ("mask", affine(shifted(1)), "differs in origin from its image. Expected: [-98.0, -134.0, -72.0]"),
    "stretched": ("mask", affine(scaled(1, 1, 1.1)), "differs in spacing from its image. Expected: [1.0, 1.0, 1.0]"),
    "tilted": ("mask", affine(lambda a: a @ TILT), "differs in direction from its image. Expected: [[1.0, 0.0, 0.0]"),
    "other axes": ("mask", affine(lambda a: a @ MIRROR), "differs in orientation from its image. Expected: RAS, as "),
    "NaN": ("image", voxels(put(np.nan)), "NaN or infinity in the image. Expected: finite values. Got: 1 voxel"),
    "infinity": ("image", voxels(put(-np.inf)), "NaN or infinity in the image. Expected: finite values. Got: 1 voxel"),
    "all zero": ("image", voxels(np.zeros_like), "a constant image. Expected: at least two values. Got: 0 only"),
    "one value": ("image", voxels(lambda a: 0 * a + 7), "a constant image. Expected: at least two values. Got: 7 only"),
    "NaN in a mask": ("mask", voxels(put(np.nan)), "NaN or infinity in the mask. Expected: 0 and 1. Got: 1 voxel"),
    "infinity in a mask": ("mask", voxels(put(np.inf)), "NaN or infinity in the mask. Expected: 0 and 1. Got: 1 voxel"),
    "an empty mask": ("mask", voxels(np.zeros_like), "an empty mask. Expected: at least one voxel of 1. Got: 0 only"),
    "a mask of 255": ("mask", voxels(lambda a: 255 * a, np.uint8), f"{BINARY} Got: 0, 255"),
    "a negative mask": ("mask", voxels(put(-1)), f"{BINARY} Got: -1, 0, 1"),
    "a probability": ("mask", voxels(lambda a: a / 2 + 0.25), f"{BINARY} Got: 0.25, 0.75"),
    "nearly 1": ("mask", voxels(lambda a: 0.9999 * a), f"{BINARY} Got: 0, 0.9999"),
}  # fmt: skip


@pytest.fixture(params=FILES)
def broken(request, tree):
    """The path that should be named, and the beginning of the message about it."""
    kind, breaks, said = FILES[request.param]
    image, mask = tree.paths(SUBJECT)
    path = image if kind == "image" else mask
    breaks(path)
    if request.param == "named after another case":
        path = path.with_name(path.name.replace("s001", "s009"))
    return path.with_suffix("") if breaks is unpacked else path, said


def test_a_broken_file_is_refused_by_name_and_skippable(broken, tree, raw):
    path, said = broken
    found = problems_of(tree, raw)
    assert set(found) == {path} and found[path].startswith(said)
    done = convert(tree, raw, skip_bad=True)
    skipped = rows_of(done.folder / "skipped.csv")
    assert [row["path"] for row in skipped] == [str(path)] and skipped[0]["problem"].startswith(said)
    assert f"sub-{SUBJECT}_ses-1" not in [session.case for session in done.sessions]
    assert len(done.sessions) == 5 and len(list((done.folder / "labelsTr").iterdir())) == 4


def sheet(text, said):
    def write(tree):
        (tree.root / SHEET).write_bytes(text)
        return tree.root / SHEET, said

    return write


def own_sheet(text, said):
    def write(tree):
        tree.sheet(SUBJECT).write_text(text)
        return tree.sheet(SUBJECT), said

    return write


def two_own_sheets(tree):
    path = tree.sheet(SUBJECT)
    again = shutil.copy(path, path.with_name("sub-r001s001_ses-1_metadata_2.csv"))
    return path, f"several sheets for sub-r001s001_ses-1. Expected: one. Got: {path}, {again}"


def two_images(tree):
    image, _ = tree.paths(SUBJECT)
    image.with_suffix("").write_bytes(gzip.decompress(image.read_bytes()))
    return image.parent, "several files for one case. Expected: one image. Got: sub-r001s001_ses-1_space-"


def a_session_twice(tree):
    again, _ = tree.add(SUBJECT, part="Testing")
    path = min(again, tree.paths(SUBJECT)[0], key=lambda path: path.parts[-6] == "Testing")
    return path, f"several images for sub-r001s001_ses-1. Expected: one. Got: also {again}"


def a_session_at_two_sites(tree):
    image, _ = tree.paths(SUBJECT)
    again = shutil.copytree(image.parent, tree.root / "R002" / Path(*image.parts[-4:-1]))
    return image, f"several images for sub-r001s001_ses-1. Expected: one. Got: also {again / image.name}"


def the_mask_of_another_grid(tree):
    image, mask = tree.paths(SUBJECT)
    shutil.copy(tree.paths("r002s001")[1], mask)
    shapes = [array_of(path).shape for path in (image, mask)]
    return mask, f"differs in shape from its image. Expected: {shapes[0]}, as in {image}. Got: {shapes[1]}"


def no_release(tree):
    tree.root = tree.root.parent / "nnUNet_raw"
    return tree.root, "no case in this folder or up to 2 levels below it. Expected: Training/R001/sub-r001s001/ses-1"


def two_releases(tree):
    Tree(tree.root.parent).add(SUBJECT)
    tree.root = tree.root.parent
    return tree.root, "more than one release. Expected: the folder of one of them. Got: "


SHEETS_AND_FOLDERS = {
    "two images": ("tree", two_images),
    "a session in Training and Testing": ("tree", a_session_twice),
    "a session at two sites": ("native", a_session_at_two_sites),
    "the mask of another grid": ("native", the_mask_of_another_grid),
    "no release": ("tree", no_release),
    "two releases": ("native", two_releases),
    "an empty sheet": ("tree", sheet(b"", "cannot be read. Expected: a table with a header. Got: an empty file")),
    "another encoding": ("tree", sheet("x\n".encode("utf-16"), "cannot be read. Expected: a table with a header.")),
    "a sheet without subjects": (
        "tree", sheet(b"Name\nx\n", "no subject column. Expected: one named Subject ID or SESSION_ID. Got: Name"),
    ),
    "two rows": (
        "tree", sheet(b"SESSION_ID\nsub-r1_ses-1\nsub-r1_ses-1\n", "two rows for the same case. Expected: one."),
    ),
    "two rows of a subject": ("tree", sheet(b"Subject ID\nr001s001\nsub-r001s001\n", "two rows for the same case.")),
    "a row without a subject": ("tree", sheet(
        b"SESSION_ID,AGE\nses-1,3\n",
        "a row without a subject. Expected: sub-r001s001_ses-1, or a column Subject ID. Got: ses-1, 3",
    )),
    "no session": ("native", own_sheet("SITE\nR1\n", "no session column. Expected: one named SESSION_ID. Got: SITE")),
    "another session": ("native", own_sheet(
        "SESSION_ID\nsub-x_ses-1\n", "a row of another case. Expected: sub-r001s001_ses-1. Got: x_1"
    )),
    "two own rows": ("native", own_sheet(
        "SESSION_ID\n1\n1\n", "several rows for sub-r001s001_ses-1. Expected: one. Got: 2"
    )),
    "an empty own sheet": ("native", own_sheet("", "cannot be read. Expected: a table with a header. Got: an empty")),
    "two own sheets": ("native", two_own_sheets),
}  # fmt: skip


@pytest.mark.parametrize("name", SHEETS_AND_FOLDERS)
def test_a_broken_sheet_or_folder_is_refused_by_name(name, request, raw):
    kind, breaks = SHEETS_AND_FOLDERS[name]
    made = request.getfixturevalue(kind)
    path, said = breaks(made)
    found = problems_of(made, raw)
    assert set(found) == {path} and found[path].startswith(said)


@pytest.mark.parametrize("trust", ["sform", "qform"])
@pytest.mark.parametrize("symlink", [False, True])
def test_one_of_two_transforms_is_kept_on_request(tree, raw, trust, symlink):
    before = {}
    for path in tree.paths(SUBJECT):
        header(280, "<4f", -1, 0, 0, 98)(path)  # the sform, mirrored
        image = nib.load(path)
        before[path.name] = np.asarray(image.dataobj), image.get_sform() if trust == "sform" else image.get_qform()
    done = convert(tree, raw, trust=trust, symlink=symlink)
    case = f"sub-{SUBJECT}_ses-1"
    for name, (voxels, affine) in zip(
        (f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz"), before.values(), strict=True
    ):
        image = nib.load(done.folder / name)
        np.testing.assert_array_equal(image.dataobj, voxels)
        np.testing.assert_allclose(image.affine, affine)
        assert [int(image.header[field]) for field in ("sform_code", "qform_code")] == [1, 0]
        assert (done.folder / name).is_symlink() is False
        read = read_image(done.folder / name)
        np.testing.assert_allclose(Grid.of(read, Path(name)).affine, affine)  # as nnU-Net reads it with SimpleITK
    assert (done.folder / "imagesTr" / "sub-r002s001_ses-1_0000.nii.gz").is_symlink() == symlink
    with pytest.raises(BadInputError, match="two transforms"):
        convert(tree, raw, dataset_id=101)


def test_the_transform_that_is_kept_must_be_that_of_the_image(tree, raw):
    _, mask = tree.paths(SUBJECT)
    header(268, "<3f", 0, 0, 0)(mask)  # the qform, moved; the sforms are the same
    found = problems_of(tree, raw, trust="qform")
    assert list(found) == [mask] and found[mask].startswith("differs in origin from its image. Expected: [-98.0, -134")
    assert len(convert(tree, raw, trust="sform").sessions) == 6


@pytest.mark.parametrize("kind", ["rounded", "sheared"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_affine_that_simpleitk_refuses_is_converted_for_nibabel(tree, raw, kind, dtype):
    """The labels keep the affine, and dataset.json names a reader of nnU-Net that can read it."""
    skew = np.eye(4)
    skew[:3, :3] = np.round(Rotation.random(random_state=0).as_matrix(), 3)
    skew[0, 1] += 0.05 if kind == "sheared" else 0
    for path in tree.paths(SUBJECT):
        image = nib.load(path)
        stored = nib.Nifti1Image(np.asarray(image.dataobj).astype(dtype), image.affine @ skew)
        stored.header["qform_code"] = 0
        nib.save(stored, path)
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(path))
    done = convert(tree, raw)
    before, label = nib.load(tree.paths(SUBJECT)[1]), nib.load(done.folder / "labelsTr" / f"sub-{SUBJECT}_ses-1.nii.gz")
    np.testing.assert_allclose(label.affine, before.affine, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(label.dataobj, before.dataobj)
    assert label.get_data_dtype() == np.uint8
    files = [str(done.folder / part / f"sub-{SUBJECT}_ses-1") for part in ("imagesTr", "labelsTr")]
    _, of_image = NibabelIOWithReorient().read_images((f"{files[0]}_0000.nii.gz",))
    _, of_label = NibabelIOWithReorient().read_seg(f"{files[1]}.nii.gz")
    assert of_image["spacing"] == of_label["spacing"]
    assert '"overwrite_image_reader_writer": "NibabelIOWithReorient"' in (done.folder / "dataset.json").read_text()
