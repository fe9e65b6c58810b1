"""Choice between the Triton kernels and plain torch on a device.

Before the first use of the kernels on a device, they are checked against plain torch, see
:mod:`~nnunet_ici.instances.self_check`. If they cannot run or their results differ, plain torch runs instead, with one
warning. A kernel that fails later raises an error. The environment variable NNUNET_ICI_KERNELS is one of

- ``auto``, the default;
- ``on``: raise an error instead of falling back to plain torch;
- ``off``: always plain torch;
- ``interpret``: run the kernels on the CPU, in Triton's interpreter, which needs TRITON_INTERPRET=1. This is slow, and
  shows what the kernels do without a GPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["HAS_TRITON", "VARIABLE", "KernelStatus", "kernel_status", "launching", "runs_on", "uses_kernels"]

VARIABLE = "NNUNET_ICI_KERNELS"
HAS_TRITON = find_spec("triton") is not None  # comes with torch on Linux
COMPILER = "install a C compiler and the Python headers (gcc and python3-dev), or set CC to a compiler"
VERSIONS = "install a version of torch, with its Triton, that supports this GPU and its driver"
REPORT = "please report this with the output of `nnunet_ici doctor`"

CHECKED_DEVICE = "cuda"  # type of the devices on which the kernels run if they pass the self-check
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class KernelStatus:
    """Whether instances are found by the Triton kernels or by plain torch on a device, and why.

    Attributes:
        runs: True for the Triton kernels, False for plain torch.
        reason: reason for this choice.
        remedy: instructions to make the kernels run; None if they run or are switched off.
    """

    runs: bool
    reason: str
    remedy: str | None = None

    def __str__(self) -> str:
        remedy = "" if self.remedy is None else f"; to use the kernels: {self.remedy}"
        return f"{'Triton kernels' if self.runs else 'plain torch'} ({self.reason}){remedy}"


BEING_CHECKED = KernelStatus(False, "being checked")
_statuses: dict[str, KernelStatus] = {}


def kernel_status(device: torch.device | str, afresh: bool = False) -> KernelStatus:
    """Whether the kernels run on a CUDA device.

    The first call for a device runs the self-check, unless an earlier process passed it with the same versions.

    Args:
        device: CUDA device.
        afresh: whether to ignore the results of earlier self-checks.

    Raises:
        ValueError: if NNUNET_ICI_KERNELS has none of its values.
        RuntimeError: if it is ``on`` and the kernels do not run.
        torch.OutOfMemoryError: if the device has no memory left for the check.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    key = str(device)
    if afresh or key not in _statuses:
        _statuses[key] = BEING_CHECKED  # so that the reference runs in plain torch
        try:
            _settle(key, _decide(device, afresh))
        except BaseException:
            del _statuses[key]
            raise
    return _statuses[key]


def runs_on(device: torch.device | str) -> bool:
    """Whether the kernels run on the tensors of a device; errors as :func:`kernel_status`."""
    device = torch.device(device)
    if device.type == CHECKED_DEVICE:
        return kernel_status(device).runs
    return device.type == "cpu" and HAS_TRITON and _choice() == "interpret"


def uses_kernels(x: Tensor) -> bool:
    """Whether the kernels process a network output: not empty, float16, bfloat16 or float32, where they run."""
    return x.dtype in DTYPES and x.numel() > 0 and runs_on(x.device)


@contextmanager
def launching(device: torch.device) -> Iterator[None]:
    """Launch kernels on a device.

    Raises:
        RuntimeError: if a kernel fails. It names the way out, plain torch.
        torch.OutOfMemoryError: if the device has no memory left.
    """
    try:
        with torch.cuda.device(device if device.type == "cuda" else -1):  # -1 is no device
            yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"the Triton kernels failed on {device}: {_describe(error)}. Set {VARIABLE}=off to use plain torch instead"
        ) from error


def _choice() -> str:
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in ("auto", "on", "off", "interpret"):
        raise ValueError(f"{VARIABLE} must be auto, on, off or interpret. Got: {choice!r}")
    if choice == "interpret" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"{VARIABLE}=interpret needs TRITON_INTERPRET=1. Got: {os.environ.get('TRITON_INTERPRET')!r}")
    return choice


def _settle(key: str, status: KernelStatus) -> None:
    """Store the status, with a warning or an error if plain torch takes over without having been chosen."""
    if status.remedy is not None:
        if _choice() == "on":
            raise RuntimeError(f"{VARIABLE}=on, but the kernels do not run on {key}: {status.reason}")
        warnings.warn(f"Instances on {key}: {status}. {VARIABLE}=off silences this.", RuntimeWarning, stacklevel=4)
    _statuses[key] = status


def _decide(device: torch.device, afresh: bool) -> KernelStatus:
    if _choice() in ("off", "interpret"):
        return KernelStatus(False, f"{VARIABLE}={_choice()}")
    if not HAS_TRITON:
        return KernelStatus(False, "Triton is not installed", "pip install triton")
    try:
        facts = _facts(device)
        remembered = _cache_folder() / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.json"
        if remembered.is_file() and not afresh:
            return KernelStatus(True, "checked earlier with the same versions")
        from nnunet_ici.instances.self_check import find_difference

        start = time.perf_counter()
        difference = find_difference(device)
        seconds = time.perf_counter() - start
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return _failure(error.__cause__ if isinstance(error.__cause__, Exception) else error)
    if difference is not None:
        return KernelStatus(False, f"the self-check found a difference: {difference}", REPORT)
    with suppress(OSError):  # if the folder is not writable, the next process checks again
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps(facts, indent=1))
    return KernelStatus(True, f"equal to plain torch in the self-check ({seconds:.1f} s)")


def _failure(error: Exception) -> KernelStatus:
    """The status after an exception from the kernels or from Triton."""
    reason = _describe(error)
    is_compiler = isinstance(error, (OSError, subprocess.CalledProcessError)) or "C compiler" in reason
    return KernelStatus(False, reason, COMPILER if is_compiler else VERSIONS)


def _describe(error: Exception) -> str:
    """Type and first line of an exception."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _facts(device: torch.device) -> dict[str, str]:
    """Versions and hardware for which a check is valid."""
    driver = Path("/proc/driver/nvidia/version")
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source.update(path.read_bytes())
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "triton": metadata.version("triton"),
        "driver": driver.read_text().splitlines()[0] if driver.is_file() else "unknown",
        "nnunet_ici.instances": source.hexdigest(),
    }


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnunet_ici" / "kernels"
