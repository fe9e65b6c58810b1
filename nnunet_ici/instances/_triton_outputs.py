"""Network outputs in Triton: classification into foreground and background, and the gradient of instance sums.

The input x holds probabilities or another voxel map (MODE 0, (B, F, S)), logits of regions (MODE 1, (B, F, S)), or
logits of classes with a background (MODE 2, (B, F + 1, S)). Image b * F + f is class f of sample b.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_grid import blocks_of, corners_of, tile_of, voxels_of
from nnunet_ici.instances._triton_label import pack_bits

__all__ = ["MODES", "classify_kernel", "gradient_kernel", "normalizer", "probability"]

MODES = {"none": 0, "sigmoid": 1, "softmax": 2}


@triton.jit
def normalizer(x_ptr, size, voxel, mask, CLASSES: tl.constexpr):
    """Largest logit of each voxel, and sum of exp(logit - largest); x_ptr points to the sample."""
    largest = tl.load(x_ptr + voxel, mask=mask, other=0).to(tl.float32)
    total = tl.full(voxel.shape, 1, tl.float32)
    for c in range(1, CLASSES):
        logit = tl.load(x_ptr + c * size + voxel, mask=mask, other=0).to(tl.float32)
        # A NaN in any channel must propagate. maximum drops it, the sum keeps it.
        new = tl.maximum(largest, logit)
        total = total * tl.exp(largest - new) + tl.exp(logit - new)
        largest = new
    return largest, total


@triton.jit
def probability(x_ptr, size, voxel, mask, f, largest, total, MODE: tl.constexpr):
    """p of class f, float32; x_ptr points to the sample. ``largest`` and ``total`` are used for a softmax only."""
    if MODE == 2:
        logit = tl.load(x_ptr + (f + 1) * size + voxel, mask=mask, other=0).to(tl.float32)
        p = tl.exp(logit - largest) / total
    else:
        p = tl.load(x_ptr + f * size + voxel, mask=mask, other=0).to(tl.float32)
        if MODE == 1:
            p = 1 / (1 + tl.exp(-p))
    return p


@triton.jit
def classify_kernel(
    x_ptr, target_ptr, mask_ptr, tau_ptr, bits_ptr, parent_ptr, nan_ptr, ignore, images, tiles, depth, height, width,
    LANES: tl.constexpr, CORNERS: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr,
    BY_CLASS: tl.constexpr, TARGETS: tl.constexpr, HAS_MASK: tl.constexpr, HAS_IGNORE: tl.constexpr,
):  # fmt: skip
    """Classify the voxels of all classes. One program per tile and sample; CLASSES is F.

    Args:
        target: label map (B, 1, S), or with BY_CLASS (B, TARGETS, S), where a channel F marks ignored voxels.
        mask: (B, 1, S), 0 for ignored voxels, if HAS_MASK.
        tau: threshold, float32.
        bits: written, (2, N, K): the voxels of each block on the label, and those with p >= tau, without ignored ones.
        parent: written, (2, N, K): the block's own index, where bits are not 0.
        nan: set to 1 if any p is NaN, otherwise unchanged.
    """
    sample, block = tile_of(tiles, LANES)
    size = voxels_of(depth, height, width)
    blocks = blocks_of(depth, height, width)
    corner, voxel, exists = corners_of(block, depth, height, width, CORNERS)
    tau = tl.load(tau_ptr)
    counts = exists
    if HAS_MASK:
        counts = counts & (tl.load(mask_ptr + sample * size + voxel, mask=exists, other=0) != 0)
    target_ptr += sample * TARGETS * size
    if BY_CLASS:
        label = exists.to(tl.int32)
        if TARGETS > CLASSES:
            counts = counts & (tl.load(target_ptr + CLASSES * size + voxel, mask=exists, other=0) == 0)
    else:
        label = tl.load(target_ptr + voxel, mask=exists, other=0).to(tl.int32)
        if HAS_IGNORE:
            counts = counts & (label != ignore)

    x_ptr += sample * (CLASSES + (1 if MODE == 2 else 0)) * size
    largest = tl.full((LANES, CORNERS), 0, tl.float32)
    total = largest
    if MODE == 2:
        largest, total = normalizer(x_ptr, size, voxel, exists, CLASSES + 1)
    bad = tl.full((LANES, CORNERS), 0, tl.int32)
    for f in range(CLASSES):
        p = probability(x_ptr, size, voxel, exists, f, largest, total, MODE)
        bad = bad | (p != p).to(tl.int32)
        if BY_CLASS:
            in_label = counts & (tl.load(target_ptr + f * size + voxel, mask=exists, other=0) > 0)
        else:
            in_label = counts & (label == f + 1)
        at = (sample * CLASSES + f) * blocks + block
        label_bits = pack_bits(in_label, corner)
        pred_bits = pack_bits(counts & (p >= tau), corner)
        tl.store(bits_ptr + at, label_bits.to(tl.uint8), mask=block < blocks)
        tl.store(bits_ptr + images * blocks + at, pred_bits.to(tl.uint8), mask=block < blocks)
        tl.store(parent_ptr + at, block, mask=label_bits != 0)
        tl.store(parent_ptr + images * blocks + at, block, mask=pred_bits != 0)
    tl.store(nan_ptr, 1, mask=tl.max(tl.max(bad, 1), 0) > 0)


@triton.jit
def _gradient_by_p(
    bits_ptr,
    parent_ptr,
    label_ptr,
    label_part_ptr,
    pred_ptr,
    pred_part_ptr,
    given,
    images,
    image,
    blocks,
    block,
    corner,
):
    """Gradient with respect to the map (p or another voxel map) of one class, at each voxel of the blocks."""
    at = image * blocks + block
    exists = block < blocks
    label_bits = tl.load(bits_ptr + at, mask=exists, other=0).to(tl.int32)
    pred_bits = tl.load(bits_ptr + images * blocks + at, mask=exists, other=0).to(tl.int32)
    label = image * blocks + tl.load(parent_ptr + at, mask=label_bits != 0, other=0)
    pred = image * blocks + tl.load(parent_ptr + images * blocks + at, mask=pred_bits != 0, other=0)
    by_label = tl.load(label_ptr + label, mask=(label_bits != 0) & ((given & 1) != 0), other=0)
    by_label_part = tl.load(label_part_ptr + label, mask=((label_bits & pred_bits) != 0) & ((given & 2) != 0), other=0)
    by_pred = tl.load(pred_ptr + pred, mask=(pred_bits != 0) & ((given & 4) != 0), other=0)
    by_pred_part = tl.load(pred_part_ptr + pred, mask=((pred_bits & ~label_bits) != 0) & ((given & 8) != 0), other=0)
    in_label = ((label_bits[:, None] >> corner) & 1) != 0
    in_pred = ((pred_bits[:, None] >> corner) & 1) != 0
    grad = tl.where(in_label, by_label[:, None], 0) + tl.where(in_label & in_pred, by_label_part[:, None], 0)
    return grad + tl.where(in_pred, by_pred[:, None], 0) + tl.where(in_pred & ~in_label, by_pred_part[:, None], 0)


@triton.jit(do_not_specialize=["given"])
def gradient_kernel(
    x_ptr, bits_ptr, parent_ptr, label_ptr, label_part_ptr, pred_ptr, pred_part_ptr, given, grad_ptr, images,
    tiles, depth, height, width,
    LANES: tl.constexpr, CORNERS: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Gradient with respect to x. One program per tile and sample; x is read only where the gradient is not 0.

    Args:
        parent: (2, N, K), the roots.
        label, label_part, pred, pred_part: float32 (N, K), gradients with respect to the sums over instances and their
            parts.
        given: bits 0 to 3 tell which of these four are given; the others are 0.
        grad: written, same shape and dtype as x.
    """
    sample, block = tile_of(tiles, LANES)
    size = voxels_of(depth, height, width)
    blocks = blocks_of(depth, height, width)
    corner, voxel, exists = corners_of(block, depth, height, width, CORNERS)
    channels: tl.constexpr = CLASSES + 1 if MODE == 2 else CLASSES
    x_ptr += sample * channels * size
    grad_ptr += sample * channels * size
    image = sample * CLASSES

    if MODE == 2:
        # d p_f / d z_c = p_f ([f = c] - p_c), so that d / d z_c = p_c (d / d p_c - mean), with 0 for the background.
        some = tl.full((LANES, CORNERS), 0, tl.int1)
        for f in range(CLASSES):
            by_p = _gradient_by_p(
                bits_ptr, parent_ptr, label_ptr, label_part_ptr, pred_ptr, pred_part_ptr, given, images,
                image + f, blocks, block, corner,
            )  # fmt: skip
            some = some | (by_p != 0)
        largest, total = normalizer(x_ptr, size, voxel, exists & some, CLASSES + 1)
        mean = tl.full((LANES, CORNERS), 0, tl.float32)
        for f in range(CLASSES):
            by_p = _gradient_by_p(
                bits_ptr, parent_ptr, label_ptr, label_part_ptr, pred_ptr, pred_part_ptr, given, images,
                image + f, blocks, block, corner,
            )  # fmt: skip
            mean += by_p * probability(x_ptr, size, voxel, exists & some, f, largest, total, MODE)
        # The background is channel 0, class -1.
        of_background = -mean * probability(x_ptr, size, voxel, exists & some, -1, largest, total, MODE)
        of_background = tl.where(some, of_background, 0)
        tl.store(grad_ptr + voxel, of_background.to(grad_ptr.dtype.element_ty), mask=exists)
        for f in range(CLASSES):
            by_p = _gradient_by_p(
                bits_ptr, parent_ptr, label_ptr, label_part_ptr, pred_ptr, pred_part_ptr, given, images,
                image + f, blocks, block, corner,
            )  # fmt: skip
            grad = (by_p - mean) * probability(x_ptr, size, voxel, exists & some, f, largest, total, MODE)
            grad = tl.where(some, grad, 0)
            tl.store(grad_ptr + (f + 1) * size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
    else:
        for f in range(CLASSES):
            grad = _gradient_by_p(
                bits_ptr, parent_ptr, label_ptr, label_part_ptr, pred_ptr, pred_part_ptr, given, images,
                image + f, blocks, block, corner,
            )  # fmt: skip
            if MODE == 1:
                p = probability(x_ptr, size, voxel, exists & (grad != 0), f, grad, grad, MODE)
                grad = grad * p * (1 - p)
            tl.store(grad_ptr + f * size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
