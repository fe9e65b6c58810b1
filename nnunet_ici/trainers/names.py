"""Names of trainers that carry their options: ``nnUNetTrainer<Loss>[_<option>...]``, one spelling for each setting.

This module knows neither torch nor nnU-Net; classes are built in :mod:`nnunet_ici.trainers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["LOSSES", "OPTIONS", "TRAINERS", "Option", "Parsed", "TrainerNameError", "parse"]

HOST_EPOCHS = 1000
_NUMBER = r"(?:0|[1-9]\d*)(?:p\d*[1-9])?"
_COUNT = r"[1-9]\d*"


class TrainerNameError(ValueError):
    """A name that begins like one of our trainers' and is none; the message says why."""


@dataclass(frozen=True)
class Option:
    """One option of a trainer's name.

    Attributes:
        pattern: how it is written, a regular expression with the value as its only group, if it has one.
        shown: how it is shown to users.
        attribute: the class attribute it sets; "" for nnU-Net's own bases.
        value: the attribute's value from what the group matched.
        meaning: for the list.
    """

    pattern: str
    shown: str
    attribute: str
    value: Callable[[str], Any]
    meaning: str


def _number(text: str) -> float:
    return float(text.replace("p", "."))


# In the order in which they are to be written.
OPTIONS: dict[str, Option] = {
    "g": Option(rf"g({_NUMBER})", "g0p5", "global_weight", _number, "weight of the global loss"),
    "i": Option(rf"i({_NUMBER})", "i0p5", "instance_weight", _number, "weight of the instance term"),
    "p": Option(rf"p({_NUMBER})", "p0p5", "predicted_weight", _number, "weight of the term over predicted instances"),
    "c": Option(rf"c({_NUMBER})", "c0p5", "center_weight", _number, "weight of the center term"),
    "w": Option(rf"w({_NUMBER})", "w0p5", "term_weight", _number, "weight of the loss's own term"),
    "size": Option(rf"size({_COUNT})", "size5", "center_size", int, "edge of the center cubes in voxels, odd"),
    "radius": Option(r"radius(0|[1-9]\d*)", "radius5", "radius", int, "of the ball classes are dilated by, in voxels"),
    "tau": Option(
        rf"tau({_NUMBER}|Random)",
        "tau0p5",
        "threshold",
        lambda text: (0.1, 0.9) if text == "Random" else _number(text),
        "a fixed threshold of the predicted instances; tauRandom draws from 0.1 to 0.9 at every call",
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
        "loss of a single instance: bce, focal or diceCE in the place of Dice",
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
        "global loss: Dice, BCE, Focal, DiceFocal or GDiceFocal in the place of nnU-Net's",
    ),
    "base": Option(
        "(NoMirroring|DA5|probOversampling)",
        "NoMirroring",
        "",
        str,
        "nnU-Net's variant it is built on: NoMirroring, DA5 or probOversampling",
    ),
    # As nnU-Net spells it: 1epoch, 2epochs.
    "epochs": Option(
        r"(1(?=epoch$)|(?:[2-9]|[1-9]\d+)(?=epochs$))epochs?", "250epochs", "epochs", int, "length of the training"
    ),
}
_EVERYWHERE = ("finest", "global", "base", "epochs")


@dataclass(frozen=True)
class Loss:
    """One of our losses, by its trainer.

    Attributes:
        summary: one line for the list.
        options: the options it knows, besides those of every loss.
        defaults: of the class attributes that options set.
    """

    summary: str
    options: tuple[str, ...]
    defaults: dict[str, Any]


_TERMS = {
    "threshold": (0.1, 0.9),
    "center_size": 7,
    "inner": "dice",
    "exclude_other_instances": True,
    "global_weight": 1.0,
    "instance_weight": 1.0,
}
_COMMON = {"finest_scale_only": False, "epochs": HOST_EPOCHS, "global_loss": "nnunet"}

LOSSES: dict[str, Loss] = {
    "nnUNetTrainerICI": Loss(
        "global + instance + center term (Rachmadi et al., 2023, Eq. 1)",
        ("g", "i", "c", "size", "tau", "eq3", "inner"),
        _TERMS | {"center_weight": 1.0},
    ),
    "nnUNetTrainerDICI": Loss(
        "global + instance + predicted + center term (Rachmadi et al., 2023, Eq. 6)",
        ("g", "i", "p", "c", "size", "tau", "eq3", "inner"),
        _TERMS | {"predicted_weight": 1.0, "center_weight": 1.0},
    ),
    "nnUNetTrainerDual": Loss(
        "global + instance + predicted term (ours)",
        ("g", "i", "p", "tau", "eq3", "inner"),
        _TERMS | {"predicted_weight": 1.0},
    ),
    "nnUNetTrainerBlob": Loss(
        "2 x global + blob loss (Kofler et al., 2022)",
        ("g", "w", "inner"),
        {"global_weight": 2.0, "term_weight": 1.0, "inner": "dice"},
    ),
    "nnUNetTrainerCCDiceCE": Loss(
        "global + Dice and CE in each Voronoi region (Bouteille et al., 2025)",
        ("g", "w"),
        {"global_weight": 1.0, "term_weight": 1.0},
    ),
    "nnUNetTrainerRRW": Loss(
        "region-wise loss, rectified maps (Valverde & Tohka, 2023)",
        ("g", "w"),
        {"global_weight": 0.0, "term_weight": 1.0},
    ),
    "nnUNetTrainerBoundary": Loss("global + boundary loss, in turn (Kervadec et al., 2019)", (), {}),
    "nnUNetTrainerDBCE": Loss(
        "dilated balanced cross-entropy (Hosseini & Baghshah, 2024)",
        ("g", "w", "radius"),
        {"global_weight": 0.0, "term_weight": 1.0, "radius": 3},
    ),
    "nnUNetTrainerDiceDBCE": Loss(
        "Dice + dilated balanced cross-entropy",
        ("g", "w", "radius"),
        {"global_weight": 1.0, "term_weight": 1.0, "radius": 3, "global_loss": "dice"},
    ),
    "nnUNetTrainerIW": Loss(
        "inverse weighting (Shirokikh et al., 2020)",
        ("g", "w"),
        {"global_weight": 0.0, "term_weight": 1.0},
    ),
}
TRAINERS = tuple(LOSSES)


@dataclass(frozen=True)
class Parsed:
    """A trainer's name, taken apart.

    Attributes:
        loss: the trainer without options.
        base: nnU-Net's variant, or "".
        attributes: the class attributes that the options set.
        options: each option as it was written, by its name.
    """

    loss: str
    base: str
    attributes: dict[str, Any]
    options: dict[str, str]


def options_of(loss: str) -> list[str]:
    """The names of the options that a trainer knows, in their order."""
    known = {*LOSSES[loss].options, *_EVERYWHERE}
    if LOSSES[loss].defaults.get("global_loss", "nnunet") != "nnunet":
        known.discard("global")
    return [name for name in OPTIONS if name in known]


def default(loss: str, attribute: str) -> Any:
    """The default of a class attribute."""
    return (_COMMON | LOSSES[loss].defaults).get(attribute)


def parse(name: str) -> Parsed:
    """Take a trainer's name apart.

    Raises:
        KeyError: if the name is not one of :data:`TRAINERS`, with or without something behind an underscore.
        TrainerNameError: if an option is unknown, written otherwise, out of order, twice, or the default; the message
            names it and what is valid.
    """
    loss, *words = name.split("_")
    if loss not in LOSSES:
        raise KeyError(name)
    known = options_of(loss)
    found: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    base = ""
    for word in words:
        matches = ((key, re.fullmatch(OPTIONS[key].pattern, word)) for key in known)
        key, match = next(((key, match) for key, match in matches if match), ("", None))
        if match is None:
            raise TrainerNameError(f"{name}: unknown option {word!r}. {_valid(loss)}")
        if key in found:
            raise TrainerNameError(f"{name}: {word!r} after {found[key]!r}, which sets the same")
        value = OPTIONS[key].value(match[1] if match.re.groups else word)
        found[key] = word
        if key == "base":
            base = value
            continue
        attribute = OPTIONS[key].attribute
        if value == default(loss, attribute):
            raise TrainerNameError(f"{name}: {word!r} is the default of {loss}: leave it out")
        attributes[attribute] = value
    _check(name, loss, attributes, found)
    canonical = "_".join([loss, *(found[key] for key in known if key in found)])
    if canonical != name:
        raise TrainerNameError(f"{name}: options have one order. Expected: {canonical}")
    return Parsed(loss, base, attributes, found)


def _check(name: str, loss: str, attributes: dict[str, Any], found: dict[str, str]) -> None:
    """Values that fit the spelling but mean nothing, or another trainer."""
    tau = attributes.get("threshold")
    if isinstance(tau, float) and not 0 < tau <= 1:
        raise TrainerNameError(f"{name}: a threshold lies above 0, and is 1 at most. Got: {found['tau']!r}")
    if attributes.get("center_size", 1) % 2 == 0:
        raise TrainerNameError(f"{name}: center cubes have an odd size. Got: {found['size']!r}")
    if attributes.get("inner", "dice") != "dice" and "eq3" in found:
        raise TrainerNameError(
            f"{name}: {found['inner']!r} and 'eq3' do not go together, Eq. 3 is there for the Dice only"
        )
    same = {
        ("nnUNetTrainerDICI", "predicted_weight", 0): "nnUNetTrainerICI",
        ("nnUNetTrainerDICI", "center_weight", 0): "nnUNetTrainerDual",
        ("nnUNetTrainerDual", "predicted_weight", 0): "nnUNetTrainerICI_c0",
        ("nnUNetTrainerDiceDBCE", "global_weight", 0): "nnUNetTrainerDBCE",
        ("nnUNetTrainerDBCE", "global_loss", "dice"): "nnUNetTrainerDiceDBCE",
    }
    for (trainer, attribute, value), other in same.items():
        if loss == trainer and attributes.get(attribute) == value:
            raise TrainerNameError(f"{name}: that is another name for {other}, with its options")
    if "size" in found and attributes.get("center_weight") == 0:
        raise TrainerNameError(f"{name}: {found['size']!r} without a center term")
    instances = [key for key in ("instance_weight", "predicted_weight") if default(loss, key) is not None]
    if "inner" in found and instances and not any(attributes.get(key, 1) for key in instances):
        raise TrainerNameError(f"{name}: {found['inner']!r} without a term it is for")
    letters = [key for key in ("g", "i", "p", "c", "w") if key in options_of(loss)]
    if letters and not any(attributes.get(OPTIONS[k].attribute, default(loss, OPTIONS[k].attribute)) for k in letters):
        raise TrainerNameError(f"{name}: all weights are 0")
    if "global" in found and not attributes.get("global_weight", default(loss, "global_weight") or letters == []):
        raise TrainerNameError(f"{name}: {found['global']!r} without a weight: add _g1")


def _valid(loss: str) -> str:
    return f"Options of {loss}, in this order: {', '.join(OPTIONS[key].shown for key in options_of(loss))}"
