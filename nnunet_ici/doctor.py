"""``nnunet_ici doctor``: check the installation for ``nnUNetv2_train ... -tr nnUNetTrainerICI``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from nnunet_ici import __version__
from nnunet_ici._autoregister import EXT_FOLDER, OPT_OUT, VARIABLE
from nnunet_ici.command import Command
from nnunet_ici.environment import FOLDERS, missing_folder
from nnunet_ici.trainers import TRAINERS

__all__ = ["Finding", "diagnose", "main"]

OLDEST_NNUNET = (2, 8)
COMMANDS = ("nnUNetv2_train", "nnunet_ici")
PACKAGES = ("nnunetv2", "torch", "triton", "connected-components-3d", "numpy", "SimpleITK")
OPTIONAL_PACKAGES = ("triton",)
WIDTH = max(map(len, (*COMMANDS, *PACKAGES, *FOLDERS, *TRAINERS)))


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        what: subject of the check.
        found: result of the check.
        remedy: shell command, or comment, that solves the problem; None if there is no problem.
    """

    what: str
    found: str
    remedy: str | None = None


def diagnose() -> Iterator[Finding]:
    """Check versions and folders and, if these are complete, trainers and devices. Never raises.

    The checks of trainers and devices load nnU-Net and torch, which takes seconds. Progress is printed on stderr.
    """
    yield Finding("python", platform.python_version())
    yield Finding("nnunet_ici", __version__)
    missing = False
    for check, what in (
        (_packages, "packages"),
        (_commands, "commands"),
        (_folders, "folders"),
        (_trainers, "trainers with nnU-Net's own search"),
        (_labelling, "labeling on this device"),
        (_thresholds, "thresholds of trained models"),
    ):
        if missing and check is _trainers:
            print("trainers and labeling: not checked until the problems above are solved", file=sys.stderr)
            return
        print(f"checking {what} ...", file=sys.stderr, flush=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # raised by other packages about their own code
                for finding in check():
                    missing |= finding.remedy is not None
                    yield finding
        except Exception as error:
            missing = True
            yield Finding(check.__name__.strip("_"), f"{type(error).__name__}: {error}", "# see the error above")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed", None if name in OPTIONAL_PACKAGES else f"pip install {name}")
            continue
        old = name == "nnunetv2" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_NNUNET
        yield Finding(name, version, 'pip install "nnunetv2>=2.8"' if old else None)


def _commands() -> Iterator[Finding]:
    """Whether the commands that a shell finds first are those of this environment."""
    here = Path(sysconfig.get_path("scripts"))
    use_this = f'export PATH={shlex.quote(str(here))}:"$PATH"'
    for name in COMMANDS:
        path = shutil.which(name)
        if path is None:
            yield Finding(name, "not on PATH", use_this)
            continue
        prefix = str(sys.prefix) if Path(path).parent == here else _prefix_of(Path(path))
        if prefix == sys.prefix:
            yield Finding(name, path)
        else:
            found = f"{path}, of another environment ({prefix or 'unknown'}). Checked here: {sys.prefix}"
            yield Finding(name, found, use_this)


def _prefix_of(script: Path) -> str | None:
    """``sys.prefix`` of the interpreter that runs a script; None if it cannot be found out."""
    try:
        head = script.read_bytes()[:1000].decode(errors="replace").splitlines()
        # Where the path is long, the script is one of sh, and its second line runs the interpreter.
        line = head[1].partition("exec' ")[2] if head[0] == "#!/bin/sh" else head[0].removeprefix("#!")
        code = "import sys; print(sys.prefix)"
        words = [word for word in shlex.split(line) if word not in ("$0", "$@")]
        done = subprocess.run([*words, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip() or None
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def _trainers() -> Iterator[Finding]:
    from nnunet_ici import trainers

    registered = EXT_FOLDER in os.environ.get(VARIABLE, "").split(os.pathsep)
    fallback = f"export {VARIABLE}=$(nnunet_ici ext-path)"
    if os.environ.get(OPT_OUT):
        fallback = f"unset {OPT_OUT}   # or: {fallback}"
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

    from nnunet_ici.instances import kernel_status, label_components, labelling_backend

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    for i in range(torch.cuda.device_count()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report contains the same information
            status = kernel_status(f"cuda:{i}", afresh=True)
        path = "Triton kernels" if status.runs else "plain torch"
        found = f"{torch.cuda.get_device_name(i)}: instances by {path} ({status.reason})"
        yield Finding(f"cuda:{i}", found, None if status.remedy is None else f"# {status.remedy}")
    if device != "cuda":
        yield Finding("device", f"{device}: instances by plain torch (the Triton kernels are for CUDA devices)")
    for axes in (2, 3):
        # Two voxels that touch at a corner, and a separate one: two components.
        mask = torch.zeros((1, *[4] * axes), dtype=torch.bool, device=device)
        for corner in (0, 1, 3):
            mask[(slice(None),) + (corner,) * axes] = True
        count = int(label_components(mask)[1])
        right = count == 2
        found = labelling_backend(device)
        yield Finding(
            f"labeling in {axes}D",
            found if right else f"{found}, wrong: {count} components instead of 2",
            None if right else "# please report this with the versions above",
        )


def _folders() -> Iterator[Finding]:
    for name in FOLDERS:
        problem = missing_folder(name)
        yield Finding(name, os.environ[name]) if problem is None else Finding(name, *problem)


def _thresholds() -> Iterator[Finding]:
    """Tuned checkpoints whose network was trained again after the threshold was chosen."""
    from nnunet_ici.postprocessing.network import TUNED, outdated

    for path in sorted(Path(os.environ["nnUNet_results"]).glob(f"Dataset*/*/fold_*/{TUNED}")):
        if problem := outdated(path.parent):
            yield Finding(TUNED, problem, f"rm {shlex.quote(str(path))}   # or choose again: nnUNetv2_train ... --val")


def _run(args: argparse.Namespace) -> int:
    """Print the report.

    Returns:
        1 if there is any problem, else 0.
    """
    if args.json:
        findings = list(diagnose())
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
        return int(any(finding.remedy is not None for finding in findings))
    remedies: dict[str, None] = {}  # an ordered set
    for finding in diagnose():
        print(f"{'ok ' if finding.remedy is None else '-->'} {finding.what:<{WIDTH}}  {finding.found}", flush=True)
        if finding.remedy is not None:
            remedies[finding.remedy] = None
    if not remedies:
        print("\nNo problems found.")
        return 0
    print("\nProblems found. To solve them:\n", *remedies, sep="\n")
    return 1


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


main = Command("Check the installation and report what is missing.", _arguments, _run)
