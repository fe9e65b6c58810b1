"""How the page and its figures look: one style sheet, and colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["FALSE", "FOUND", "MISSED", "STYLE_SHEET", "in_figure", "model_style", "plain_style", "svg_of"]

# The palette of Okabe and Ito, without its yellow for lines, which is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX*"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)))
FOUND = {"marker": "o", "facecolor": "#56B4E9", "edgecolor": "#00344F"}
MISSED = {"marker": "X", "facecolor": "#D55E00", "edgecolor": "#3D1B00"}
FALSE = {"marker": "^", "facecolor": "#F0E442", "edgecolor": "#000000"}


def model_style(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of a model: their numbers are coprime, so no two of the first 280 are the same."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


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


STYLE_SHEET = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 74rem; background: #fff; color: #1a1a1a;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .75rem; padding-bottom: .25rem; border-bottom: 2px solid #1a1a1a; }
h3 { font-size: 1.08rem; margin: 1.75rem 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: .95rem; margin: 1.25rem 0 .4rem; font-weight: 600; overflow-wrap: anywhere; }
p, dd, li { max-width: 52rem; overflow-wrap: anywhere; }
a { color: #00507d; }
nav ol { margin: .25rem 0; padding-left: 1.4rem; columns: 14rem; }
nav ol ol { columns: auto; list-style: disc; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: .75rem 0; }
dt { color: #555; }
dd { margin: 0; }
.note, .subtitle, figcaption { color: #555; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .25rem 0 .5rem; }
caption { text-align: left; color: #555; padding: .25rem 0; }
th, td { padding: .28rem .7rem; text-align: right; vertical-align: bottom; }
thead th { border-bottom: 1.5px solid #1a1a1a; font-weight: 600; max-width: 9rem; }
th.name { text-align: left; padding-left: 0; overflow-wrap: break-word; }
tbody th { font-weight: 400; }
tbody tr { border-bottom: 1px solid #ddd; }
tr.group { border-top: 2px solid #777; }
td { white-space: nowrap; }
.rank { color: #555; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; }
figure { margin: 1rem 0 1.5rem; }
figure.chart img { width: 100%; min-width: 38rem; height: auto; display: block; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; padding: 0; font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: .5rem; }
.legend svg { width: 2.1rem; height: 1.26rem; flex: none; }
.shared { position: absolute; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; }
.panel { margin: 0; max-width: 24rem; }
.panel svg { display: block; width: 100%; height: auto; max-height: 26rem; }
.panel figcaption b, .panel figcaption span { display: block; overflow-wrap: anywhere; }
.panel figcaption b { color: #1a1a1a; font-weight: 600; }
path { fill-rule: evenodd; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
path.label { fill: #CC79A7; fill-opacity: .35; stroke: #CC79A7; stroke-width: 1.4; }
path.casing { fill: none; stroke: #000; stroke-width: 3; stroke-opacity: .7; }
path.edge { fill: none; stroke: #CC79A7; stroke-width: .9; }
path.found { fill: #56B4E9; fill-opacity: .4; stroke: #56B4E9; stroke-width: 1.4; }
path.missed { fill: #D55E00; stroke: #D55E00; stroke-width: 1.8; }
path.false { fill: none; stroke: #F0E442; stroke-width: 2.4; stroke-dasharray: 4 2.5; }
path.wide-casing { fill: none; stroke: #000; stroke-width: 3.4; }
footer { margin-top: 3rem; border-top: 1px solid #bbb; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 2rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .panels { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
}
@page { margin: 14mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; color: #000; }
  a { color: inherit; text-decoration: none; }
  h2, h3, h4, caption { break-after: avoid; }
  figure, .panels, tr, .legend, .keep { break-inside: avoid; }
  table.short { break-inside: avoid; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .35rem; }
  th.name { min-width: 3cm; overflow-wrap: anywhere; }
  .scroll { overflow: visible; }
  figure.chart img { min-width: 0; width: auto; max-width: 100%; max-height: 20cm; }
  .panels { grid-template-columns: repeat(auto-fit, minmax(3.3cm, 1fr)); }
  .panel svg { -webkit-print-color-adjust: exact; print-color-adjust: exact; max-height: 8cm; }
  details.printed::details-content { content-visibility: visible; height: auto; }
}
"""
