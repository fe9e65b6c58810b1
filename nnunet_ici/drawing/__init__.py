"""Drawing of images and lesions: orientation, views, outlines, colors and style.

Used by the commands ``report`` (SVG in a page) and ``explain`` (matplotlib). It depends on no loss and no metric.
Importing this package does not load matplotlib. Only :mod:`nnunet_ici.drawing.style` does.
"""

from nnunet_ici.drawing.geometry import AXIAL, CORONAL, FLAT, PLANES, SAGITTAL, Geometry, Plane, gray_levels
from nnunet_ici.drawing.outlines import mask_loops, mask_path
from nnunet_ici.drawing.palette import FALSE, FOUND, LABEL, MISSED, SURPLUS, lesion_style, model_style
from nnunet_ici.drawing.views import View, around, scale_bar, whole_image

__all__ = [
    "AXIAL",
    "CORONAL",
    "FALSE",
    "FLAT",
    "FOUND",
    "LABEL",
    "MISSED",
    "PLANES",
    "SAGITTAL",
    "SURPLUS",
    "Geometry",
    "Plane",
    "View",
    "around",
    "gray_levels",
    "lesion_style",
    "mask_loops",
    "mask_path",
    "model_style",
    "scale_bar",
    "whole_image",
]
