"""Drawing of images and lesions: orientation, views, outlines, colors and style.

Used by the commands ``report`` (SVG in a page) and ``explain`` (matplotlib). It depends on no loss and no metric.
Importing this package does not load matplotlib. Only :mod:`nnunet_ici.drawing.style` does.
"""

from nnunet_ici.drawing.outlines import mask_loops, mask_path
from nnunet_ici.drawing.palette import FALSE, FOUND, LABEL, MISSED, SURPLUS, lesion_style, model_style
from nnunet_ici.drawing.scene import (
    AXIAL,
    FLAT,
    PLANES,
    Plane,
    Scene,
    View,
    around,
    make_scene,
    scale_bar,
    to_gray,
    whole,
)

__all__ = [
    "AXIAL", "FALSE", "FLAT", "FOUND", "LABEL", "MISSED", "PLANES", "SURPLUS", "Plane", "Scene", "View", "around",
    "lesion_style", "make_scene", "mask_loops", "mask_path", "model_style", "scale_bar", "to_gray", "whole",
]  # fmt: skip
