"""The terms from the tables of instances, and their gradient, in Triton; see ``fused.py`` for the order of things.

Float64 inside: these kernels run over instances, not voxels. Sums over instances are kept as integers, in the units
named here, so that they come out the same at every run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nnunet_ici.instances._triton_cubes import unpack
from nnunet_ici.instances._triton_grid import tile_of, voxels_of
from nnunet_ici.instances._triton_label import id_at
from nnunet_ici.instances._triton_sums import FIXED, HIT, IMAGE, OTHER, SIZE, TOTAL, TOUCHED, normalizer, probability

__all__ = [
    "coefficients_kernel", "gradient_kernel", "images_kernel", "instances_kernel", "pair_gradients_kernel",
    "values_kernel",
]  # fmt: skip

LOSS_UNIT = tl.constexpr(2.0**50)  # of sums of losses; the sum is 1 at most, or the number of ranks
GRADIENT_UNIT = tl.constexpr(2.0**50)  # of sums of derivatives, likewise
ERROR_UNIT = tl.constexpr(2.0**30)  # of sums over the voxels of an image, 1 at most each

# Rows of found int64 (4,).
_INSTANCE, _PREDICTED, _MISSED, _FALSE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)


@triton.jit
def _read(table_ptr, row, columns, at, mask, unit):
    """A row of a table, float64; 1 / unit where there is nothing to read, so that nobody divides by 0."""
    return tl.load(table_ptr + row * columns + at, mask=mask, other=1).to(tl.float64) / unit


@triton.jit(do_not_specialize=["labels", "preds"])
def instances_kernel(
    label_ptr, pred_ptr, divisor_ptr, label_slope_ptr, pred_slope_ptr, value_ptr, found_ptr, labels, preds, smooth,
    CLASSES: tl.constexpr, EQ3: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Loss and derivatives of every instance, of its own term.

    Args:
        divisor: float64 (3, F): label instances, predicted instances and images of each class.
        label_slope: float64 (2, Z + 1): by p inside, by p of wrong voxels.
        pred_slope: float64 (2, M + 1): by p on the label, by p off it.
        value: float32 (Z + M,): the cube's value; -1 for a label instance that is hit, 2 for a predicted one that is.
        found: int64 (4,), zero: the two terms, missed and false instances.
    """
    label_blocks = (labels + LANES - 1) // LANES
    program = tl.program_id(0)
    if program < label_blocks:
        at = program * LANES + tl.arange(0, LANES) + 1
        columns = tl.full((), 1, tl.int64) * labels + 1
        real = at <= labels
        size = _read(label_ptr, SIZE, columns, at, real, 1)
        inside = _read(label_ptr, TOTAL, columns, at, real, FIXED)
        wrong = _read(label_ptr, TOUCHED, columns, at, real, FIXED)
        if EQ3:
            wrong -= _read(label_ptr, OTHER, columns, at, real, FIXED)
        hit = tl.load(label_ptr + HIT * columns + at, mask=real, other=1) > 0
        image = tl.load(label_ptr + IMAGE * columns + at, mask=real, other=0)
        weight = 1 / (tl.load(divisor_ptr + image % CLASSES, mask=real, other=1) * CLASSES)
        top = 2 * inside + smooth
        bottom = inside + wrong + size + smooth
        loss = tl.where(real, (1 - top / bottom) * weight, 0)
        tl.atomic_add(found_ptr + _INSTANCE, (tl.sum(loss) * LOSS_UNIT).to(tl.int64), sem="relaxed")
        tl.atomic_add(found_ptr + _MISSED, tl.sum((~hit).to(tl.int64)), sem="relaxed")
        tl.store(label_slope_ptr + at, (top - 2 * bottom) / (bottom * bottom) * weight, mask=real)
        tl.store(label_slope_ptr + columns + at, top / (bottom * bottom) * weight, mask=real)
        tl.store(value_ptr + at - 1, tl.where(hit, -1.0, inside / size).to(tl.float32), mask=real)
    else:
        at = (program - label_blocks) * LANES + tl.arange(0, LANES) + 1
        columns = tl.full((), 1, tl.int64) * preds + 1
        real = at <= preds
        size = _read(pred_ptr, SIZE, columns, at, real, 1)
        total = _read(pred_ptr, TOTAL, columns, at, real, FIXED)
        off = _read(pred_ptr, OTHER, columns, at, real, FIXED)
        touched = _read(pred_ptr, TOUCHED, columns, at, real, 1)
        hit = tl.load(pred_ptr + HIT * columns + at, mask=real, other=1) > 0
        image = tl.load(pred_ptr + IMAGE * columns + at, mask=real, other=0)
        weight = 1 / (tl.load(divisor_ptr + CLASSES + image % CLASSES, mask=real, other=1) * CLASSES)
        top = 2 * (total - off) + smooth
        bottom = total + touched + smooth
        loss = tl.where(hit, 1 - top / bottom, total / size) * weight
        on_slope = tl.where(hit, (top - 2 * bottom) / (bottom * bottom), 1 / size) * weight
        off_slope = tl.where(hit, top / (bottom * bottom), 1 / size) * weight
        tl.atomic_add(found_ptr + _PREDICTED, (tl.sum(tl.where(real, loss, 0)) * LOSS_UNIT).to(tl.int64), sem="relaxed")
        tl.atomic_add(found_ptr + _FALSE, tl.sum((~hit).to(tl.int64)), sem="relaxed")
        tl.store(pred_slope_ptr + at, on_slope, mask=real)
        tl.store(pred_slope_ptr + columns + at, off_slope, mask=real)
        tl.store(value_ptr + labels + at - 1, tl.where(hit, 2.0, total / size).to(tl.float32), mask=real)


@triton.jit
def _of_rank(order_ptr, label_ptr, pred_ptr, labels, preds, rank, real, row):
    """The cube of each rank, whether it is of a label instance, its column, and a row of its table."""
    cube = tl.load(order_ptr + rank, mask=real, other=0)
    is_label = cube < labels
    at = tl.where(is_label, cube, cube - labels) + 1
    label_columns = tl.full((), 1, tl.int64) * labels + 1
    pred_columns = tl.full((), 1, tl.int64) * preds + 1
    entry = tl.load(label_ptr + row * label_columns + at, mask=real & is_label, other=0)
    entry += tl.load(pred_ptr + row * pred_columns + at, mask=real & ~is_label, other=0)
    return cube, is_label, at, entry


@triton.jit(do_not_specialize=["labels", "preds"])
def images_kernel(
    label_ptr, pred_ptr, order_ptr, value_ptr, covered_ptr, image_ptr, labels, preds, images, LANES: tl.constexpr
):
    """image int64 (2, N), zero: of each image the error of the center maps, and the voxels of both hard maps."""
    rank = tl.program_id(0) * LANES + tl.arange(0, LANES)
    real = rank < labels + preds
    cube, _, _, image = _of_rank(order_ptr, label_ptr, pred_ptr, labels, preds, rank, real, IMAGE)
    value = tl.load(value_ptr + cube, mask=real, other=0).to(tl.float64)
    value = tl.minimum(tl.maximum(value, 0), 1)
    elsewhere, in_label, in_pred = unpack(tl.load(covered_ptr + rank + 1, mask=real, other=0))
    error = ((elsewhere * value + in_label * (1 - value)) * ERROR_UNIT).to(tl.int64)
    total = (in_label + in_pred).to(tl.int64)
    for i in range(images):
        here = real & (image == i)
        tl.atomic_add(image_ptr + i, tl.sum(tl.where(here, error, 0)), sem="relaxed")
        tl.atomic_add(image_ptr + images + i, tl.sum(tl.where(here, total, 0)), sem="relaxed")


@triton.jit
def values_kernel(
    found_ptr, image_ptr, divisor_ptr, nan_ptr, value_ptr, images, smooth,
    CLASSES: tl.constexpr, CENTER: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """value float32 (3,): instance, predicted and center term; NaN if there was one among p."""
    bad = tl.load(nan_ptr) != 0
    nan = tl.full((), float("nan"), tl.float32)
    center = tl.full((), 0, tl.float64)
    if CENTER:
        at = tl.arange(0, LANES)
        for start in range(0, images, LANES):
            real = start + at < images
            error = tl.load(image_ptr + start + at, mask=real, other=0).to(tl.float64) / ERROR_UNIT
            total = tl.load(image_ptr + images + start + at, mask=real, other=0).to(tl.float64)
            center += tl.sum(error / (total + smooth))
        center = center / (tl.load(divisor_ptr + 2 * CLASSES) * CLASSES)
    instance = tl.load(found_ptr + _INSTANCE).to(tl.float64) / LOSS_UNIT
    predicted = tl.load(found_ptr + _PREDICTED).to(tl.float64) / LOSS_UNIT
    tl.store(value_ptr, tl.where(bad, nan, instance.to(tl.float32)))
    tl.store(value_ptr + 1, tl.where(bad, nan, predicted.to(tl.float32)))
    tl.store(value_ptr + 2, tl.where(bad, nan, center.to(tl.float32)))


@triton.jit(do_not_specialize=["labels", "candidates"])
def pair_gradients_kernel(pair_ptr, label_slope_ptr, wrong_ptr, labels, candidates, LANES: tl.constexpr):
    """wrong int64 (M + 1,), zero: for each predicted instance the sum, over the label instances that it touches, of
    their derivatives by p of wrong voxels."""
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    label = tl.load(pair_ptr + at, mask=at < candidates, other=0)
    first = label > 0
    pred = tl.load(pair_ptr + tl.full((), 1, tl.int64) * candidates + at, mask=first, other=0)
    slope = tl.load(label_slope_ptr + tl.full((), 1, tl.int64) * labels + 1 + label, mask=first, other=0)
    tl.atomic_add(wrong_ptr + pred, (slope * GRADIENT_UNIT).to(tl.int64), mask=first, sem="relaxed")


@triton.jit(do_not_specialize=["labels", "preds"])
def coefficients_kernel(
    label_ptr, pred_ptr, order_ptr, covered_ptr, image_ptr, divisor_ptr, label_slope_ptr, pred_slope_ptr, wrong_ptr,
    upstream_ptr, label_grad_ptr, pred_grad_ptr, labels, preds, images, smooth,
    CLASSES: tl.constexpr, EQ3: tl.constexpr, CENTER: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The derivative of the loss by p, float32: label_grad (2, Z + 1) inside a label instance, and what is added there
    in a predicted one; pred_grad (2, M + 1) in a predicted instance on the label, and off it. upstream: float32
    (3,)."""
    rank = tl.program_id(0) * LANES + tl.arange(0, LANES)
    real = rank < labels + preds
    of_instance = tl.load(upstream_ptr).to(tl.float64)
    of_predicted = tl.load(upstream_ptr + 1).to(tl.float64)
    _, is_label, at, size = _of_rank(order_ptr, label_ptr, pred_ptr, labels, preds, rank, real, SIZE)
    by_mean = tl.full((LANES,), 0, tl.float64)
    if CENTER:
        _, _, _, image = _of_rank(order_ptr, label_ptr, pred_ptr, labels, preds, rank, real, IMAGE)
        _, _, _, hit = _of_rank(order_ptr, label_ptr, pred_ptr, labels, preds, rank, real, HIT)
        elsewhere, in_label, _ = unpack(tl.load(covered_ptr + rank + 1, mask=real, other=0))
        total = tl.load(image_ptr + images + image, mask=real, other=1).to(tl.float64)
        slope = (elsewhere - in_label) / (total + smooth) / (tl.load(divisor_ptr + 2 * CLASSES) * CLASSES)
        slope = slope / tl.where(real, size, 1).to(tl.float64) * tl.load(upstream_ptr + 2).to(tl.float64)
        by_mean = tl.where(hit > 0, 0, slope)

    label = real & is_label
    columns = tl.full((), 1, tl.int64) * labels + 1
    inside = tl.load(label_slope_ptr + at, mask=label, other=0) * of_instance + by_mean
    tl.store(label_grad_ptr + at, inside.to(tl.float32), mask=label)
    if EQ3:
        covered = -tl.load(label_slope_ptr + columns + at, mask=label, other=0) * of_instance
        tl.store(label_grad_ptr + columns + at, covered.to(tl.float32), mask=label)

    pred = real & ~is_label
    columns = tl.full((), 1, tl.int64) * preds + 1
    wrong = tl.load(wrong_ptr + at, mask=pred, other=0).to(tl.float64) / GRADIENT_UNIT * of_instance
    on = tl.load(pred_slope_ptr + at, mask=pred, other=0) * of_predicted + by_mean
    off = tl.load(pred_slope_ptr + columns + at, mask=pred, other=0) * of_predicted + by_mean + wrong
    if EQ3:
        on += wrong
    tl.store(pred_grad_ptr + at, on.to(tl.float32), mask=pred)
    tl.store(pred_grad_ptr + columns + at, off.to(tl.float32), mask=pred)


@triton.jit
def _gradient_by_p(
    bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image, size, voxel, exists, labels, preds,
    EQ3: tl.constexpr,
):  # fmt: skip
    """The derivative by p of one class of each voxel of the tile."""
    bits = tl.load(bits_ptr + image * size + voxel, mask=exists, other=0)
    grad = tl.full(voxel.shape, 0, tl.float32)
    if tl.max(bits.to(tl.int32)) > 0:
        label, _ = id_at(parent_ptr + image * size, voxel, (bits & 1) != 0)
        pred, _ = id_at(parent_ptr + (images + image) * size, voxel, (bits & 2) != 0)
        grad += tl.load(label_grad_ptr + label, mask=label > 0, other=0)
        off = tl.where(label > 0, 0, tl.full((), 1, tl.int64) * preds + 1)
        grad += tl.load(pred_grad_ptr + off + pred, mask=pred > 0, other=0)
        if EQ3:
            columns = tl.full((), 1, tl.int64) * labels + 1
            grad += tl.load(label_grad_ptr + columns + label, mask=(label > 0) & (pred > 0), other=0)
    return grad


@triton.jit(do_not_specialize=["labels", "preds"])
def gradient_kernel(
    x_ptr, bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, grad_ptr, labels, preds, images,
    tiles, chunks, height, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, MODE: tl.constexpr, CLASSES: tl.constexpr, EQ3: tl.constexpr,
):  # fmt: skip
    """grad: the shape and dtype of x. A program for each tile of each sample; x is read where its gradient is not 0."""
    sample, _, row, x, _, exists = tile_of(tiles, chunks, rows, width, ROWS, WIDTH)
    size = voxels_of(rows, width)
    voxel = row * width + x
    channels: tl.constexpr = CLASSES + 1 if MODE == 2 else CLASSES
    x_ptr += sample * channels * size
    grad_ptr += sample * channels * size
    image = sample * CLASSES

    if MODE == 2 and CLASSES == 1:
        by_p = _gradient_by_p(
            bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image, size, voxel, exists, labels, preds, EQ3
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
                labels, preds, EQ3,
            )  # fmt: skip
            mean += by_p * probability(x_ptr, size, voxel, some, f, largest, total, MODE)
        # The background is channel 0: only the normalizer depends on it.
        of_background = -mean * probability(x_ptr, size, voxel, some, -1, largest, total, MODE)
        of_background = tl.where(some, of_background, 0)
        tl.store(grad_ptr + voxel, of_background.to(grad_ptr.dtype.element_ty), mask=exists)
        for f in range(CLASSES):
            by_p = _gradient_by_p(
                bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image + f, size, voxel, some,
                labels, preds, EQ3,
            )  # fmt: skip
            grad = (by_p - mean) * probability(x_ptr, size, voxel, some, f, largest, total, MODE)
            grad = tl.where(some, grad, 0)
            tl.store(grad_ptr + (f + 1) * size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
    else:
        for f in range(CLASSES):
            grad = _gradient_by_p(
                bits_ptr, parent_ptr, label_grad_ptr, pred_grad_ptr, images, image + f, size, voxel, exists,
                labels, preds, EQ3,
            )  # fmt: skip
            if MODE == 1:
                p = probability(x_ptr, size, voxel, grad != 0, f, grad, grad, MODE)
                grad = grad * p * (1 - p)
            tl.store(grad_ptr + f * size + voxel, grad.to(grad_ptr.dtype.element_ty), mask=exists)
