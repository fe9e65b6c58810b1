"""Colours of lesions and models: the palette of Okabe and Ito, which colour-blind readers can tell apart."""

from __future__ import annotations

from typing import Any

__all__ = ["FALSE", "FOUND", "LABEL", "MISSED", "SURPLUS", "lesion_style", "model_style"]

# These differ in lightness too.
FOUND, MISSED, FALSE, LABEL, SURPLUS = "#56B4E9", "#D55E00", "#F0E442", "#CC79A7", "#E69F00"

# Yellow is too light for lines on white.
_MODELS = ("#0072B2", MISSED, "#009E73", LABEL, SURPLUS, FOUND, "#000000")
_MARKERS = "os^DvPX*"
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)))
_LESIONS = {"found": ("o", FOUND, "#00344F"), "missed": ("X", MISSED, "#3D1B00"), "false": ("^", FALSE, "#000000")}


def lesion_style(kind: str) -> dict[str, str]:
    """Marker, face colour and edge colour of "found", "missed" or "false" lesions in a scatter plot."""
    return dict(zip(("marker", "facecolor", "edgecolor"), _LESIONS[kind], strict=True))


def model_style(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of a model: their numbers are coprime, so no two of the first 280 are the same."""
    return {
        "color": _MODELS[number % len(_MODELS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }
