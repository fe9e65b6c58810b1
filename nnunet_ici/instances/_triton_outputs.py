"""Network outputs in Triton: classification into foreground and background, and the gradient of instance sums.

The input x holds probabilities or another voxel map (MODE 0, (B, F, S)), logits of regions (MODE 1, (B, F, S)), or
logits of classes with a background (MODE 2, (B, F + 1, S)). Image b * F + f is class f of sample b.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_grid import tile_of, voxels_of
from nnunet_ici.instances._triton_label import id_at, run_start

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
    x_ptr, target_ptr, mask_ptr, bits_ptr, parent_ptr, nan_ptr, tau, ignore, images, tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr,
    BY_CLASS: tl.constexpr, TARGETS: tl.constexpr, HAS_MASK: tl.constexpr, HAS_IGNORE: tl.constexpr,
):  # fmt: skip
    """Classify the voxels of all classes and find the run starts. One program per tile and sample; CLASSES is F.

    Args:
        target: label map (B, 1, S), or with BY_CLASS (B, TARGETS, S), where a channel F marks ignored voxels.
        mask: (B, 1, S), 0 for ignored voxels, if HAS_MASK.
        bits: written, (N, S): sum of 1 on the label and 2 where p >= tau; 0 for ignored voxels.
        parent: written, (2, N, S): run starts, on the foreground only.
        nan: set to 1 if any p is NaN, otherwise unchanged.
    """
    sample, _, row, x, first_x, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
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

    largest = tl.full((ROWS, WIDTH), 0, tl.float32)
    total = largest
    if MODE == 2:
        x_ptr += sample * (CLASSES + 1) * size
        largest, total = normalizer(x_ptr, size, voxel, exists, CLASSES + 1)
    else:
        x_ptr += sample * CLASSES * size
    bad = tl.full((ROWS, WIDTH), 0, tl.int32)
    for f in range(CLASSES):
        p = probability(x_ptr, size, voxel, exists, f, largest, total, MODE)
        bad = bad | (p != p).to(tl.int32)
        if BY_CLASS:
            in_label = counts & (tl.load(target_ptr + f * size + voxel, mask=exists, other=0) > 0)
        else:
            in_label = counts & (label == f + 1)
        in_pred = counts & (p >= tau)
        image = sample * CLASSES + f
        tl.store(bits_ptr + image * size + voxel, in_label.to(tl.uint8) + 2 * in_pred.to(tl.uint8), mask=exists)
        if tl.max((in_label | in_pred).to(tl.int32)) > 0:
            parents = parent_ptr + image * size + voxel
            tl.store(parents, run_start(in_label, row, x, first_x, width), mask=in_label)
            start = run_start(in_pred, row, x, first_x, width)
            tl.store(parents + images * size, start, mask=in_pred)
    tl.store(nan_ptr, 1, mask=tl.max(bad) > 0)


@triton.jit
def _gradient_by_p(
    bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image, size, voxel, exists, labels, preds
):
    """Gradient with respect to the map (p or another voxel map) of one class, at each voxel of the tile."""
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0)
    grad = tl.full(voxel.shape, 0, tl.float32)
    if tl.max(bits.to(tl.int32)) > 0:
        label, _ = id_at(parent_ptr + image * size, voxel, (bits & 1) != 0)
        pred, _ = id_at(parent_ptr + (images + image) * size, voxel, (bits & 2) != 0)
        one = tl.full((), 1, tl.int64)
        grad += tl.load(label_grad_ptr + label, mask=label > 0, other=0)
        grad += tl.load(label_grad_ptr + (one * labels + 1) + label, mask=(label > 0) & (pred > 0), other=0)
        grad += tl.load(pred_grad_ptr + pred, mask=pred > 0, other=0)
        grad += tl.load(pred_grad_ptr + (one * preds + 1) + pred, mask=(label == 0) & (pred > 0), other=0)
    return grad


@triton.jit(do_not_specialize=["labels", "preds"])
def gradient_kernel(
    x_ptr, bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, grad_ptr, labels, preds, images,
    tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Gradient with respect to x. One program per tile and sample; x is read only where the gradient is not 0.

    Args:
        label_grad: float32 (2, Z + 1), gradients with respect to the sums over label instances, and over their parts
            in predicted instances.
        pred_grad: float32 (2, M + 1), gradients with respect to the sums over predicted instances, and over their parts
            outside the label.
        grad: written, same shape and dtype as x.
    """
    sample, _, row, x, _, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    channels: tl.constexpr = CLASSES + 1 if MODE == 2 else CLASSES
    x_ptr += sample * channels * size
    grad_ptr += sample * channels * size
    image = sample * CLASSES

    if MODE == 2 and CLASSES == 1:
        by_p = _gradient_by_p(
            bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image, size, voxel, exists, labels, preds
        )  # fmt: skip
        largest, total = normalizer(x_ptr, size, voxel, by_p != 0, 2)
        p = probability(x_ptr, size, voxel, by_p != 0, 0, largest, total, MODE)
        grad = by_p * p * (1 - p)
        tl.store(grad_ptr + voxel, (-grad).to(grad_ptr.dtype.element_ty), mask=exists)
        tl.store(grad_ptr + size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
    elif MODE == 2:
        # d p_f / d z_c = p_f ([f = c] - p_c)
        any_bits = tl.full((ROWS, WIDTH), 0, tl.uint8)
        for f in range(CLASSES):
            any_bits = any_bits | tl.load(bits_ptr + (image + f) * size + voxel, mask=exists, other=0)
        some = any_bits != 0
        largest, total = normalizer(x_ptr, size, voxel, some, CLASSES + 1)
        mean = tl.full((ROWS, WIDTH), 0, tl.float32)
        for f in range(CLASSES):
            by_p = _gradient_by_p(
                bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image + f, size, voxel, some,
                labels, preds,
            )  # fmt: skip
            mean += by_p * probability(x_ptr, size, voxel, some, f, largest, total, MODE)
        # The background is channel 0 and enters the normalizer only.
        of_background = -mean * probability(x_ptr, size, voxel, some, -1, largest, total, MODE)
        of_background = tl.where(some, of_background, 0)
        tl.store(grad_ptr + voxel, of_background.to(grad_ptr.dtype.element_ty), mask=exists)
        for f in range(CLASSES):
            by_p = _gradient_by_p(
                bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image + f, size, voxel, some,
                labels, preds,
            )  # fmt: skip
            grad = (by_p - mean) * probability(x_ptr, size, voxel, some, f, largest, total, MODE)
            grad = tl.where(some, grad, 0)
            tl.store(grad_ptr + (f + 1) * size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
    else:
        for f in range(CLASSES):
            grad = _gradient_by_p(
                bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image + f, size, voxel, exists,
                labels, preds,
            )  # fmt: skip
            if MODE == 1:
                p = probability(x_ptr, size, voxel, grad != 0, f, grad, grad, MODE)
                grad = grad * p * (1 - p)
            tl.store(grad_ptr + f * size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
