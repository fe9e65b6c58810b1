"""``nnunet_ici report``: one HTML page from the output of ``nnunet_ici evaluate``.

Modules: reading (evaluation, training logs, images), figures (matplotlib), slices (SVG), and the page with its
templates in ``templates/``. Public names are loaded on demand, so the help of the command does not wait for SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_ici.on_demand import load

if TYPE_CHECKING:
    from nnunet_ici.report.agreement import limits_of_agreement
    from nnunet_ici.report.page import make_page
    from nnunet_ici.report.reading import Evaluation, read_evaluation
    from nnunet_ici.report.training import Curves, read_curves

__all__ = ["Curves", "Evaluation", "limits_of_agreement", "make_page", "read_curves", "read_evaluation"]

_PARTS = {
    "Curves": "training",
    "Evaluation": "reading",
    "limits_of_agreement": "agreement",
    "make_page": "page",
    "read_curves": "training",
    "read_evaluation": "reading",
}


def __getattr__(name: str) -> object:
    return load(__name__, name, _PARTS)
