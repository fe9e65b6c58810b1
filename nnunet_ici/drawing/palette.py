"""Colors of lesions and models: the palette of Okabe and Ito, which color-blind readers can distinguish."""

from __future__ import annotations

from typing import Any

__all__ = ["FALSE", "FOUND", "LABEL", "MISSED", "SURPLUS", "lesion_style", "model_style"]

# These colors also differ in lightness.
FOUND, MISSED, FALSE, LABEL, SURPLUS = "#56B4E9", "#D55E00", "#F0E442", "#CC79A7", "#E69F00"

# Yellow is too light for lines on white.
_MODELS = ("#0072B2", MISSED, "#009E73", LABEL, SURPLUS, FOUND, "#000000")
_MARKERS = "os^DvPX*"
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)))
_LESIONS = {"found": ("o", FOUND, "#00344F"), "missed": ("X", MISSED, "#3D1B00"), "false": ("^", FALSE, "#000000")}


def lesion_style(kind: str) -> dict[str, str]:
    """Marker, face color and edge color of "found", "missed" or "false" lesions in a scatter plot."""
    return dict(zip(("marker", "facecolor", "edgecolor"), _LESIONS[kind], strict=True))


def model_style(number: int) -> dict[str, Any]:
    """Color, marker and line style of a model. Their counts are coprime, so the first 280 models all differ."""
    return {
        "color": _MODELS[number % len(_MODELS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }
