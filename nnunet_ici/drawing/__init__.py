"""Drawing of images and their lesions: how a volume is turned, which part is shown, outlines, colours and style.

Used by the commands ``report`` (SVG in a page) and ``explain`` (matplotlib). Nothing here knows losses or metrics.
Importing this package loads no matplotlib; :mod:`nnunet_ici.drawing.style` does.
"""

from nnunet_ici.drawing.geometry import Geometry, grey_levels
from nnunet_ici.drawing.outlines import mask_loops, mask_path
from nnunet_ici.drawing.palette import FALSE, FOUND, LABEL, MISSED, SURPLUS, lesion_style, model_style
from nnunet_ici.drawing.views import View, around, whole_image

__all__ = [
    "FALSE",
    "FOUND",
    "LABEL",
    "MISSED",
    "SURPLUS",
    "Geometry",
    "View",
    "around",
    "grey_levels",
    "lesion_style",
    "mask_loops",
    "mask_path",
    "model_style",
    "whole_image",
]
