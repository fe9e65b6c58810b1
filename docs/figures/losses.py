"""Draw docs/losses.png, the effect of every loss on missed and false lesions in one small image, and print the shares.

    python docs/figures/losses.py [docs/losses.png]

The scene is the same as in docs/figures/terms.py: the large lesion is found, two small lesions are missed, and one
component is false. The losses are those of the trainers in the middle of the training, at threshold 0.5 and full
resolution.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from scipy import ndimage
from terms import scene  # the file next to this one

from nnunet_ici import losses
from nnunet_ici.settings import LOSSES

EPOCH, EPOCHS = 500, 1000
HOST = "nnU-Net (Dice + CE)"


def host_loss(weight_ce: float = 1) -> torch.nn.Module:
    """Dice and cross-entropy with the settings of nnUNetTrainer."""
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, weight_ce=weight_ce, dice_class=MemoryEfficientSoftDiceLoss)


def all_losses() -> dict[str, torch.nn.Module]:
    """nnU-Net's loss, and the loss of each trainer nnUNetTrainer<name> with its defaults."""
    made: dict[str, torch.nn.Module] = {HOST: host_loss()}
    for trainer, chosen in LOSSES.items():
        attributes = SimpleNamespace(**(chosen.defaults | {"threshold": 0.5}))
        global_loss = host_loss(weight_ce=0) if attributes.global_loss == "dice" else host_loss()
        loss = getattr(losses, chosen.loss)(global_loss, **chosen.arguments(attributes))
        loss.start_epoch(EPOCH, EPOCHS)
        made[trainer.removeprefix("nnUNetTrainer")] = loss
    return made


def pulls() -> dict[str, npt.NDArray[np.float32]]:
    """The change of each voxel's foreground logit in one step, as a share of the total change, for each loss."""
    label, prob = scene()
    target = torch.from_numpy(label)[None, None].to(torch.int16)
    half_logit = torch.from_numpy(np.log(prob / (1 - prob)) / 2).float()[None]
    moved = {}
    for name, loss in all_losses().items():
        logits = torch.stack([-half_logit, half_logit], 1).requires_grad_()
        loss(logits, target).backward()
        pull = -(logits.grad[0, 1] - logits.grad[0, 0]).numpy()
        moved[name] = pull / np.abs(pull).sum()
    return moved


def table(moved: dict[str, npt.NDArray[np.float32]]) -> str:
    """The shares of the gradient that pull up missed lesions and push down false lesions, as a Markdown table."""
    label, prob = scene()
    ids, _ = ndimage.label(label)
    missed = label & (ids != ids[17, 17])
    false = ~label & (prob > 0.5) & (np.indices(label.shape)[0] > 30)
    lines = ["| Trainer | missed, pulled up | false, pushed down | elsewhere |", "|---|---:|---:|---:|"]
    for name, pull in moved.items():
        up, down = pull[missed].sum(), -pull[false].sum()
        lines.append(f"| {name} | {up:.1%} | {down:.1%} | {1 - np.abs(pull[missed | false]).sum():.1%} |")
    return "\n".join(lines)


def draw(moved: dict[str, npt.NDArray[np.float32]], path: Path) -> None:
    """Draw a panel for the image and a panel for each loss."""
    label, prob = scene()
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(-(-(len(moved) + 1) // 4), 4).ravel()
    axes[0].imshow(prob, cmap="gray", vmin=0, vmax=1)
    axes[0].set_title("probability; label outlined", fontsize=11)
    norm = SymLogNorm(1e-5, vmin=-1e-2, vmax=1e-2)
    for axis, (name, pull) in zip(axes[1:], moved.items(), strict=False):
        drawn = axis.imshow(pull, cmap="PuOr", norm=norm)
        axis.set_title(name, fontsize=11)
    for axis in axes[: len(moved) + 1]:
        axis.contour(label, [0.5], colors="#56B4E9" if axis is axes[0] else "black", linewidths=1)
    for axis in axes:
        axis.set_axis_off()
    bar = figure.colorbar(drawn, ax=axes.tolist(), shrink=0.7, ticks=[-1e-2, -1e-4, 0, 1e-4, 1e-2])
    bar.set_label("share of the gradient\ndown  |  up")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> int:
    moved = pulls()
    print(table(moved))
    draw(moved, Path(sys.argv[1] if len(sys.argv) > 1 else "docs/losses.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
