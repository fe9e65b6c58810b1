"""nnU-Net trainers with instance-aware losses and the losses they are compared with, built on demand from their names.

Names have the form ``nnUNetTrainer<Loss>[_<option>...]``, such as ``nnUNetTrainerICI_g0p25_i0p5_c0p25_250epochs``;
``nnunet_ici trainers`` lists losses and options. Importing this package loads neither torch nor nnunetv2; accessing a
trainer does. Repeated access returns the same class, and the classes can be pickled.
"""

from __future__ import annotations

import atexit
import importlib
import sys

from nnunet_ici.trainers.names import TRAINERS, TrainerNameError, parse

__all__ = ["TRAINERS"]

# Module and class of nnU-Net's trainer variants, by option.
_BASES = {
    "NoMirroring": ("data_augmentation.nnUNetTrainerNoMirroring", "nnUNetTrainerNoMirroring"),
    "DA5": ("data_augmentation.nnUNetTrainerDA5", "nnUNetTrainerDA5"),
    "probOversampling": ("sampling.nnUNetTrainer_probabilisticOversampling", "nnUNetTrainer_probabilisticOversampling"),
}
_hinted: set[str] = set()


def _print_hint(hint: str) -> None:
    print(f"\nnnunet_ici: {hint}", file=sys.stderr)


def __getattr__(name: str) -> type:
    try:
        parsed = parse(name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    except TrainerNameError as error:
        # nnU-Net uses hasattr, so this message would be lost: its traceback only says that the trainer was not found.
        # The hint is therefore printed at exit, below the traceback.
        if name not in _hinted:
            _hinted.add(name)
            atexit.register(_print_hint, str(error))
        raise AttributeError(str(error)) from None
    if name == parsed.loss:
        from nnunet_ici.trainers.mixin import make_trainer

        trainer = make_trainer(name)
    else:
        bases: tuple[type, ...] = (__getattr__(parsed.loss),)
        if parsed.base:
            module, host = _BASES[parsed.base]
            variants = f"nnunetv2.training.nnUNetTrainer.variants.{module}"
            bases += (getattr(importlib.import_module(variants), host),)
        doc = f":class:`{parsed.loss}` with {', '.join(parsed.options.values())}."
        trainer = type(name, bases, {**parsed.attributes, "__module__": __name__, "__doc__": doc})
    return globals().setdefault(name, trainer)


def __dir__() -> list[str]:
    return sorted({*globals(), *TRAINERS})
