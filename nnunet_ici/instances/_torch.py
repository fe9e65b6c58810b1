"""Labelling on any torch device: union-find by root hooking and pointer jumping, run to convergence."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

__all__ = ["compact_ids", "label_union_find"]


def label_union_find(mask: Tensor, faces: bool = False) -> tuple[Tensor, Tensor]:
    """Label the components of a batch of binary images on the device they lie on.

    Every foreground voxel is a node, every pair of foreground neighbours an edge. Roots are hooked to the smallest root
    they share an edge with, trees are flattened by pointer jumping, and edges inside one tree are dropped, until
    no edge is left: nothing is approximate, whatever the shape of a component.

    Args:
        mask: bool (B, *spatial), 2D or 3D.
        faces: connect voxels that share a face (an edge in 2D), and no others; else with full connectivity.

    Returns:
        int32 ids (B, *spatial), 0 = background, 1..n in raster order of the first voxel of each component, per image;
        int64 counts (B,).
    """
    voxels = torch.nonzero(mask.reshape(-1)).squeeze(1)
    node = torch.full((mask.numel(),), -1, dtype=torch.int64, device=mask.device)
    node[voxels] = torch.arange(len(voxels), device=mask.device)
    source, target = _edges(node.reshape(mask.shape), faces)

    parent = torch.arange(len(voxels), device=mask.device)
    while len(source):
        high, low = torch.maximum(source, target), torch.minimum(source, target)
        parent.scatter_reduce_(0, high, low, reduce="amin")
        while True:
            jumped = parent[parent]
            if torch.equal(jumped, parent):
                break
            parent = jumped
        source, target = parent[source], parent[target]
        apart = source != target
        source, target = source[apart], target[apart]

    roots = torch.zeros(mask.numel(), dtype=torch.int64, device=mask.device)
    roots[voxels] = voxels[parent]
    return compact_ids(roots.reshape(mask.shape), mask, mask[0].numel() if len(mask) else 0)


def _edges(node: Tensor, faces: bool) -> tuple[Tensor, Tensor]:
    """The pairs of neighbouring nodes of node (B, *spatial), -1 where there is none; each pair once."""
    sources, targets = [], []
    for offset in product((-1, 0, 1), repeat=node.ndim - 1):
        if offset <= (0,) * len(offset):  # the opposite offset finds the same pairs
            continue
        if faces and sum(map(abs, offset)) > 1:
            continue
        # Along an axis moved by +1: [:-1] against [1:]; by -1 the other way round; by 0: all of it.
        here = (slice(None), *(slice(max(0, -o), -o if o > 0 else None) for o in offset))
        there = (slice(None), *(slice(max(0, o), o if o < 0 else None) for o in offset))
        a, b = node[here], node[there]
        both = (a >= 0) & (b >= 0)
        sources.append(a[both])
        targets.append(b[both])
    return torch.cat(sources), torch.cat(targets)


def compact_ids(roots: Tensor, mask: Tensor, roots_per_image: int) -> tuple[Tensor, Tensor]:
    """Turn roots into consecutive ids.

    Args:
        roots: int64 (B, *spatial); on the foreground the root of the voxel's component, with those of image b in
            [b * roots_per_image, (b + 1) * roots_per_image).
        mask: bool (B, *spatial), the foreground.
        roots_per_image: how many roots an image may have.

    Returns:
        int32 ids (B, *spatial), 0 off the foreground, 1..n per image in the order of the roots; int64 counts (B,).
    """
    batch = len(mask)
    is_root = torch.zeros(batch * roots_per_image, dtype=torch.int64, device=mask.device)
    is_root[roots[mask]] = 1
    rank = is_root.reshape(batch, roots_per_image).cumsum(1)
    counts = rank[:, -1] if roots_per_image else is_root.new_zeros(batch)
    ids = torch.zeros(mask.shape, dtype=torch.int32, device=mask.device)
    ids[mask] = rank.reshape(-1)[roots[mask]].to(torch.int32)
    return ids, counts
