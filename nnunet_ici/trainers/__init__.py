"""nnU-Net trainers with instance-aware losses, by name and on demand.

``nnUNetTrainerICI``, ``nnUNetTrainerDICI`` and ``nnUNetTrainerDual``, each also as ``<name>_<N>epochs`` (``_1epoch``
for one), like nnU-Net's own variants. Importing this package loads neither torch nor nnunetv2; asking it for a trainer
does. A name gives the same class at every look-up, and the classes can be pickled.
"""

from __future__ import annotations

import re

__all__ = ["TRAINERS"]

TRAINERS = ("nnUNetTrainerICI", "nnUNetTrainerDICI", "nnUNetTrainerDual")

_VARIANT = re.compile(rf"(?P<base>{'|'.join(TRAINERS)})_(?:(?P<one>1)epoch|(?P<many>[2-9]|[1-9]\d+)epochs)")


def __getattr__(name: str) -> type:
    if name in TRAINERS:
        from nnunet_ici.trainers import ici

        trainer: type = getattr(ici, name)
    elif match := _VARIANT.fullmatch(name):
        base = __getattr__(match["base"])
        epochs = int(match["one"] or match["many"])
        doc = f":class:`{base.__name__}` with a training of {epochs} epochs."
        trainer = type(name, (base,), {"epochs": epochs, "__module__": __name__, "__doc__": doc})
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = trainer
    return trainer


def __dir__() -> list[str]:
    return sorted({*globals(), *TRAINERS})
