"""Draw docs/instances.png, which shows G_n, P_m, T(n) and S(m), docs/matching.png, which shows found, missed, false and
merged lesions, and docs/boxes.png, which shows the boxes of the instance proximity. All use the same small scene and
its matching by nnunet_ici.evaluation.

python docs/figures/instances.py [docs]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from nnunet_ici.drawing import FALSE, FOUND, LABEL, MISSED
from nnunet_ici.evaluation.matching import Matching, match_instances
from nnunet_ici.evaluation.metrics import lesion_f1, lesion_precision, lesion_recall
from nnunet_ici.instances.boxes import distance_iou, widen

Mask = npt.NDArray[np.bool_]


def scene() -> tuple[Mask, Mask]:
    """A label with four lesions (one found, two merged, one missed), and a prediction with one false component."""
    grid = np.indices((44, 66))

    def disc(y: float, x: float, radius: float) -> Mask:
        return (grid[0] - y) ** 2 + (grid[1] - x) ** 2 <= (radius + 0.4) ** 2

    label = disc(13, 14, 9) | disc(34, 12, 5) | disc(34, 26, 6) | disc(12, 52, 4)
    prediction = disc(15, 16, 8) | disc(34, 14, 4) | disc(34, 24, 5) | disc(34, 54, 5)
    prediction[33:36, 14:24] = True  # the bridge that merges two lesions
    return label, prediction


def names(symbol: str, ids: npt.NDArray[np.int64]) -> str:
    """A set of instances, such as {G_1, G_2}, as a formula."""
    return r"\{" + ", ".join(f"{symbol}_{number}" for number in ids) + r"\}" if ids.size else r"\emptyset"


def write_ids(axis: Axes, matching: Matching, symbol: str) -> None:
    """Write G_n or P_m at the center of each instance."""
    ids = matching.label_ids if symbol == "G" else matching.predicted_ids
    for number in range(1, ids.max() + 1):
        at = np.argwhere(ids == number).mean(0) + [part.start for part in matching.box]
        axis.text(*at[::-1], f"${symbol}_{number}$", ha="center", va="center", fontsize=13)


def draw_instances(label: Mask, prediction: Mask, path: Path) -> None:
    """Draw label, prediction, and the sets of instances that touch."""
    matching = match_instances(label, prediction)
    figure = Figure(figsize=(11, 3), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for axis, mask, symbol, color, title in (
        (axes[0], label, "G", LABEL, r"label: instances $G_n$"),
        (axes[1], prediction, "P", FOUND, r"$p \geq \tau$: predicted instances $P_m$"),
    ):
        axis.imshow(np.where(mask, 1.0, np.nan), cmap=ListedColormap([color]), alpha=0.75)
        axis.contour(label if symbol == "P" else prediction, [0.5], colors="#888888", linewidths=1, linestyles="dashed")
        axis.set_title(title, fontsize=12)
        axis.set(xticks=[], yticks=[])
        write_ids(axis, matching, symbol)
    label_ids, predicted_ids = matching.pairs.T
    lines = [
        f"$T({n}) = {names('P', predicted_ids[label_ids == n])}$" for n in range(1, matching.label_instances + 1)
    ] + [f"$S({m}) = {names('G', label_ids[predicted_ids == m])}$" for m in range(1, matching.predicted_instances + 1)]
    axes[2].set_axis_off()
    axes[2].text(0, 0.95, "\n".join(lines), va="top", fontsize=13, linespacing=1.6, transform=axes[2].transAxes)
    axes[2].set_title("instances that share a voxel", fontsize=12)
    figure.savefig(path, dpi=90)


def draw_matching(label: Mask, prediction: Mask, path: Path) -> None:
    """Draw the kinds of voxels and lesions, and the metrics of the scene."""
    matching = match_instances(label, prediction)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axis, beside = figure.subplots(1, 2, width_ratios=(5, 3))
    kinds = np.select([label & prediction, label, prediction], [1.0, 2.0, 3.0], np.nan)
    axis.imshow(kinds, cmap=ListedColormap([FOUND, MISSED, FALSE]), vmin=0.5, vmax=3.5)
    axis.contour(label, [0.5], colors="black", linewidths=1.5)
    axis.contour(prediction, [0.5], colors="black", linewidths=1.5, linestyles="dashed")
    merged = [p for p, count in zip(*np.unique(matching.pairs[:, 1], return_counts=True), strict=True) if count > 1]
    for kind, mask in (
        ("found", np.isin(_full(matching, matching.label_ids), _alone(matching, merged))),
        ("found, and merged", np.isin(_full(matching, matching.predicted_ids), merged)),
        ("missed", matching.missed_mask()),
        ("false", matching.false_mask()),
    ):
        rows, columns = np.nonzero(mask)
        axis.text(columns.mean(), rows.min() - 2, kind, ha="center", va="bottom", fontsize=12)
    axis.set(xticks=[], yticks=[], ylim=(label.shape[0] - 0.5, -2))
    beside.set_axis_off()
    beside.legend(
        handles=[
            Patch(color=FOUND, label="voxel of both"),
            Patch(color=MISSED, label="voxel of the label only"),
            Patch(color=FALSE, label="voxel of the prediction only"),
        ],
        loc="upper left",
        frameon=False,
        title="solid: label, dashed: prediction",
        alignment="left",
    )
    numbers = [
        f"{matching.label_instances} lesions, {matching.found_instances} found, {matching.missed_instances} missed",
        f"{matching.predicted_instances} predicted, {matching.false_instances} false",
        f"recall {lesion_recall(matching):.2f}, precision {lesion_precision(matching):.2f}",
        f"lesion F1 {lesion_f1(matching):.2f}",
    ]
    beside.text(0.05, 0.02, "\n".join(numbers), fontsize=12, va="bottom", linespacing=1.5, transform=beside.transAxes)
    figure.savefig(path, dpi=90)


def draw_boxes(label: Mask, prediction: Mask, path: Path) -> None:
    """Draw the widened boxes of the instances, and the smallest distance-IoU of each."""
    matching = match_instances(label, prediction)
    boxes = []
    for ids, count in (
        (matching.label_ids, matching.label_instances),
        (matching.predicted_ids, matching.predicted_instances),
    ):
        places = [torch.from_numpy(np.argwhere(_full(matching, ids) == n)).double() for n in range(1, count + 1)]
        first, last = (
            torch.stack([corner(at) for at in places]) for corner in (lambda at: at.amin(0), lambda at: at.amax(0))
        )
        boxes.append(widen(first, last, label.shape))
    distances = distance_iou(*boxes).numpy()
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for side, (axis, symbol, color) in enumerate(zip(figure.subplots(1, 2), "GP", (LABEL, FOUND), strict=True)):
        mask, other = ((label, prediction), (prediction, label))[side]
        axis.imshow(np.where(mask, 1.0, np.nan), cmap=ListedColormap([color]), alpha=0.75)
        axis.contour(other, [0.5], colors="#888888", linewidths=1, linestyles="dashed")
        lines = []
        for number, nearest in enumerate(distances.argmin(1 - side), start=1):
            low, high = (corner[number - 1].numpy() + 0.5 for corner in boxes[side])  # voxel i is drawn around i
            axis.add_patch(Rectangle(low[::-1], *(high - low)[::-1], fill=False, edgecolor=color, linewidth=1.5))
            pair = (number - 1, nearest) if side == 0 else (nearest, number - 1)
            index = f"{number}, m" if side == 0 else f"n, {number}"
            lines.append(rf"$\min\, d({index}) = {distances[pair]:.2f}$")
        write_ids(axis, matching, symbol)
        axis.set(xticks=[], yticks=[], title=f"widened boxes of ${symbol}_{'nm'[side]}$")
        axis.text(1.02, 1, "\n".join(lines), va="top", fontsize=11, linespacing=1.6, transform=axis.transAxes)
    figure.savefig(path, dpi=90)


def _full(matching: Matching, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    image = np.zeros(matching.shape, np.int32)
    image[matching.box] = ids
    return image


def _alone(matching: Matching, merged: list[int]) -> npt.NDArray[np.int64]:
    """The label instances that share no predicted component with another lesion."""
    return matching.pairs[~np.isin(matching.pairs[:, 1], merged), 0]


def main() -> int:
    docs = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    docs.mkdir(parents=True, exist_ok=True)
    label, prediction = scene()
    draw_instances(label, prediction, docs / "instances.png")
    draw_matching(label, prediction, docs / "matching.png")
    draw_boxes(label, prediction, docs / "boxes.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
