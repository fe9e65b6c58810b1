"""``nnunet_ici doctor``: is everything in place for ``nnUNetv2_train ... -tr nnUNetTrainerICI``?"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

from nnunet_ici import __version__
from nnunet_ici._autoregister import EXT_FOLDER, OPT_OUT, VARIABLE
from nnunet_ici.command import Command
from nnunet_ici.trainers import TRAINERS

__all__ = ["Finding", "diagnose", "main"]

OLDEST_NNUNET = (2, 8)
PACKAGES = ("nnunetv2", "torch", "triton", "connected-components-3d", "numpy", "SimpleITK")
OPTIONAL_PACKAGES = ("triton",)
FOLDERS = {
    "nnUNet_raw": "data sets as nnU-Net reads them",
    "nnUNet_preprocessed": "preprocessed data",
    "nnUNet_results": "trained models",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        what: the thing looked at.
        found: what was found.
        remedy: what to do about it; None where all is well.
    """

    what: str
    found: str
    remedy: str | None = None


def diagnose() -> list[Finding]:
    """Look at versions, registration, device and folders; never raises."""
    findings = [Finding("python", platform.python_version()), Finding("nnunet_ici", __version__)]
    for check in (_packages, _trainers, _labelling, _folders):
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(Finding(check.__name__.strip("_"), f"{type(error).__name__}: {error}", "see the error"))
    return findings


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed", None if name in OPTIONAL_PACKAGES else f"pip install {name}")
            continue
        old = name == "nnunetv2" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_NNUNET
        yield Finding(name, version, 'pip install "nnunetv2>=2.8"' if old else None)


def _trainers() -> Iterator[Finding]:
    from nnunet_ici import trainers

    registered = EXT_FOLDER in os.environ.get(VARIABLE, "").split(os.pathsep)
    fallback = f"export {VARIABLE}=$(nnunet_ici ext-path)"
    if os.environ.get(OPT_OUT):
        fallback = f"unset {OPT_OUT}, or {fallback}"
    yield Finding(VARIABLE, os.environ.get(VARIABLE, "not set"), None if registered else fallback)
    for name in TRAINERS:
        found = _look_up(name)
        if found is getattr(trainers, name):
            yield Finding(name, "found by nnU-Net")
        else:
            yield Finding(name, f"{found} found by nnU-Net" if found else "not found by nnU-Net", fallback)


def _look_up(name: str) -> type | None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    look_up: Callable[[str], type] = recursive_find_trainer_class_by_name
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(RuntimeError):
        return look_up(name)
    return None


def _labelling() -> Iterator[Finding]:
    import torch

    from nnunet_ici.instances import label_components, labelling_backend

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    found = f"{device} ({torch.cuda.get_device_name()})" if device == "cuda" else device
    yield Finding("device", found)
    for axes in (2, 3):
        # Two voxels that touch at a corner, and one apart: two components.
        mask = torch.zeros((1, *[4] * axes), dtype=torch.bool, device=device)
        for corner in (0, 1, 3):
            mask[(slice(None),) + (corner,) * axes] = True
        count = int(label_components(mask)[1])
        right = count == 2
        found = labelling_backend(device)
        yield Finding(
            f"labelling in {axes}D",
            found if right else f"{found}, wrong: {count} components in the place of 2",
            None if right else "please report this with the versions above",
        )


def _folders() -> Iterator[Finding]:
    for name, purpose in FOLDERS.items():
        path = os.environ.get(name)
        if not path:
            yield Finding(name, "not set", f"export {name}=/path/to/a/folder   # {purpose}")
        elif not os.path.isdir(path):
            yield Finding(name, f"{path} does not exist", f"mkdir -p {path}")
        elif not os.access(path, os.W_OK):
            yield Finding(name, f"{path} is not writable", f"chmod u+w {path}, or choose another folder")
        else:
            yield Finding(name, path)


def _run(args: argparse.Namespace) -> int:
    """Print the report; 1 if anything has a remedy."""
    findings = diagnose()
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{'ok ' if finding.remedy is None else '-->'} {finding.what:<{width}}  {finding.found}")
        if finding.remedy is not None:
            print(f"    {'':<{width}}  remedy: {finding.remedy}")
    missing = sum(finding.remedy is not None for finding in findings)
    print("\nEverything is in place." if not missing else f"\n{missing} to be mended.")
    return 1 if missing else 0


main = Command("Check the installation, and say what is missing.", lambda parser: None, _run)
