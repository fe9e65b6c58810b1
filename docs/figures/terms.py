"""Draw docs/terms.png, the effect of each term on a small image, and docs/explain.png, the output of
``nnunet_ici explain`` for the same image.

python docs/figures/terms.py [docs]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from skimage import io

from nnunet_ici.explain.explain import main as explain
from nnunet_ici.losses import CenterLoss, DICILoss, InstanceLoss, PredictedInstanceLoss


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A label with a large and two small lesions, and the probabilities of a network that finds only the large one."""
    grid = np.indices((48, 64))

    def disc(y: float, x: float, radius: float) -> np.ndarray:
        return (grid[0] - y) ** 2 + (grid[1] - x) ** 2 <= radius**2

    label = disc(17, 17, 11) | disc(38, 11, 2) | disc(10, 50, 2.5)
    prob = np.full(label.shape, 0.03)
    prob[disc(18, 18, 10)] = 0.93
    prob[disc(38, 11, 2)], prob[disc(10, 50, 2.5)] = 0.2, 0.35  # both missed
    prob[disc(37, 47, 3)] = 0.8  # false
    return label, prob


def draw_explained(label: np.ndarray, prob: np.ndarray, path: Path) -> int:
    """Run ``nnunet_ici explain`` on the image, stored in nnU-Net's format."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "label.png", Path(folder) / "prediction.npz"
        io.imsave(files[0], label.astype(np.uint8), check_contrast=False)
        np.savez(files[1], probabilities=np.stack([1 - prob, prob])[:, None].astype(np.float32))
        return explain([*map(str, files), "-o", str(path)])


def draw_terms(label: np.ndarray, prob: np.ndarray, path: Path) -> None:
    """Draw the gradient of each term with respect to the logits of the image."""
    target = torch.from_numpy(label)[None, None]
    half_logit = torch.from_numpy(np.log(prob / (1 - prob)) / 2).float()[None]
    host = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    losses = {"Dice + CE": host}
    for name, term in (("instance", InstanceLoss()), ("predicted", PredictedInstanceLoss()), ("center", CenterLoss())):
        losses[f"{name} term"] = lambda z, y, term=term: term(z.softmax(1)[:, 1:], y == 1)
    losses["all: DICI"] = DICILoss(host, threshold=0.5)

    gradients = {}
    for name, loss in losses.items():
        logits = torch.stack([-half_logit, half_logit], 1).requires_grad_()
        loss(logits, target.to(torch.int16)).backward()
        gradients[name] = (logits.grad[0, 1] - logits.grad[0, 0]).numpy()

    figure = Figure(figsize=(13, 5.2), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    axes[0].imshow(prob, cmap="gray", vmin=0, vmax=1)
    axes[0].set_title("probability; label outlined", fontsize=11)
    norm = SymLogNorm(1e-5, vmin=-1e-2, vmax=1e-2)
    for axis, (name, gradient) in zip(axes[1:], gradients.items(), strict=True):
        drawn = axis.imshow(-gradient, cmap="PuOr", norm=norm)
        axis.set_title(name, fontsize=11)
    for axis in axes:
        axis.contour(label, [0.5], colors="#56B4E9" if axis is axes[0] else "black", linewidths=1)
        axis.set_axis_off()
    axes[0].annotate("missed", (50, 10), (50, 3), color="#56B4E9", ha="center", va="center", fontsize=10)
    axes[0].annotate("missed", (11, 38), (11, 44), color="#56B4E9", ha="center", va="center", fontsize=10)
    axes[0].annotate("false", (47, 37), (47, 43.5), color="#E69F00", ha="center", va="center", fontsize=10)
    bar = figure.colorbar(drawn, ax=axes.tolist(), shrink=0.8, ticks=[-1e-2, -1e-4, 0, 1e-4, 1e-2])
    bar.set_label("change of the logit in one step\ndown  |  up")
    figure.savefig(path, dpi=90)


def main() -> int:
    docs = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    docs.mkdir(parents=True, exist_ok=True)
    label, prob = scene()
    draw_terms(label, prob, docs / "terms.png")
    return draw_explained(label, prob, docs / "explain.png")


if __name__ == "__main__":
    sys.exit(main())
