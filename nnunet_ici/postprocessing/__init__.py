"""From probabilities to label maps: a threshold and a minimum lesion volume per class, tuned on a cross-validation.

``tune`` chooses a rule and writes it to a file; ``postprocess`` applies it. Names are loaded on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_ici.on_demand import load

if TYPE_CHECKING:
    from nnunet_ici.postprocessing.choice import Grid, choose
    from nnunet_ici.postprocessing.rule import Rule, Setting, read_rule
    from nnunet_ici.postprocessing.sweep import Sweep

__all__ = [
    "Grid",
    "Rule",
    "Setting",
    "Sweep",
    "choose",
    "read_rule",
]

_PARTS = {
    "Grid": "choice",
    "Rule": "rule",
    "Setting": "rule",
    "Sweep": "sweep",
    "choose": "choice",
    "read_rule": "rule",
}


def __getattr__(name: str) -> object:
    return load(__name__, name, _PARTS)
