"""The options in trainer names, and their spelling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnunet_ici.settings.terms import RANDOM_THRESHOLD

__all__ = ["OPTIONS", "Option"]

_NUMBER = r"(?:0|[1-9]\d*)(?:p\d*[1-9])?"
_COUNT = r"[1-9]\d*"


@dataclass(frozen=True)
class Option:
    """One option in a trainer name.

    Attributes:
        pattern: regular expression for the whole option; its only group, if any, matches the value.
        shown: example, shown to users.
        attribute: class attribute that the option sets; "" for the base, a variant of nnU-Net's trainer.
        value: function that converts the matched text, the group or the whole option, to the attribute's value.
        meaning: explanation, shown to users.
    """

    pattern: str
    shown: str
    attribute: str
    value: Callable[[str], Any]
    meaning: str


def _number(text: str) -> float:
    return float(text.replace("p", "."))


# In the order required in a name.
OPTIONS: dict[str, Option] = {
    "g": Option(rf"g({_NUMBER})", "g0p5", "global_weight", _number, "weight of the global loss"),
    "i": Option(rf"i({_NUMBER})", "i0p5", "instance_weight", _number, "weight of the instance term"),
    "p": Option(rf"p({_NUMBER})", "p0p5", "predicted_weight", _number, "weight of the term over predicted instances"),
    "c": Option(rf"c({_NUMBER})", "c0p5", "center_weight", _number, "weight of the center term"),
    "r": Option(rf"r({_NUMBER})", "r0p5", "false_rate_weight", _number, "weight of the false instance rate"),
    "d": Option(rf"d({_NUMBER})", "d0p5", "proximity_weight", _number, "weight of the instance proximity"),
    "w": Option(rf"w({_NUMBER})", "w0p5", "term_weight", _number, "weight of the loss term"),
    "f": Option(rf"f({_NUMBER})", "f0p5", "false_weight", _number, "weight of a false lesion relative to a missed one"),
    "numbers": Option(
        "numbers", "numbers", "rates", lambda _: False, "missed and false instances as numbers instead of rates"
    ),
    "size": Option(rf"size({_COUNT})", "size5", "center_size", int, "edge length of the center cubes in voxels, odd"),
    "radius": Option(r"radius(0|[1-9]\d*)", "radius5", "radius", int, "radius of the dilation, in voxels"),
    "tau": Option(
        rf"tau({_NUMBER}|Random)",
        "tau0p5",
        "threshold",
        lambda text: RANDOM_THRESHOLD if text == "Random" else _number(text),
        "fixed threshold of the predicted instances; tauRandom draws it from 0.1 to 0.9 at every call",
    ),
    "finest": Option("finest", "finest", "finest_scale_only", bool, "terms on the finest scale only"),
    "eq3": Option(
        "eq3", "eq3", "exclude_other_instances", lambda _: False, "Eq. 3: voxels on other lesions are false positives"
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
    "best": Option(
        "bestlesion",
        "bestlesion",
        "best_checkpoint",
        lambda _: "lesion",
        "checkpoint_best follows the lesion-wise Dice of the validation patches instead of nnU-Net's pseudo Dice",
    ),
    "base": Option(
        "(NoMirroring|DA5|probOversampling)",
        "NoMirroring",
        "",
        str,
        "variant of nnU-Net's trainer as base class: NoMirroring, DA5 or probOversampling",
    ),
    "epochs": Option(rf"({_COUNT})epochs?", "250epochs", "epochs", int, "number of training epochs"),
}
