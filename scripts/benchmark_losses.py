"""Time the instance terms against nnU-Net's own loss, forward and backward, in one run.

    python scripts/benchmark_losses.py [--masks DIR] [--size 128] [--batch 2] [--repeats 7] [--json FILE]

Labels are crops of real masks (``--masks``: a folder of binary NIfTI; by default ../shared/data/ms-lesions/masks where
it exists) around a lesion voxel, or balls of log-normal volume where there is none. Predictions are logits of the label
plus smoothed noise, at three stages of training. The terms are first held against tests/reference.py. Losses take turns
in every repeat, so that a drift of the machine's speed reaches all of them; what counts is the ratio to DC_and_CE_loss.
"""

from __future__ import annotations

import argparse
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nnunet_ici.losses import (  # noqa: E402
    CenterLoss,
    DICILoss,
    ICILoss,
    InstanceLoss,
    PredictedInstanceLoss,
    center_loss,
    instance_loss,
    predicted_instance_loss,
)

BASELINE = "DC_and_CE_loss"
# Sd of the noise on the logits and distance of foreground from background logits.
STAGES = {"noise": (1.0, 0.0), "half-trained": (2.0, 4.0), "converged": (1.0, 10.0)}


def load_masks(folder: Path) -> list[np.ndarray]:
    """The binary masks of a folder, bool arrays."""
    import SimpleITK as sitk

    files = sorted(folder.glob("*.nii.gz"))
    if not files:
        raise SystemExit(f"{folder} holds no *.nii.gz")
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(f))) > 0 for f in files]


def crop(mask: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A cube of the given size around a random lesion voxel, padded with background."""
    padded = np.pad(mask, size // 2)
    center = rng.choice(np.argwhere(mask)) if mask.any() else np.array(mask.shape) // 2
    return padded[tuple(slice(c, c + size) for c in center)]


def synthetic_mask(size: int, rng: np.random.Generator, balls: int = 30) -> np.ndarray:
    """Balls of log-normal volume at random places."""
    mask = np.zeros((size,) * 3, bool)
    grid = np.indices(mask.shape)
    for _ in range(balls):
        radius = (0.75 / np.pi * rng.lognormal(4, 1.5)) ** (1 / 3)
        center = rng.integers(0, size, 3)[:, None, None, None]
        mask |= ((grid - center) ** 2).sum(0) <= radius**2
    return mask


def logits_of(label: np.ndarray, stage: str, rng: np.random.Generator) -> Tensor:
    """Logits (B, 2, *spatial), float32, of a network at the given stage."""
    noise_sd, distance = STAGES[stage]
    noise = ndimage.gaussian_filter(rng.standard_normal(label.shape), (0, *[1.0] * (label.ndim - 1)))
    noise *= noise_sd / noise.std()
    z = torch.from_numpy((distance * (label - 0.5) + noise).astype(np.float32))
    return torch.stack([-z / 2, z / 2], 1)


def verify(rng: np.random.Generator) -> float:
    """The largest difference to the naive loops on small soft inputs; raises where it exceeds 1e-5."""
    from tests import reference

    prob, target = rng.random((2, 1, 12, 13, 14)).astype(np.float32), rng.random((2, 1, 12, 13, 14)) < 0.05
    p, y = torch.from_numpy(prob), torch.from_numpy(target)
    worst = 0.0
    for fast, naive in (
        (instance_loss, reference.instance_loss),
        (predicted_instance_loss, reference.predicted_instance_loss),
        (center_loss, reference.center_loss),
    ):
        for tau in (0.5, 0.9):
            worst = max(worst, abs(fast(p, y, threshold=tau).item() - naive(prob, target, None, tau)))
    if worst > 1e-5:
        raise SystemExit(f"the terms differ from the naive loops by {worst}: nothing is timed")
    return worst


def losses_for(device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What is timed, by name: logits (B, 2, *spatial) and labels (B, 1, *spatial) in, a scalar out."""
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    # As nnUNetTrainer._build_loss makes it.
    baseline = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    ).to(device)

    def on_prob(term: torch.nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda logits, target: term(torch.sigmoid(logits[:, 1:] - logits[:, :1]), target == 1)

    fixed = {"threshold": 0.5}
    return {
        BASELINE: baseline,
        "instance": on_prob(InstanceLoss()),
        "predicted": on_prob(PredictedInstanceLoss()),
        "center": on_prob(CenterLoss()),
        "ICI terms": ICILoss(baseline, global_weight=0, **fixed),
        "DICI terms": DICILoss(baseline, global_weight=0, **fixed),
        "ICI": ICILoss(baseline, **fixed),
        "DICI": DICILoss(baseline, **fixed),
    }


def seconds(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> float:
    """One forward and backward."""
    leaf = logits.detach().clone().requires_grad_()
    if leaf.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    loss(leaf, target).backward()
    if leaf.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine(device: torch.device) -> dict[str, object]:
    """What the figures were taken on."""
    packages = ("torch", "nnunetv2", "connected-components-3d", "numpy", "kornia")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: metadata.version(name) for name in packages},
    }


def summarize(times: list[float], ratios: list[float]) -> dict[str, float]:
    """Median and quartiles in seconds, and of the ratio to the baseline in the same repeat."""
    low, median, high = np.percentile(times, [25, 50, 75])
    ratio_low, ratio, ratio_high = np.percentile(ratios, [25, 50, 75])
    return {
        "median_s": median,
        "q1_s": low,
        "q3_s": high,
        "ratio": ratio,
        "ratio_q1": ratio_low,
        "ratio_q3": ratio_high,
    }


def main() -> int:
    """Verify, time, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, default=ROOT.parent / "shared" / "data" / "ms-lesions" / "masks")
    parser.add_argument("--size", type=int, default=128, help="edge of the cubic patch in voxels (default: 128)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7, help="counted rounds, after one that is not (default: 7)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    device = torch.device(args.device)
    rng = np.random.default_rng(args.seed)
    difference = verify(rng)

    if args.masks.is_dir():
        masks, source = load_masks(args.masks), os.path.relpath(args.masks, ROOT)
        chosen = rng.choice(len(masks), args.batch, replace=len(masks) < args.batch)
        label = np.stack([crop(masks[i], args.size, rng) for i in chosen])
    else:
        label, source = np.stack([synthetic_mask(args.size, rng) for _ in range(args.batch)]), "synthetic balls"
    target = torch.from_numpy(label[:, None].astype(np.int16)).to(device)
    instances = [int(ndimage.label(image, np.ones((3, 3, 3)))[1]) for image in label]
    print(f"labels: {source}; instances {instances}, foreground {label.mean():.2%}")
    print(f"largest difference to the naive loops: {difference:.1e}")

    results: dict[str, dict[str, dict[str, float]]] = {}
    losses = losses_for(device)
    for stage in STAGES:
        logits = logits_of(label, stage, rng).to(device)
        times: dict[str, list[float]] = {name: [] for name in losses}
        for repeat in range(args.repeats + 1):
            for name, loss in losses.items():
                elapsed = seconds(loss, logits, target)
                if repeat:
                    times[name].append(elapsed)
        results[stage] = {
            name: summarize(t, [a / b for a, b in zip(t, times[BASELINE], strict=True)]) for name, t in times.items()
        }
        print(f"\n{stage}\n{'loss':<16}{'median ms':>10}{'IQR ms':>16}{'/ ' + BASELINE:>18}")
        for name, r in results[stage].items():
            iqr = f"{1e3 * r['q1_s']:.0f}-{1e3 * r['q3_s']:.0f}"
            print(f"{name:<16}{1e3 * r['median_s']:>10.0f}{iqr:>16}{r['ratio']:>18.2f}")

    if args.json:
        report = {
            "command": " ".join(["python", *sys.argv]),
            "machine": machine(device),
            "shape": [args.batch, 2, *[args.size] * 3],
            "labels": source,
            "instances": instances,
            "repeats": args.repeats,
            "difference_to_reference": difference,
            "results": results,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
