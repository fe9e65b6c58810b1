"""Tells nnU-Net where our trainers are. Runs at every interpreter start, so it imports nothing but ``os``."""

import os

__all__ = ["EXT_FOLDER", "OPT_OUT", "VARIABLE", "register"]

VARIABLE = "nnUNet_extTrainer"
OPT_OUT = "NNUNET_ICI_NO_AUTOREGISTER"

# The one folder nnU-Net's search is pointed at. It must not be the package itself: the search drops every module it
# loaded from under the folder out of sys.modules, which would make our classes unpicklable.
EXT_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ext")


def register() -> None:
    """Append our folder to ``nnUNet_extTrainer``, once, after whatever the user has set.

    ``NNUNET_ICI_NO_AUTOREGISTER`` set to anything but "", "0" or "false" leaves the variable alone. Never raises: a
    plugin must not keep an interpreter from starting.
    """
    try:
        if os.environ.get(OPT_OUT, "").lower() not in ("", "0", "false"):
            return
        paths = os.environ.get(VARIABLE, "")
        if EXT_FOLDER not in paths.split(os.pathsep):
            os.environ[VARIABLE] = paths + os.pathsep + EXT_FOLDER if paths else EXT_FOLDER
    except Exception:
        pass
