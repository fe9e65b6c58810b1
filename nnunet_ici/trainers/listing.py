"""``nnunet_ici trainers``: list the losses with their options and defaults, or explain trainer names."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nnunet_ici.command import Command, Problems
from nnunet_ici.settings import LOSSES, OPTIONS
from nnunet_ici.trainers.names import default, options_of, parse

__all__ = ["main"]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"drawn from {value[0]} to {value[1]}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _list() -> str:
    lines = ["nnUNetTrainer<Loss>[_<option>...], with options in the order below and without defaults.", ""]
    for name, loss in LOSSES.items():
        lines += [name, f"  {loss.summary}", f"  options: {' '.join(OPTIONS[key].shown for key in options_of(name))}"]
        attributes = dict.fromkeys(
            OPTIONS[key].attribute for key in options_of(name) if OPTIONS[key].attribute in loss.weights | loss.settings
        )
        defaults = [f"{attribute} {_shown(default(name, attribute))}" for attribute in attributes]
        lines += [f"  defaults: {', '.join(defaults)}"] if defaults else []
        lines.append("")
    width = max(len(option.shown) for option in OPTIONS.values())
    lines += [f"  _{option.shown:<{width}}  {option.meaning}" for option in OPTIONS.values()]
    lines.append("\nWrite p for a decimal point: _i0p5. Example: nnUNetTrainerICI_g0p25_i0p5_c0p25_250epochs")
    return "\n".join(lines)


def _as_data() -> list[dict[str, Any]]:
    """The losses with their options, for programs."""
    return [
        {
            "name": name,
            "summary": loss.summary,
            "terms": loss.terms,
            "options": [
                {
                    "example": OPTIONS[key].shown,
                    "attribute": OPTIONS[key].attribute,
                    "default": default(name, OPTIONS[key].attribute),
                    "meaning": OPTIONS[key].meaning,
                }
                for key in options_of(name)
            ],
        }
        for name, loss in LOSSES.items()
    ]


def _explain(name: str) -> str:
    parsed = parse(name)
    lines = [name, f"  {LOSSES[parsed.loss].summary}"]
    for key in options_of(parsed.loss):
        option = OPTIONS[key]
        value = parsed.base or "nnU-Net's own" if key == "base" else parsed.attributes.get(option.attribute)
        chosen = _shown(default(parsed.loss, option.attribute) if value is None else value)
        lines.append(f"  {'*' if key in parsed.options else ' '} {option.attribute or 'base'}: {chosen}")
    return "\n".join(lines)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="trainer names to explain and check; default: list all losses")
    parser.add_argument("--json", action="store_true", help="print the list of losses as JSON")


def _run(args: argparse.Namespace) -> None:
    problems = Problems()
    if args.json:
        print(json.dumps(_as_data(), indent=1))
    elif not args.name:
        print(_list())
    for name in args.name:
        try:
            with problems.collecting():
                print(_explain(name))
        except KeyError:
            problems.append(f"{name}: not a trainer of this package. Expected: {', '.join(LOSSES)}")
    problems.raise_any()


main = Command("List the losses with their options and defaults, or explain and check trainer names.", _arguments, _run)
