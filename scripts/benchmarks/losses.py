"""Time the forward and backward passes of our losses and of nnU-Net's own loss in the same run.

    python -m scripts.benchmarks.losses [--device cpu|cuda] [--size 128] [--batch 2] [--repeats 9] [--json FILE]
    python -m scripts.benchmarks.losses --device cuda --size 192 --batch 4 --dtype float16 --json FILE
    python -m scripts.benchmarks.losses --curves [...]

Labels are crops of real masks around a lesion voxel. ``--masks`` is a folder of binary NIfTI masks (default:
../shared/data/ms-lesions/masks). If the folder does not exist, labels are balls of log-normal volume. Predictions are
logits of the label plus smoothed noise, at three stages of training. The terms are first compared with
tests/reference.py. The losses take turns in every round. The result is the ratio to DC_and_CE_loss. The baselines in
published.py loop over the instances. They run once, or not at all with ``--no-published``. ``--curves`` times only the
ICI terms, by the number of instances and by patch size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_ici.losses import (
    BlobLoss,
    BoundaryLoss,
    CATMILLoss,
    CCDiceCELoss,
    CenterLoss,
    DICILoss,
    DilatedBalancedCELoss,
    FalseInstanceRateLoss,
    ICILoss,
    InstanceFamilyLoss,
    InstanceLoss,
    InstanceProximityLoss,
    InverseWeightingLoss,
    LesionWiseLoss,
    PQLoss,
    PredictedInstanceLoss,
    RegionWiseLoss,
    center_loss,
    instance_loss,
    lesionwise_loss,
    pq_loss,
    predicted_instance_loss,
)
from scripts.benchmarks.published import blob_term, ici_terms, label_by_max_pooling, label_by_scipy
from scripts.benchmarks.timing import (
    MASKS,
    STAGES,
    lattice,
    lesion_labels,
    logits_of,
    peak_extra_bytes,
    summarize,
    take_turns,
    write_report,
)

Loss = Callable[[Tensor, Tensor], Tensor]
BASELINE = "DC_and_CE_loss"
PUBLISHED: dict[str, Loss] = {
    "ICI terms as published": ici_terms(label_by_max_pooling),
    "the same, SciPy labels": ici_terms(label_by_scipy),
    "blob loss, instance by instance": blob_term,
}
INSTANCE_COUNTS = (1, 10, 100, 1_000, 10_000, 100_000)
SIZES = (64, 96, 128, 192, 256)


def verify(rng: np.random.Generator, device: torch.device) -> float:
    """The largest difference from the naive loops on small soft inputs. Exits if it exceeds 1e-5."""
    from tests import reference

    prob, target = rng.random((2, 1, 12, 13, 14)).astype(np.float32), rng.random((2, 1, 12, 13, 14)) < 0.05
    p, y = torch.from_numpy(prob).to(device), torch.from_numpy(target).to(device)
    worst = 0.0
    for fast, naive in (
        (instance_loss, reference.instance_loss),
        (predicted_instance_loss, reference.predicted_instance_loss),
        (center_loss, reference.center_loss),
        (lesionwise_loss, reference.lesionwise_loss),
        (pq_loss, reference.pq_loss),
    ):
        for tau in (0.5, 0.9):
            worst = max(worst, abs(fast(p, y, threshold=tau).item() - naive(prob, target, None, tau)))
    if worst > 1e-5:
        raise SystemExit(f"the terms differ from the naive loops. Expected: at most 1e-5. Got: {worst}")
    return worst


def losses_for(device: torch.device) -> dict[str, Loss]:
    """The losses by name: functions from logits (B, 2, *spatial) and labels (B, 1, *spatial) to a scalar."""
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    # The loss of nnUNetTrainer._build_loss.
    baseline = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    ).to(device)

    def on_prob(term: torch.nn.Module) -> Loss:
        return lambda logits, target: term(torch.sigmoid(logits[:, 1:] - logits[:, :1]), target == 1)

    fixed = {"threshold": 0.5}
    boundary = BoundaryLoss(lambda logits, target: 0 * logits.sum())
    boundary.set_progress(1.0)
    return {
        BASELINE: baseline,
        "instance": on_prob(InstanceLoss()),
        "predicted": on_prob(PredictedInstanceLoss()),
        "center": on_prob(CenterLoss()),
        "ICI terms": ICILoss(baseline, global_weight=0, **fixed),
        "DICI terms": DICILoss(baseline, global_weight=0, **fixed),
        "LesionWise term": LesionWiseLoss(baseline, global_weight=0, **fixed),
        "PQ term": PQLoss(baseline, global_weight=0, **fixed),
        "ICI": ICILoss(baseline, **fixed),
        "DICI": DICILoss(baseline, **fixed),
        "Dual": DICILoss(baseline, center_weight=0, **fixed),
        "false instance rate": on_prob(FalseInstanceRateLoss()),
        "instance proximity": on_prob(InstanceProximityLoss()),
        "InstanceFamily": InstanceFamilyLoss(baseline, **fixed),
        # The losses from other papers, without the global loss.
        "blob term": BlobLoss(None, 0),
        "CC-DiceCE term": CCDiceCELoss(None, 0),
        "CATMIL terms": CATMILLoss(None, 0),
        "region-wise": RegionWiseLoss(),
        "boundary term": boundary,
        "dilated balanced CE": DilatedBalancedCELoss(),
        "inverse weighting": InverseWeightingLoss(),
    }


def step(loss: Loss, logits: Tensor, target: Tensor) -> None:
    """One forward and backward pass, under autocast on CUDA, as in nnU-Net."""
    leaf = logits.detach().requires_grad_()
    with torch.autocast("cuda", enabled=leaf.is_cuda):
        value = loss(leaf, target)
    value.backward()


def compare(
    losses: dict[str, Loss], logits: Tensor, target: Tensor, repeats: int, slow: tuple[str, ...] = ()
) -> dict[str, dict[str, float]]:
    """Times, ratios and peak memory of each loss on the same logits."""
    runs = {name: partial(step, loss, logits, target) for name, loss in losses.items()}
    times = take_turns(runs, repeats, logits.device, slow)
    results = {name: summarize(t, times.get(BASELINE)) for name, t in times.items()}
    for name, run in runs.items():
        peak = None if name in slow else peak_extra_bytes(run, logits.device)
        if peak is not None:
            results[name]["peak_bytes_per_voxel"] = peak / target.numel()
    return results


def print_table(results: dict[str, dict[str, float]]) -> None:
    """Print a table with one row per loss."""
    print(f"{'loss':<34}{'median ms':>11}{'IQR ms':>18}{'/ ' + BASELINE:>18}{'peak bytes/voxel':>18}")
    for name, r in results.items():
        iqr = f"{1e3 * r['q1_s']:.4g}-{1e3 * r['q3_s']:.4g}"
        ratio = f"{r['ratio']:.3g}" if "ratio" in r else ""
        peak = f"{r['peak_bytes_per_voxel']:.0f}" if "peak_bytes_per_voxel" in r else ""
        print(f"{name:<34}{1e3 * r['median_s']:>11.4g}{iqr:>18}{ratio:>18}{peak:>18}")


def by_stage(args: argparse.Namespace, device: torch.device, rng: np.random.Generator) -> dict[str, object]:
    """Every loss at three stages of training."""
    label, source = lesion_labels(args.masks, args.size, args.batch, rng)
    target = torch.from_numpy(label[:, None].astype(np.int16)).to(device)
    instances = [int(ndimage.label(image, np.ones((3, 3, 3)))[1]) for image in label]
    print(f"labels: {source}; instances {instances}, foreground {label.mean():.2%}")
    losses = losses_for(device) | ({} if args.no_published else PUBLISHED)
    results = {}
    for stage in args.stages:
        logits = logits_of(label, stage, rng).to(device, getattr(torch, args.dtype))
        results[stage] = compare(losses, logits, target, args.repeats, () if args.no_published else tuple(PUBLISHED))
        print(f"\n{stage}")
        print_table(results[stage])
    return {"labels": source, "instances": instances, "results": results}


def curves(args: argparse.Namespace, device: torch.device, rng: np.random.Generator) -> dict[str, object]:
    """The ICI terms by number of instances and by patch size, compared with DC_and_CE_loss on the same logits."""
    losses = {name: loss for name, loss in losses_for(device).items() if name in (BASELINE, "ICI terms")}
    dtype = getattr(torch, args.dtype)
    by_count, by_size = {}, {}
    for count in INSTANCE_COUNTS:
        label = np.stack([lattice(count, args.size, rng) for _ in range(args.batch)])
        target = torch.from_numpy(label[:, None].astype(np.int16)).to(device)
        logits = logits_of(label, "converged", rng).to(device, dtype)
        by_count[count] = compare(losses, logits, target, args.repeats)
        print(f"\n{count} instances per image, {args.batch} x {args.size}^3")
        print_table(by_count[count])
    for size in SIZES:
        label, _ = lesion_labels(args.masks, size, args.batch, rng)
        target = torch.from_numpy(label[:, None].astype(np.int16)).to(device)
        logits = logits_of(label, "half-trained", rng).to(device, dtype)
        by_size[size] = compare(losses, logits, target, args.repeats)
        print(f"\n{args.batch} x {size}^3, half-trained")
        print_table(by_size[size])
    return {"by_instances": by_count, "by_size": by_size}


def main() -> int:
    """Verify, time, print tables, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, default=MASKS)
    parser.add_argument("--size", type=int, default=128, help="edge length of the patch in voxels (default: 128)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9, help="rounds, after a warm-up round (default: 9)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "float16", "bfloat16"], help="data type of the logits"
    )
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--no-published", action="store_true", help="omit the baselines that take minutes")
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    device = torch.device(args.device)
    rng = np.random.default_rng(args.seed)
    difference = verify(rng, device)
    print(f"largest difference from the naive loops: {difference:.1e}")
    figures = curves(args, device, rng) if args.curves else by_stage(args, device, rng)
    write_report(
        args.json,
        device,
        shape=[args.batch, 2, *[args.size] * 3],
        dtype=args.dtype,
        repeats=args.repeats,
        difference_to_reference=difference,
        **figures,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
