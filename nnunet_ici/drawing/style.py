"""Style of matplotlib figures: fixed settings, names shown literally, and SVG output."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

__all__ = ["in_figure", "plain_style", "svg_of"]


def in_figure(text: str, width: int = 40) -> str:
    """A name escaped for matplotlib: not parsed as a formula, not hidden from legends, and wrapped between words."""
    lines = [""]
    for part in re.split(r"(?<=[\s_.\-])(?=[^\s_.\-])", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    shown = "\n".join(line.rstrip() for line in lines).replace("$", r"\$")
    return f"\N{THIN SPACE}{shown}" if shown.startswith("_") else shown


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's default settings, independent of the user's. SVG text is drawn as paths and needs no font."""
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
    """The figure as SVG. The same figure always gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None})
    return buffer.getvalue()
