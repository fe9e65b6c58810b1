"""Style of matplotlib's figures: settings that do not depend on the user's, names shown as they are, SVG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

__all__ = ["in_figure", "plain_style", "svg_of"]


def in_figure(text: str, width: int = 40) -> str:
    """A name as matplotlib shows it unchanged: no formulas, not hidden from legends, and broken into lines."""
    lines = textwrap.wrap(text, width) or [""]
    shown = "\n".join(lines).replace("$", r"\$")
    return f"\N{THIN SPACE}{shown}" if shown.startswith("_") else shown


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own settings, whatever others have set, with letters as outlines: no font is needed to read them."""
    settings = {
        **matplotlib.rcParamsDefault,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "svg.fonttype": "path",
        "svg.hashsalt": "nnunet_ici",
    }
    with matplotlib.rc_context(settings):
        yield


def svg_of(figure: Figure) -> bytes:
    """The figure as SVG, the same at every call."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None})
    return buffer.getvalue()
