"""The commands on files with other axes or another position than their ground truth."""

from __future__ import annotations

import json
import pickle
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from nnunet_ici.cli import main
from nnunet_ici.evaluation.summary import read_rows

SHAPE = (10, 12, 14)  # x, y, z
AFFINE = np.array([[1, 0, 0, -30], [0, 1.5, 0, 20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
CASES = ("case0", "case1")
SHEAR = np.array([[1, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def store(path, voxels, axes="RAS", affine=AFFINE):
    """``voxels`` (x, y, z) in RAS, stored with other axes at the same place."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    stored = nib.orientations.apply_orientation(voxels, turn)
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(stored, affine @ inv_ornt_aff(turn, voxels.shape)), path)


def store_probability(path, probability, reader, axes="RAS"):
    """Write as nnU-Net does: the label map on its own axes, the probabilities as its reader turned the image."""
    store(path, (probability > 0.5).astype(np.uint8), axes)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("RAS" if reader.endswith("Reorient") else axes))
    array = nib.orientations.apply_orientation(probability, turn).T
    np.savez(str(path).replace(".nii.gz", ".npz"), probabilities=np.stack([1 - array, array]))
    image = sitk.ReadImage(str(path))
    properties = {
        "sitk_stuff": {"spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection()},
        "nibabel_stuff": {"original_affine": nib.load(path).affine, "reoriented_affine": AFFINE},
        "spacing": [2, 1.5, 1],
    }
    path.with_name(path.name.replace(".nii.gz", ".pkl")).write_bytes(pickle.dumps(properties))
    plans = {"plans_name": "nnUNetPlans", "image_reader_writer": reader, "label_manager": "LabelManager"}
    (path.parent / "plans.json").write_text(json.dumps(plans))
    (path.parent / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "x"}})
    )


@pytest.fixture
def lesions():
    """By case: two asymmetric lesions, one partly found and one missed."""
    found = {}
    for at, case in enumerate(CASES):
        label = np.zeros(SHAPE, np.uint8)
        label[1:4, 2:4, 1 + at : 4] = label[7, 9, 11] = 1
        found[case] = label
    return found


@pytest.fixture
def folder(tmp_path, lesions):
    """The same prediction with the axes of the ground truth, mirrored, and permuted."""
    for case, label in lesions.items():
        prediction = label.copy()
        prediction[7, 9, 11] = prediction[1] = 0
        store(tmp_path / "gt" / f"{case}.nii.gz", label)
        for axes in ("RAS", "LAS", "PIR"):
            store(tmp_path / axes / f"{case}.nii.gz", prediction, axes)
        store(tmp_path / "images" / f"{case}_0000.nii.gz", label.astype(np.float32) * 90, "LAS")
    return tmp_path


def evaluate(folder, *models, extra=(), expected=0):
    predictions = [f"{model}={folder / model}" for model in models]
    command = ["evaluate", "-gt", folder / "gt", "-pred", *predictions, "-o", folder / "out", "-np", "1", *extra]
    assert main([str(part) for part in command]) == expected
    return read_rows(folder / "out" / "cases.csv") if not expected else []


def test_evaluate_turns_flipped_and_permuted_axes_and_says_so_once(folder, capsys):
    rows = evaluate(folder, "RAS", "LAS", "PIR")
    plain, *others = ([{**row, "model": ""} for row in rows if row["model"] == m] for m in ("RAS", "LAS", "PIR"))
    assert others[0] == others[1] == plain and 0.7 < plain[0]["dice"] < 0.9
    error = capsys.readouterr().err
    assert error.count("turned to the axes of the ground truth") == 1
    assert f"4 files were turned to the axes of the ground truth (flipped or permuted): {folder / 'LAS'}" in error


MOVED = AFFINE + np.pad([[12.0]], ((0, 3), (3, 0)))


def with_affine(affine, what, expected, got):
    """Store the prediction of a case with another affine; returns the message about it."""

    def breaks(label_path, path, label):
        store(path, label, affine=affine)
        return f"{path} differs in {what} from its ground truth. Expected: {expected}, as in {label_path}. Got: {got}"

    return breaks


def with_two_transforms(label_path, path, label):
    """nibabel reads the perfect prediction of this mask at another place than SimpleITK does."""
    image = nib.load(label_path)
    image.set_qform(AFFINE @ np.diag([-1, 1, 1, 1]), 1)
    nib.save(image, label_path)
    return f"{label_path} has two transforms that differ by up to 18 mm. Expected: one, because some programs"


@pytest.mark.parametrize(
    "breaks",
    [
        with_affine(AFFINE @ np.diag([0.5, 1, 1, 1]), "spacing", "[1.0, 1.5, 2.0]", "[0.5, 1.5, 2.0]"),
        with_affine(MOVED, "origin", "[-30.0, 20.0, 5.0]", "[-18.0, 20.0, 5.0]"),
        with_two_transforms,
    ],
    ids=["spacing", "moved by 12 mm", "two transforms"],
)
def test_any_other_difference_is_an_error_of_every_command(folder, lesions, breaks, capsys):
    for case, label in lesions.items():
        store(folder / "B" / f"{case}.nii.gz", label)
        probability = 0.9 * label.T.astype(np.float32)
        np.savez(folder / "B" / f"{case}.npz", probabilities=np.stack([1 - probability, probability]))
    evaluate(folder, "B")
    label, path = (folder / name / "case0.nii.gz" for name in ("gt", "B"))
    message = breaks(label, path, lesions["case0"])
    for command in (
        ("evaluate", "-gt", folder / "gt", "-pred", f"B={folder / 'B'}", "-o", folder / "new", "-np", 1),
        ("tune", "-gt", folder / "gt", "-prob", folder / "B", "-o", folder / "rule.json", "--k", 2, "-np", 1),
        ("explain", label, path, "-o", folder / "a.png"),
        ("explain", label, path.with_name("case0.npz"), "-o", folder / "a.png"),
        ("report", folder / "out", "-o", folder / "a.html"),
    ):
        assert main([str(part) for part in command]) == 1
        told = capsys.readouterr().err
        assert f"1 problem, nothing was written:\n- {message}" in told, told
    assert not any((folder / name).exists() for name in ("new", "rule.json", "a.png", "a.html"))


def test_the_image_must_have_the_position_of_the_label(folder, lesions, capsys):
    evaluate(folder, "RAS")
    image = folder / "images" / "case0_0000.nii.gz"
    store(image, lesions["case0"], affine=2 * AFFINE)
    files = [folder / name / "case0.nii.gz" for name in ("gt", "RAS")]
    for command in (("report", folder / "out", "--images", folder / "images"), ("explain", *files, "--image", image)):
        assert main([str(part) for part in command]) == 1
        message = f"{image} differs in spacing from the label. Expected: [1.0, 1.5, 2.0], as in {folder / 'gt'}"
        assert message in capsys.readouterr().err


def test_report_and_explain_draw_what_they_turned(folder, capsys):
    def drawn(model):
        for path in (folder / model).iterdir():
            (folder / "X").mkdir(exist_ok=True)
            (folder / "X" / path.name).write_bytes(path.read_bytes())
        evaluate(folder, "X")
        assert main(["report", str(folder / "out"), "--images", str(folder / "images")]) == 0
        files = [str(folder / name / "case0.nii.gz") for name in ("gt", "X")]
        image = str(folder / "images" / "case0_0000.nii.gz")
        outputs = ["-o", str(folder / "a.svg"), "--terms-json", str(folder / "a.json")]
        assert main(["explain", *files, "--image", image, *outputs]) == 0
        page = re.sub(r"\d\d:\d\d(:\d\d)? UTC", "", (folder / "out" / "report.html").read_text())
        return page[page.index("<svg") :], json.loads((folder / "a.json").read_text())

    plain, turned = drawn("RAS"), drawn("PIR")
    assert turned == plain
    assert capsys.readouterr().err.count("turned to the axes of the ground truth") == 3  # evaluate, report, explain


def test_tune_turns_the_probabilities(tmp_path, lesions, rng, capsys):
    found = {}
    for case, label in lesions.items():
        probability = np.clip(0.6 * label + rng.uniform(0, 0.45, SHAPE), 0, 1).astype(np.float32)
        store(tmp_path / "gt" / f"{case}.nii.gz", label)
        store_probability(tmp_path / "plain" / f"{case}.nii.gz", probability, "SimpleITKIO")
        store_probability(tmp_path / "sitk" / f"{case}.nii.gz", probability, "SimpleITKIO", "PIR")
        store_probability(tmp_path / "turned" / f"{case}.nii.gz", probability, "NibabelIOWithReorient", "LIP")
    for folder in ("plain", "sitk", "turned"):
        rule = tmp_path / f"{folder}.json"
        options = ["--k", "2", "-np", "1", "-o", str(rule)]
        assert main(["tune", "-gt", f"{tmp_path}/gt", "-prob", f"{tmp_path}/{folder}", *options]) == 0
        found[folder] = {
            key: value for key, value in json.loads(rule.read_text()).items() if key in ("scores", "classes")
        }
        assert ("2 files were turned" in capsys.readouterr().err) == (folder != "plain")
    assert found["sitk"] == found["turned"] == found["plain"] and found["plain"]


def test_the_ensemble_adds_probabilities_at_the_same_position(tmp_path, lesions, rng):
    means = {}
    for case, label in lesions.items():
        both = [np.clip(0.5 * label + rng.uniform(0, 0.5, SHAPE), 0, 1).astype(np.float32) for _ in range(3)]
        store(tmp_path / "gt" / f"{case}.nii.gz", label)
        store_probability(tmp_path / "a" / f"{case}.nii.gz", both[0], "SimpleITKIO", "LAS")
        store_probability(tmp_path / "b" / f"{case}.nii.gz", both[1], "NibabelIOWithReorient", "LAS")
        store_probability(tmp_path / "c" / f"{case}.nii.gz", both[2], "SimpleITKIO", "PIR")
        means[case] = np.mean(both, axis=0)
    rows = evaluate(tmp_path, "a", "b", "c", extra=("--ensemble", "--family", "paper"))
    for case, mean in means.items():
        image = nib.as_closest_canonical(nib.load(tmp_path / "out" / "ensemble" / f"{case}.nii.gz"))
        np.testing.assert_array_equal(np.asarray(image.dataobj), mean > 0.5)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        (row,) = [row for row in rows if (row["model"], row["case"]) == ("ensemble", case)]
        label, pred = lesions[case] > 0, mean > 0.5
        assert row["dice"] == pytest.approx(2 * (label & pred).sum() / (label.sum() + pred.sum()))


def test_a_sheared_affine_in_every_command(tmp_path, lesions, capsys):
    """nnU-Net reads such files with nibabel: evaluate, tune, postprocess, report and explain do so too."""
    affine = AFFINE @ SHEAR
    for case, label in lesions.items():
        store(tmp_path / "gt" / f"{case}.nii.gz", label, affine=affine)
        store(tmp_path / "A" / f"{case}.nii.gz", label, "LAS", affine=affine)
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(tmp_path / "gt" / f"{case}.nii.gz"))
        probability = 0.9 * label[::-1].T.astype(np.float32)
        np.savez(tmp_path / "A" / f"{case}.npz", probabilities=np.stack([1 - probability, probability]))
    assert {row["dice"] for row in evaluate(tmp_path, "A")} == {1.0}
    assert main(["report", str(tmp_path / "out")]) == 0
    files = [str(tmp_path / name / "case0.nii.gz") for name in ("gt", "A")]
    assert main(["explain", *files, "-o", str(tmp_path / "a.png")]) == 0
    rule, tuned = tmp_path / "rule.json", tmp_path / "tuned"
    assert (
        main(["tune", "-gt", f"{tmp_path}/gt", "-prob", f"{tmp_path}/A", "-o", str(rule), "--k", "2", "-np", "1"]) == 0
    )
    assert main(["postprocess", str(rule), "-i", str(tmp_path / "A"), "-o", str(tuned), "-np", "1"]) == 0
    for case in CASES:
        before, after = (nib.load(path / f"{case}.nii.gz") for path in (tmp_path / "A", tuned))
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
        np.testing.assert_array_equal(after.dataobj, before.dataobj)


def test_nan_in_a_predicted_label_map_is_named(folder, lesions, capsys):
    array = lesions["case0"].astype(np.float32)
    array[5, 5, 5:7] = np.nan
    path = folder / "RAS" / "case0.nii.gz"
    store(path, array)
    evaluate(folder, "RAS", expected=1)
    size = np.prod(SHAPE)
    assert (
        f"{path} is not a label map. Expected: whole numbers. Got: nan and 1 more of {size} values"
        in capsys.readouterr().err
    )
    store(path, lesions["case0"] * np.float32(0.99999994))
    assert evaluate(folder, "RAS")[0]["dice"] == 1
