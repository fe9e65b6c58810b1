"""``nnunet_ici ext-path``: the fallback where a start-up file is not run (``python -I -S``, a zipped environment)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nnunet_ici._autoregister import EXT_FOLDER, VARIABLE

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the folder with the trainers; ``argv`` takes no arguments."""
    parser = argparse.ArgumentParser(
        prog=prog, description=f"Print the folder to put into {VARIABLE}: export {VARIABLE}=$(nnunet_ici ext-path)"
    )
    parser.parse_args(argv)
    print(EXT_FOLDER)
    return 0
