"""Baselines with a loop over the instances: the ICI loss as described in its paper, and blob loss.

The code is written from the papers, not from published code. Components are labeled by a fixed number of max-poolings,
or by SciPy on the CPU within the step. Only the cost matters here. There is one difference: if many predicted
components touch a label instance, the published code drops the prediction, and this code keeps it.

Sources: Rachmadi et al., MIDL 2023, Algorithms 1 and 2; Kofler et al., 2022.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-5


def label_by_max_pooling(mask: Tensor, iterations: int = 250) -> Tensor:
    """Component labels of one image (*spatial). Every voxel starts with its own number and takes the largest number of
    its neighbors in each iteration. The result is wrong for components with longer paths."""
    pool = F.max_pool3d if mask.ndim == 3 else F.max_pool2d
    numbers = torch.arange(1, mask.numel() + 1, device=mask.device).to(torch.float32)
    ids = (numbers.reshape(mask.shape) * mask)[None, None]
    for _ in range(iterations):
        ids = pool(ids, 3, stride=1, padding=1) * mask
    return ids[0, 0]


def label_by_scipy(mask: Tensor) -> Tensor:
    """Component labels of one image, computed by SciPy on the host."""
    import numpy as np

    ids, _ = ndimage.label(mask.cpu().numpy(), np.ones((3,) * mask.ndim))
    return torch.from_numpy(ids).to(mask.device)


def ici_terms(label: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The instance and center terms of logits (B, 2, *spatial) and labels (B, 1, *spatial)."""

    def terms(logits: Tensor, target: Tensor) -> Tensor:
        prob = torch.softmax(logits.float(), 1)[:, 1]
        instance, images = [], []
        for p, y in zip(prob, target[:, 0] == 1, strict=True):
            label_ids, pred_ids = label(y), label(p.detach() >= 0.5)
            for n in label_ids.unique():
                if n == 0:
                    continue
                inside = label_ids == n
                touching = pred_ids[inside].unique()
                cut = torch.isin(pred_ids, touching[touching > 0]) & (~y | inside)
                seen = p * cut
                instance.append(1 - (2 * seen[inside].sum() + EPS) / (seen.sum() + inside.sum() + EPS))
            images.append(1 - _dice(_cubes(pred_ids), _cubes(label_ids)))
        zero = 0 * prob.sum()
        return (torch.stack(instance).mean() if instance else zero) + torch.stack(images).mean() + zero

    return terms


def _cubes(ids: Tensor, half: int = 3) -> Tensor:
    """The map of cubes at the centers of mass, drawn one by one."""
    drawn = torch.zeros(ids.shape, device=ids.device)
    for n in ids.unique():
        if n == 0:
            continue
        center = (ids == n).nonzero().float().mean(0).add(0.5).floor().long().tolist()
        drawn[tuple(slice(max(c - half, 0), c + half + 1) for c in center)] = 1
    return drawn


def _dice(a: Tensor, b: Tensor) -> Tensor:
    return (2 * (a * b).sum() + EPS) / (a.sum() + b.sum() + EPS)


def blob_term(logits: Tensor, target: Tensor) -> Tensor:
    """Blob loss: the Dice loss over the image for each label instance, with the other instances masked out."""
    prob = torch.softmax(logits.float(), 1)[:, 1]
    images = []
    for p, y in zip(prob, target[:, 0] == 1, strict=True):
        ids = label_by_scipy(y)
        losses = []
        for n in range(1, int(ids.max()) + 1):
            inside = ids == n
            kept = p * (~y | inside)
            losses.append(1 - (2 * (kept * inside).sum() + EPS) / (kept.sum() + inside.sum() + EPS))
        if losses:
            images.append(torch.stack(losses).mean())
    return torch.stack(images).mean() if images else 0 * prob.sum()
