"""The module that nnU-Net's search for external trainers imports; it takes all names from :mod:`nnunet_ici.trainers`.

nnU-Net imports each module in this folder, calls ``hasattr(module, trainer_name)``, and then discards the module. The
classes are defined in the package, so every search returns the same objects, and they can be pickled.
"""


def __getattr__(name: str) -> object:
    if name.startswith("nnUNetTrainer"):
        from nnunet_ici import trainers

        return getattr(trainers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
