"""The options that a trainer's name carries, and how each is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnunet_ici.settings.terms import RANDOM_THRESHOLD

__all__ = ["EVERYWHERE", "OPTIONS", "Option"]

_NUMBER = r"(?:0|[1-9]\d*)(?:p\d*[1-9])?"
_COUNT = r"[1-9]\d*"


@dataclass(frozen=True)
class Option:
    """One option of a trainer's name.

    Attributes:
        pattern: regular expression of the option as written, with its value, if it has one, as the only group.
        shown: example for users.
        attribute: class attribute that it sets; "" for nnU-Net's own bases.
        value: function from the text of the group to the attribute's value.
        meaning: explanation for users.
    """

    pattern: str
    shown: str
    attribute: str
    value: Callable[[str], Any]
    meaning: str


def _number(text: str) -> float:
    return float(text.replace("p", "."))


# In the order in which they have to be written.
OPTIONS: dict[str, Option] = {
    "g": Option(rf"g({_NUMBER})", "g0p5", "global_weight", _number, "weight of the global loss"),
    "i": Option(rf"i({_NUMBER})", "i0p5", "instance_weight", _number, "weight of the instance term"),
    "p": Option(rf"p({_NUMBER})", "p0p5", "predicted_weight", _number, "weight of the term over predicted instances"),
    "c": Option(rf"c({_NUMBER})", "c0p5", "center_weight", _number, "weight of the center term"),
    "w": Option(rf"w({_NUMBER})", "w0p5", "term_weight", _number, "weight of the loss's own term"),
    "f": Option(rf"f({_NUMBER})", "f0p5", "false_weight", _number, "weight of a false lesion relative to a missed one"),
    "size": Option(rf"size({_COUNT})", "size5", "center_size", int, "edge of the center cubes in voxels, odd"),
    "radius": Option(r"radius(0|[1-9]\d*)", "radius5", "radius", int, "radius of the dilation, in voxels"),
    "tau": Option(
        rf"tau({_NUMBER}|Random)",
        "tau0p5",
        "threshold",
        lambda text: RANDOM_THRESHOLD if text == "Random" else _number(text),
        "fixed threshold of the predicted instances; tauRandom draws one from 0.1 to 0.9 at every call",
    ),
    "finest": Option("finest", "finest", "finest_scale_only", bool, "terms on the finest scale only"),
    "eq3": Option(
        "eq3", "eq3", "exclude_other_instances", lambda _: False, "Eq. 3, with other instances' true positives"
    ),
    "inner": Option(
        "(bce|focal|diceCE)",
        "focal",
        "inner",
        {"bce": "bce", "focal": "focal", "diceCE": "dice_ce"}.__getitem__,
        "loss of a single instance: bce, focal or diceCE instead of Dice",
    ),
    "global": Option(
        "global(Dice|BCE|Focal|DiceFocal|GDiceFocal)",
        "globalDiceFocal",
        "global_loss",
        {
            "Dice": "dice",
            "BCE": "bce",
            "Focal": "focal",
            "DiceFocal": "dice_focal",
            "GDiceFocal": "gdice_focal",
        }.__getitem__,
        "global loss: Dice, BCE, Focal, DiceFocal or GDiceFocal instead of nnU-Net's",
    ),
    "base": Option(
        "(NoMirroring|DA5|probOversampling)",
        "NoMirroring",
        "",
        str,
        "variant of nnU-Net's trainer to build on: NoMirroring, DA5 or probOversampling",
    ),
    # As nnU-Net spells it: 1epoch, 2epochs.
    "epochs": Option(
        r"(1(?=epoch$)|(?:[2-9]|[1-9]\d+)(?=epochs$))epochs?", "250epochs", "epochs", int, "length of the training"
    ),
}
EVERYWHERE = ("finest", "global", "base", "epochs")  # every loss knows these
