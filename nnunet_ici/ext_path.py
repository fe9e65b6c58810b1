"""``nnunet_ici ext-path``: fallback where Python runs no start-up file (``python -I -S``, a zipped environment)."""

from __future__ import annotations

from nnunet_ici._autoregister import EXT_FOLDER, VARIABLE
from nnunet_ici.command import Command

__all__ = ["main"]


main = Command(
    f"Print the folder to add to {VARIABLE}: export {VARIABLE}=$(nnunet_ici ext-path)",
    arguments=lambda parser: None,
    run=lambda args: print(EXT_FOLDER),
)
