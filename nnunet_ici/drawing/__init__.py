"""Drawing of images and their lesions: how a volume is turned, which part is shown, outlines, colours and style.

Used by the commands ``report`` (SVG in a page) and ``explain`` (matplotlib). Nothing here knows losses or metrics.
Importing this package loads no matplotlib; :mod:`nnunet_ici.drawing.style` does.
"""

from nnunet_ici.drawing.geometry import AXIAL, CORONAL, FLAT, PLANES, SAGITTAL, Geometry, Plane, grey_levels
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
    "grey_levels",
    "lesion_style",
    "mask_loops",
    "mask_path",
    "model_style",
    "scale_bar",
    "whole_image",
]
