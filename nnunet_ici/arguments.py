"""What the commands share: types of arguments, and the report of everything that is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

__all__ = ["complain", "positive"]


def positive(text: str) -> int:
    """An integer above 0, as a type for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"Expected: an integer above 0. Got: {text}")
    return number


def complain(problems: Sequence[str]) -> int:
    """List all problems on stderr; the exit code 1."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print(f"{count}, nothing was written:", *(f"- {problem}" for problem in problems), sep="\n", file=sys.stderr)
    return 1
