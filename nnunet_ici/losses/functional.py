"""The terms over instances as functions of probabilities; :mod:`~nnunet_ici.losses.term` has them as modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_ici.losses.compute import NO_PREDICTIONS
from nnunet_ici.losses.term import value_of
from nnunet_ici.settings import FIXED_THRESHOLD

__all__ = [
    "blob_loss",
    "center_loss",
    "instance_loss",
    "lesionwise_loss",
    "pq_loss",
    "predicted_instance_loss",
]


@torch.compiler.disable
def instance_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Dice loss of each label instance G_n against the predicted instances P_m that touch it, averaged.

    .. math::
        L = \frac{1}{Z} \sum_n \left[ 1 - \frac{2 I_n + \epsilon}{I_n + FP_n + |G_n| + \epsilon} \right]

    where I_n is the sum of p over G_n. FP_n is the sum of p over the voxels of the touching P_m that lie outside the
    label (Eq. 5, the default) or outside G_n (Eq. 3). Z is the number of label instances in the mini-batch. Each class
    is treated separately, then the classes are averaged.

    Source: Rachmadi et al., MIDL 2023 (PMLR 227:286-300), Eq. 3, Eq. 5 and Algorithm 1. On binary predictions the
    values equal the paper's. On probabilities, the published code either sums p only inside predicted instances, so
    that missed instances get no gradient, or binarizes p, so that there is no gradient at all. Here I_n includes all
    voxels of G_n, and components are labeled until convergence.

    Args:
        prob: floating point (B, C, *spatial), 2D or 3D, in [0, 1].
        target: bool, same shape as ``prob``.
        mask: bool (B, 1, *spatial), False for ignored voxels.
        threshold: threshold of the predicted instances P_m, the components of ``prob >= threshold``.
        **settings: ``exclude_other_instances``, ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`.
            A cross-entropy as inner loss is averaged over the same voxels: G_n, and the touching P_m outside the label
            (Appendix J).

    Returns:
        A scalar, in [0, 1] for Dice. Without label instances it is 0 and stays attached to the graph. (The authors'
        code adds a Dice against an empty label in this case; Eq. 3 does not.)

    Raises:
        TypeError: if a dtype is wrong, or a setting unknown.
        ValueError: if a shape or a setting is invalid, or a probability outside [0, 1]; the latter is checked once for
            each shape and dtype.
        NotImplementedError: if Eq. 3 is combined with an inner loss other than Dice.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1:3, 1:3] = target[0, 0, 5:7, 5:7] = True
        >>> logits = torch.full((1, 1, 8, 8), -2.0, requires_grad=True)  # both missed
        >>> loss = instance_loss(logits.sigmoid(), target)
        >>> loss.backward()
        >>> round(loss.item(), 4), bool((logits.grad[target] < 0).all())
        (0.787, True)
    """
    return value_of("instance", prob, target, mask, threshold, settings)


@torch.compiler.disable
def predicted_instance_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Dice loss of each predicted instance P_m against the label instances that touch it, averaged.

    .. math::
        L_m = 1 - \frac{2 \sum_{P_m, y = 1} p + \epsilon}{\sum_{P_m} p + |\bigcup S(m)| + \epsilon}
        \quad\text{or, where no label is touched,}\quad L_m = \mathrm{mean}_{P_m}\, p

    where :math:`|\bigcup S(m)|` is the total size of the label instances that touch P_m, including their voxels outside
    P_m. The mean runs over the predicted instances of the mini-batch. Each class is treated separately, then the
    classes are averaged.

    Source: Rachmadi et al., MIDL 2023, Appendix C, Eq. 6. The total size of the touched instances follows the authors'
    code (0.654472 on their example blobs). In that code a false instance costs 1 whatever its probability, which gives
    no gradient. The mean probability is also 1 on a binary prediction and does have a gradient, even in images without
    lesions.

    Args:
        prob, target, mask, threshold: as for :func:`instance_loss`.
        **settings: ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`. A cross-entropy as inner
            loss is averaged over P_m and all voxels of the touched label instances (Appendix J).

    Returns:
        A scalar, in [0, 1] for Dice. Without predicted instances it is 0 and stays attached to the graph.

    Raises:
        TypeError, ValueError, NotImplementedError: as :func:`instance_loss`.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)  # nothing to find
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 2:4, 2:4] = 0.75
        >>> _ = prob.requires_grad_()
        >>> loss = predicted_instance_loss(prob, target)
        >>> loss.backward()
        >>> loss.item(), prob.grad[0, 0, 2, 2].item()
        (0.75, 0.25)
    """
    return value_of("predicted", prob, target, mask, threshold, settings)


@torch.compiler.disable
def center_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""Dice loss between two maps of the centers of the label and predicted instances.

    Each instance is drawn as a cube (a square in 2D) around ``floor(mean + 0.5)`` of its voxel coordinates, clipped at
    the image border. The map L is 1 on the cubes of the label instances. The map O takes the maximum of these values
    over the cubes that contain a voxel:

    - 1 for a predicted instance that touches a label,
    - its mean probability for a false predicted instance,
    - its mean probability for a missed label instance.

    .. math::
        L_{center} = \mathrm{mean}_{images} \frac{\sum O (1 - L) + \sum (1 - O) L}{\sum O_{bin} + \sum L + \epsilon}

    where O_bin is 1 on the cubes of the predicted instances.

    Source: Rachmadi et al., MIDL 2023, Eq. 4 and Algorithm 2. Size 7 is the best in their Table 5; the half widths on
    axes of different lengths follow the authors' code. On binary predictions this equals the paper's 1 - Dice. On
    probabilities, the map in the published code is constant and gives no gradient; the values in O are ours.

    Args:
        prob, target, mask, threshold: as for :func:`instance_loss`. Cubes may extend into ignored voxels.
        **settings: ``size``, ``reference_shape`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`.

    Returns:
        A scalar in [0, 1]. An image without any instance counts as 0. Without any instance the loss is 0 and stays
        attached to the graph.

    Raises:
        TypeError, ValueError, NotImplementedError: as :func:`instance_loss`.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
        >>> target[0, 0, 3, 3] = True
        >>> prob = torch.zeros(1, 1, 16, 16)
        >>> prob[0, 0, 11, 11] = 0.75  # missed there, false here
        >>> _ = prob.requires_grad_()
        >>> loss = center_loss(prob, target)
        >>> loss.backward()
        >>> round(loss.item(), 4), bool(prob.grad[0, 0, 3, 3] < 0), bool(prob.grad[0, 0, 11, 11] > 0)
        (0.875, True, True)
    """
    return value_of("center", prob, target, mask, threshold, settings)


@torch.compiler.disable
def lesionwise_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""One minus the lesion-wise Dice: every found, missed and false lesion counts once, whatever its size.

    .. math::
        L = \frac{\sum_n (1 - D_n) + f \sum_{m\ false} s_m}{Z + f F}

    where D_n is the Dice of label instance G_n (one minus its loss in :func:`~nnunet_ici.losses.instance_loss`), s_m is
    the mean probability of a false instance, a predicted instance P_m that touches no label, and f is ``false_weight``.
    Z and F are the numbers of label and false instances in the mini-batch. Each class is treated separately, then the
    classes are averaged.

    Source: this package. On binary predictions, with f = 1, this is one minus
    :func:`~nnunet_ici.evaluation.metrics.lesion_dice`, up to eps. With Eq. 3 of Rachmadi et al., this is the
    lesion-wise Dice of the BraTS challenges since 2023 (the sum of the lesions' Dice divided by TP + FN + FP), without
    their dilation and minimum volume. With Eq. 5, the default, a predicted instance that covers several lesions is not
    penalized, in the Dice of one lesion, for the voxels of the others.

    Args:
        prob, target, mask, threshold: as for :func:`instance_loss`.
        **settings: ``exclude_other_instances``, ``inner``, ``false_weight`` and ``smooth`` of
            :class:`~nnunet_ici.settings.TermSettings`. An inner loss other than Dice replaces 1 - D_n for G_n, and s_m
            for P_m.

    Returns:
        A scalar, in [0, 1] for Dice. Without any instance it is 0 and stays attached to the graph.

    Raises:
        TypeError, ValueError, NotImplementedError: as :func:`instance_loss`.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1:3, 1:3] = target[0, 0, 5, 5] = True  # four voxels, one voxel
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 1:3, 1:3] = 1  # the large one is found
        >>> prob[0, 0, 1:3, 6] = 0.75  # false
        >>> _ = prob.requires_grad_()
        >>> loss = lesionwise_loss(prob, target)
        >>> loss.backward()
        >>> round(loss.item(), 3)  # (0 + 1 + 0.75) / 3
        0.583
        >>> bool(prob.grad[0, 0, 5, 5] < 0), bool(prob.grad[0, 0, 1, 6] > 0)
        (True, True)
    """
    return value_of("lesionwise", prob, target, mask, threshold, settings)


@torch.compiler.disable
def pq_loss(
    prob: Tensor, target: Tensor, mask: Tensor | None = None, *, threshold: float = FIXED_THRESHOLD, **settings: Any
) -> Tensor:
    r"""One minus a panoptic quality with Dice: lesions are counted as in the F1 score.

    .. math::
        L = 1 - \frac{2 \sum_n D_n + \epsilon}{Z + H + f \sum_{m\ false} s_m + \epsilon}
        \quad\text{or, where } Z = 0,\quad L = \mathrm{mean}_m\, s_m

    where D_n, s_m, Z and f are defined in :func:`lesionwise_loss`. H is the number of label instances that a predicted
    instance touches; it has no gradient. A false lesion weighs (1 - L) / 2 times as much as a missed one, as in the F1
    score. Sums run over the mini-batch. Each class is treated separately, then the classes are averaged.

    Source: this package, after the panoptic quality of Kirillov et al., CVPR 2019, with Dice instead of IoU.

    Args:
        prob, target, mask, threshold: as for :func:`instance_loss`.
        **settings: ``exclude_other_instances``, ``false_weight`` and ``smooth`` of
            :class:`~nnunet_ici.settings.TermSettings`. The inner loss is always Dice, because a quality lies in [0, 1].

    Returns:
        A scalar, in [0, 1] on binary predictions. Without any instance it is 0 and stays attached to the graph. Lesions
        just below the threshold can make it negative, because they count in the numerator but not in H: a single lesion
        with p = 0.49 everywhere gives -0.315 at the threshold 0.5.

    Raises:
        TypeError, ValueError, NotImplementedError: as :func:`instance_loss`.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1:3, 1:3] = target[0, 0, 5, 5] = True
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 1:3, 1:3] = 1  # one found, one missed
        >>> round(pq_loss(prob, target).item(), 3)  # 1 - 2 / (2 + 1)
        0.333
        >>> prob[0, 0, 1:3, 6] = 1  # and one false
        >>> round(pq_loss(prob, target).item(), 3)  # 1 - 2 / (2 + 1 + 1)
        0.5
    """
    return value_of("pq", prob, target, mask, threshold, settings)


@torch.compiler.disable
def blob_loss(prob: Tensor, target: Tensor, mask: Tensor | None = None, **settings: Any) -> Tensor:
    r"""Dice loss of each label instance G_n over the image without the other label instances.

    .. math:: L_n = 1 - \frac{2 I_n + \epsilon}{I_n + \sum_{y = 0} p + |G_n| + \epsilon}

    where I_n is the sum of p over G_n. The mean runs over the instances of an image, then over the images of the
    mini-batch that contain an instance. Each class is treated separately, then the classes are averaged.

    Source: Kofler et al., blob loss, 2022. Every false-positive voxel of an image counts against each of its instances.

    Args:
        prob, target, mask: as for :func:`instance_loss`.
        **settings: ``inner`` and ``smooth`` of :class:`~nnunet_ici.settings.TermSettings`. A cross-entropy as inner
            loss is averaged over the same voxels.

    Returns:
        A scalar, in [0, 1] for Dice. Without label instances it is 0 and stays attached to the graph.

    Raises:
        TypeError, ValueError, NotImplementedError: as :func:`instance_loss`.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[0, 0, 1, 1] = target[0, 0, 4:7, 4:7] = True  # one voxel, nine voxels
        >>> prob = torch.zeros(1, 1, 8, 8)
        >>> prob[0, 0, 4:7, 4:7] = 1  # the small one is missed
        >>> _ = prob.requires_grad_()
        >>> loss = blob_loss(prob, target)
        >>> loss.backward()
        >>> round(loss.item(), 3), bool(prob.grad[0, 0, 1, 1] < 0)
        (0.5, True)
    """
    return value_of("blob", prob, target, mask, NO_PREDICTIONS, settings)
