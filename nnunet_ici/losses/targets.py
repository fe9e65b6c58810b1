"""How a loss reads its target: label map, one-hot channels or regions, as nnU-Net or MONAI pass them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnunet_ici.checks import Once, check_binary, check_labels, check_network_output

__all__ = ["TargetReader"]


@dataclass(eq=False)
class TargetReader:
    """Turn network output and target into the form that nnU-Net passes to a loss.

    Without ``softmax`` or ``sigmoid``, the shapes decide: a target with one channel is a label map for a softmax, a
    target with the channels of the logits holds regions for sigmoids.

    Attributes:
        ignore_label: label of ignored voxels in label maps, or None.
        regions: whether targets are regions, for sigmoids; None to decide by their shape, where one-hot targets are
            refused.
        to_onehot_y: whether targets are label maps (B, 1, *spatial), as in MONAI's losses.
        softmax: whether the logits are those of a softmax. A target with a channel for each class must be one-hot.
        sigmoid: whether each channel of the logits is a region of its own.
        include_background: whether channel 0 is a region, for sigmoids; the background of a softmax has no instances.

    Raises:
        ValueError: if the options contradict each other.
    """

    ignore_label: int | None = None
    regions: bool | None = None
    to_onehot_y: bool = False
    softmax: bool = False
    sigmoid: bool = False
    include_background: bool | None = None
    _once: Once = field(default_factory=Once, repr=False)

    def __post_init__(self) -> None:
        if self.softmax and (self.sigmoid or self.regions):
            other = "sigmoid" if self.sigmoid else "regions"
            raise ValueError(f"softmax and {other} exclude each other: choose one. Got: both True")
        if self.include_background and not (self.sigmoid or self.regions):
            raise ValueError(
                "include_background=True needs sigmoid=True: the background of a softmax has no instances. Got: "
                f"sigmoid={self.sigmoid}"
            )

    def __call__(self, net_output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Network output and target in nnU-Net's form.

        Values are checked once for each shape, dtype and device, as this waits for the device.

        Args:
            net_output: logits (B, C, *spatial), 2D or 3D, floating point.
            target: label map (B, 1, *spatial); or one channel for each channel of the logits, and possibly another that
                marks ignored voxels.

        Returns:
            Logits and a label map, or logits and regions, see :func:`~nnunet_ici.checks.check_network_output`.

        Raises:
            TypeError: if ``net_output`` is not floating-point.
            ValueError: if a shape is wrong, or the target holds values that it must not have.
        """
        is_map = check_network_output(net_output, target)
        classes = net_output.shape[1]
        if (self.to_onehot_y or self.regions is False) and not is_map:
            raise ValueError(
                f"target must be a label map (B, 1, *spatial) for {classes} > 1 classes. Got: {tuple(target.shape)}"
            )
        if is_map and self.regions:
            raise ValueError(f"target must have a channel for each of {classes} regions. Got: {tuple(target.shape)}")
        self._once(lambda: self._check_values(target, classes, is_map), net_output, target)
        if is_map:
            if not self.sigmoid:
                return net_output, target
            numbers = torch.arange(classes, device=target.device).reshape(-1, *[1] * (target.ndim - 2))
            ignored = [] if self.ignore_label is None else [target == self.ignore_label]
            target = torch.cat([target == numbers, *ignored], 1)
        if self.softmax:  # the target is one-hot
            return net_output, target.to(torch.uint8).argmax(1, keepdim=True)
        if self.include_background is False:
            return net_output[:, 1:], target[:, 1:]
        return net_output, target

    def _check_values(self, target: Tensor, classes: int, is_map: bool) -> None:
        if is_map:
            check_labels(target, classes, self.ignore_label)
            return
        check_binary("target", target)
        if not self.regions and classes > 1:
            self._check_one_hot(target[:, :classes])

    def _check_one_hot(self, target: Tensor) -> None:
        """Whether exactly one channel is set at every voxel must agree with the options."""
        is_one_hot = bool((target.sum(1) == 1).all()) if target.numel() else self.softmax
        if self.softmax and not is_one_hot:
            raise ValueError(
                "target must have exactly one channel set at every voxel for softmax=True. Got: none or several; for "
                "regions that overlap, pass sigmoid=True"
            )
        if is_one_hot and not self.softmax and self.include_background is not False:
            raise ValueError(
                "target must be a label map or regions. Got: one-hot channels, of which one is the background. Pass "
                "softmax=True for one-hot targets, or regions=True if these are regions"
            )
