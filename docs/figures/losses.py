"""Draw docs/losses.png, what every loss does to missed and false lesions on one small image, and print it in numbers.

    python docs/figures/losses.py [docs/losses.png]

The scene is that of docs/figures/terms.py: the large lesion is found, two small ones are missed, one component is
false. Each loss is that of its trainer at the middle of the training, threshold 0.5, at full resolution.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from scipy import ndimage
from terms import scene  # the file beside this one

from nnunet_ici.losses import (
    BlobLoss,
    BoundaryLoss,
    CCDiceCELoss,
    DICILoss,
    DilatedBalancedCELoss,
    ICILoss,
    InverseWeightingLoss,
    RegionWiseLoss,
)


def losses() -> dict[str, torch.nn.Module]:
    """By trainer, as nnUNetTrainer<name>."""
    host = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    dice = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        weight_ce=0,
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    boundary = BoundaryLoss(host)
    boundary.set_progress(0.5)
    return {
        "nnU-Net (Dice + CE)": host,
        "ICI": ICILoss(host, threshold=0.5),
        "DICI": DICILoss(host, threshold=0.5),
        "Dual": DICILoss(host, center_weight=0, threshold=0.5),
        "Blob": BlobLoss(host),
        "CCDiceCE": CCDiceCELoss(host),
        "RRW": RegionWiseLoss(),
        "Boundary": boundary,
        "DBCE": DilatedBalancedCELoss(),
        "DiceDBCE": DilatedBalancedCELoss(dice, 1.0),
        "IW": InverseWeightingLoss(),
    }


def main() -> int:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/losses.png")
    label, prob = scene()
    target = torch.from_numpy(label)[None, None].to(torch.int16)
    half_logit = torch.from_numpy(np.log(prob / (1 - prob)) / 2).float()[None]
    ids, _ = ndimage.label(label)
    large = ids[17, 17]
    missed, false = label & (ids != large), ~label & (prob > 0.5) & (np.indices(label.shape)[0] > 30)

    pulls = {}
    for name, loss in losses().items():
        logits = torch.stack([-half_logit, half_logit], 1).requires_grad_()
        loss(logits, target).backward()
        pull = -(logits.grad[0, 1] - logits.grad[0, 0]).numpy()
        pulls[name] = pull / np.abs(pull).sum()  # the share of the whole gradient

    print("| Trainer | missed, pulled up | false, pushed down | elsewhere |\n|---|---:|---:|---:|")
    for name, pull in pulls.items():
        up, down = pull[missed].sum(), -pull[false].sum()
        print(f"| {name} | {up:.1%} | {down:.1%} | {1 - np.abs(pull[missed | false]).sum():.1%} |")

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    axes = figure.subplots(3, 4).ravel()
    axes[0].imshow(prob, cmap="gray", vmin=0, vmax=1)
    axes[0].set_title("probability; label outlined", fontsize=11)
    norm = SymLogNorm(1e-5, vmin=-1e-2, vmax=1e-2)
    for axis, (name, pull) in zip(axes[1:], pulls.items(), strict=True):
        drawn = axis.imshow(pull, cmap="PuOr", norm=norm)
        axis.set_title(name, fontsize=11)
    for axis in axes:
        axis.contour(label, [0.5], colors="#56B4E9" if axis is axes[0] else "black", linewidths=1)
        axis.set_axis_off()
    bar = figure.colorbar(drawn, ax=axes.tolist(), shrink=0.7, ticks=[-1e-2, -1e-4, 0, 1e-4, 1e-2])
    bar.set_label("share of the gradient\ndown  |  up")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
