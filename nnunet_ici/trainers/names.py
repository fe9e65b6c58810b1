"""Trainer names with options, ``nnUNetTrainer<Loss>[_<option>...]``; every configuration has exactly one name.

This module imports neither torch nor nnU-Net; :mod:`nnunet_ici.trainers` builds the classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nnunet_ici.settings import COMMON_DEFAULTS, LOSSES, OPTIONS

__all__ = ["TRAINERS", "Parsed", "TrainerNameError", "default", "options_of", "parse"]

HOST_EPOCHS = 1000  # nnU-Net's default
TRAINERS = tuple(LOSSES)


class TrainerNameError(ValueError):
    """A name that begins with the name of one of our trainers but is not valid; the message gives the reason."""


@dataclass(frozen=True)
class Parsed:
    """The parts of a trainer name.

    Attributes:
        loss: name of the trainer without options.
        base: variant of nnU-Net's trainer, or "".
        attributes: class attributes set by the options, with their values.
        options: options as written, by their keys in :data:`~nnunet_ici.settings.OPTIONS`.
    """

    loss: str
    base: str
    attributes: dict[str, Any]
    options: dict[str, str]


def options_of(loss: str) -> list[str]:
    """Keys of the options that a trainer accepts, in the order required in a name."""
    chosen = LOSSES[loss]
    own = {*chosen.weights, *chosen.settings} - COMMON_DEFAULTS.keys()
    # A common attribute that the loss sets itself is not an option; that of the base has no name.
    attributes = own | {"", *COMMON_DEFAULTS} - chosen.settings.keys()
    return [name for name, option in OPTIONS.items() if option.attribute in attributes]


def default(loss: str, attribute: str) -> Any:
    """Default of a class attribute, or None if the trainer does not have it."""
    return HOST_EPOCHS if attribute == "epochs" else LOSSES[loss].defaults.get(attribute)


def parse(name: str) -> Parsed:
    """Parse a trainer name.

    Raises:
        KeyError: if the part before the first underscore is not in :data:`TRAINERS`.
        TrainerNameError: if an option is unknown, out of order, repeated, equal to the default, or invalid in this
            combination. The message names the option and the valid options or order.
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
            raise TrainerNameError(f"{name}: {word!r} sets the same option as {found[key]!r}")
        value = OPTIONS[key].value(match[1] if match.re.groups else word)
        found[key] = word
        if key == "epochs" and word != (spelled := "1epoch" if value == 1 else f"{value}epochs"):
            raise TrainerNameError(f"{name}: as in nnU-Net, write {spelled!r}. Got: {word!r}")
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
        raise TrainerNameError(f"{name}: options are out of order. Expected: {canonical}")
    return Parsed(loss, base, attributes, found)


def _check(name: str, loss: str, attributes: dict[str, Any], found: dict[str, str]) -> None:
    """Reject options that are spelled correctly but are invalid, have no effect, or amount to another trainer."""
    tau = attributes.get("threshold")
    if isinstance(tau, float) and not 0 < tau <= 1:
        raise TrainerNameError(f"{name}: a threshold must lie in (0, 1]. Got: {found['tau']!r}")
    if attributes.get("center_size", 1) % 2 == 0:
        raise TrainerNameError(f"{name}: the size of center cubes must be odd. Got: {found['size']!r}")
    if attributes.get("inner", "dice") != "dice" and "eq3" in found:
        raise TrainerNameError(
            f"{name}: {found['inner']!r} and 'eq3' cannot be combined, because Eq. 3 is defined for Dice only"
        )
    same: list[tuple[str, dict[str, Any], str]] = [
        ("nnUNetTrainerDICI", {"predicted_weight": 0}, "nnUNetTrainerICI"),
        ("nnUNetTrainerDICI", {"center_weight": 0}, "nnUNetTrainerDual"),
        ("nnUNetTrainerDual", {"predicted_weight": 0}, "nnUNetTrainerICI_c0"),
        ("nnUNetTrainerInstanceFamily", {"false_rate_weight": 0, "proximity_weight": 0}, "nnUNetTrainerDICI"),
        ("nnUNetTrainerDiceDBCE", {"global_weight": 0}, "nnUNetTrainerDBCE"),
        ("nnUNetTrainerDBCE", {"global_loss": "dice"}, "nnUNetTrainerDiceDBCE"),
    ]
    for trainer, values, other in same:
        if loss == trainer and values.items() <= attributes.items():
            raise TrainerNameError(f"{name}: another name for {other} with the remaining options; use that name")
    weights = {attribute: attributes.get(attribute, value) for attribute, value in LOSSES[loss].weights.items()}
    if weights and not any(weights.values()):
        raise TrainerNameError(f"{name}: all weights are 0")
    for key in ("size", "inner", "f", "numbers"):
        readers = LOSSES[loss].weights_of(OPTIONS[key].attribute)
        if key in found and not any(weights[attribute] for attribute in readers):
            what = "center term" if key == "size" else "term that uses it"
            raise TrainerNameError(f"{name}: {found[key]!r} without a {what}")
    if "global" in found and not weights.get("global_weight", 1):
        raise TrainerNameError(f"{name}: {found['global']!r}, but the global loss has weight 0: add _g1")


def _valid(loss: str) -> str:
    return f"Options of {loss}, in this order: {', '.join(OPTIONS[key].shown for key in options_of(loss))}"
