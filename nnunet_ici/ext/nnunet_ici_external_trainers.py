"""The module nnU-Net's search for external trainers finds; it hands every name on to :mod:`nnunet_ici.trainers`.

nnU-Net imports each module of this folder, asks ``hasattr(module, trainer_name)`` and forgets the module afterwards.
The classes live in the package, so they stay the same objects at every look-up, and picklable.
"""


def __getattr__(name: str) -> object:
    if name.startswith("nnUNetTrainer"):
        from nnunet_ici import trainers

        return getattr(trainers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
