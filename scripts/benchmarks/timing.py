"""Shared code of the benchmarks: test cases, timing, peak memory, and a description of the machine."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
MASKS = ROOT.parent / "shared" / "data" / "ms-lesions" / "masks"
# Stages of training: standard deviation of the noise, and distance between foreground and background logits.
STAGES = {"noise": (1.0, 0.0), "half-trained": (2.0, 4.0), "converged": (1.0, 10.0)}


def load_masks(folder: Path) -> list[np.ndarray]:
    """The binary masks of a folder, as bool arrays."""
    import SimpleITK as sitk

    files = sorted(folder.glob("*.nii.gz"))
    if not files:
        raise SystemExit(f"no masks in {folder}. Expected: *.nii.gz files. Got: none")
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(f))) > 0 for f in files]


def crop(mask: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A cube of the given size around a random lesion voxel, padded with background."""
    padded = np.pad(mask, size // 2)
    center = rng.choice(np.argwhere(mask)) if mask.any() else np.array(mask.shape) // 2
    return padded[tuple(slice(c, c + size) for c in center)]


def synthetic_mask(size: int, rng: np.random.Generator, balls: int = 30) -> np.ndarray:
    """Balls of log-normal volume at random positions."""
    mask = np.zeros((size,) * 3, bool)
    for _ in range(balls):
        radius = (0.75 / np.pi * rng.lognormal(4, 1.5)) ** (1 / 3)
        reach = int(radius)
        grid = np.indices((2 * reach + 1,) * 3) - reach
        where = np.argwhere((grid**2).sum(0) <= radius**2) - reach + rng.integers(0, size, 3)
        mask[tuple(where[((where >= 0) & (where < size)).all(1)].T)] = True
    return mask


def lesion_labels(folder: Path, size: int, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Labels, bool (batch, size, size, size), and their source: crops of the masks in a folder, or balls."""
    if folder.is_dir():
        masks = load_masks(folder)
        chosen = rng.choice(len(masks), batch, replace=len(masks) < batch)
        return np.stack([crop(masks[i], size, rng) for i in chosen]), os.path.relpath(folder, ROOT)
    return np.stack([synthetic_mask(size, rng) for _ in range(batch)]), "synthetic balls"


def lattice(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """A mask, bool (size, size, size), with ``count`` components of one voxel at random points of a lattice."""
    places = (size + 1) // 2
    if count > places**3:
        raise SystemExit(f"{count} separate voxels do not fit into {size}^3")
    mask = np.zeros((size,) * 3, bool)
    chosen = np.unravel_index(rng.choice(places**3, count, replace=False), (places,) * 3)
    mask[tuple(2 * axis for axis in chosen)] = True
    return mask


def logits_of(label: np.ndarray, stage: str, rng: np.random.Generator) -> Tensor:
    """Logits (B, 2, *spatial), float32, of a network at the given stage."""
    noise_sd, distance = STAGES[stage]
    noise = ndimage.gaussian_filter(rng.standard_normal(label.shape, dtype=np.float32), (0, *[1.0] * (label.ndim - 1)))
    noise *= noise_sd / noise.std()
    z = torch.from_numpy((distance * (label - 0.5) + noise).astype(np.float32))
    return torch.stack([-z / 2, z / 2], 1)


def synchronize(device: torch.device) -> None:
    """Wait until CUDA has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """The time of one run, including the work on the device."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def take_turns(
    runs: dict[str, Callable[[], object]], repeats: int, device: torch.device, slow: tuple[str, ...] = ()
) -> dict[str, list[float]]:
    """The times of each run in seconds, in ``repeats`` rounds after a warm-up round.

    All runs take turns in every round, so that changes in the machine's speed affect all of them. The runs named in
    ``slow`` run once, in the first counted round, without a warm-up.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(repeats + 1):
        for name, run in runs.items():
            if name in slow and round_ != 1:
                continue
            elapsed = seconds(run, device)
            if round_:
                times[name].append(elapsed)
    return times


def peak_extra_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The peak memory during a run minus the memory before the run, in bytes.

    On CUDA, this is the memory of the allocator. On Linux with glibc, it is the memory of the process in whole pages.
    On other systems, the result is None.
    """
    if device.type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    status = Path("/proc/self/status")
    if not status.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return None

    def field(name: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    ctypes.CDLL(None).malloc_trim(0)  # otherwise memory that was freed before would be reused unnoticed
    before = field("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    run()
    return max(field("VmHWM") - before, 0)


def summarize(times: list[float], baseline: list[float] | None = None) -> dict[str, float]:
    """Median and quartiles of the times in seconds and, given a baseline, of the ratios to the baseline."""
    low, median, high = np.percentile(times, [25, 50, 75])
    summary = {"median_s": median, "q1_s": low, "q3_s": high}
    if baseline is not None:
        # A slow loss runs in fewer rounds; it is compared with the median of the baseline.
        divisors = baseline if len(baseline) == len(times) else [float(np.median(baseline))] * len(times)
        ratios = np.percentile([t / b for t, b in zip(times, divisors, strict=True)], [25, 50, 75])
        summary |= dict(zip(("ratio_q1", "ratio", "ratio_q3"), map(float, ratios), strict=True))
    return {name: float(value) for name, value in summary.items()}


def machine(device: torch.device) -> dict[str, object]:
    """Description of the machine, with the versions of the packages."""
    versions = {}
    for name in ("torch", "triton", "nnunetv2", "connected-components-3d", "numpy", "scipy", "kornia", "cupy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
    }


def write_report(path: Path | None, device: torch.device, **figures: object) -> None:
    """Write figures as JSON, with the command, the machine and the versions. Without a path, nothing is written."""
    if path is None:
        return
    script = os.path.relpath(sys.argv[0], ROOT)
    report = {"command": " ".join(["python", script, *sys.argv[1:]]), "machine": machine(device), **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
