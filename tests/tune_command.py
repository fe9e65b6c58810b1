"""A small cross-validation with probabilities, and the commands ``tune`` and ``postprocess`` on it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import SimpleITK as sitk

from nnunet_ici.cli import main
from tests.reference_postprocessing import smooth


def write(path, array, spacing=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = sitk.GetImageFromArray(array)
    if spacing is not None:
        image.SetSpacing(spacing)
        image.SetOrigin([5.0, -3.0, 2.0][: len(spacing)])
    sitk.WriteImage(image, str(path))


DECLARED = {
    "lesion": {"labels": {"background": 0, "lesion": 1}},
    "labels": {"labels": {"background": 0, "edema": 1, "core": 2}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]},
}


def make(root, kind, ending=".nii.gz", shape=(6, 12, 14), spacing=(0.5, 1.0, 2.0), cases=6):
    """Ground truth, and in two folders what nnU-Net writes for it with --npz."""
    rng = np.random.default_rng(7)
    declared = DECLARED[kind] | {"file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(declared))
    for index in range(cases):
        folder, name = root / f"fold_{index % 2}", f"case{index}"
        raw = smooth(rng, shape, {"lesion": 1, "regions": 2, "labels": 3}[kind])
        raw[-1] = np.minimum(raw[-1], raw[0])  # regions: the core lies in the whole
        if kind == "labels":
            prob = raw / raw.sum(0)
            label_map = prob.argmax(0)
            label = (prob + rng.normal(size=prob.shape) * 0.03).argmax(0)
        elif kind == "lesion":
            prob = np.concatenate([1 - raw, raw])
            label_map = prob.argmax(0)
            label = raw[0] > 0.35
        else:
            prob = raw
            label_map = np.where(prob[1] > 0.5, 2, prob[0] > 0.5)
            label = np.where(prob[1] > 0.6, 2, prob[0] > 0.6)
        write(root / "gt" / f"{name}{ending}", label.astype(np.uint8), spacing)
        write(folder / f"{name}{ending}", label_map.astype(np.uint8), spacing)
        stored = prob if prob.ndim == 4 else prob[:, None]
        np.savez_compressed(folder / f"{name}.npz", probabilities=stored)
        (folder / "dataset.json").write_text(json.dumps(declared))
    return root


def tune(root, *extra, expected=0, out="rule.json"):
    folders = [str(root / "fold_0"), str(root / "fold_1")]
    arguments = ["-gt", str(root / "gt"), "-prob", *folders, "-o", str(root / out), "-np", "1", "--k", "3"]
    grid = ["--thresholds", "0.3", "0.5", "0.7", "--volumes-mm3", "0", "3", "8", "--peaks", "none", "0.9"]
    assert main(["tune", *arguments, *grid, *extra]) == expected
    return json.loads((root / out).read_text()) if expected == 0 else None


def postprocess(root, folder="fold_0", rule="rule.json", out="out", expected=0):
    code = main(["postprocess", str(root / rule), "-i", str(root / folder), "-o", str(root / out), "-np", "1"])
    assert code == expected


def gather(root):
    """All predictions in one folder."""
    for number in (0, 1):
        shutil.copytree(root / f"fold_{number}", root / "all", dirs_exist_ok=True)


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
