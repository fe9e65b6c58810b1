"""Registration of our trainers with nnU-Net. Runs at every interpreter start, so it imports only ``os``."""

import os

__all__ = ["EXT_FOLDER", "OPT_OUT", "VARIABLE", "register"]

VARIABLE = "nnUNet_extTrainer"
OPT_OUT = "NNUNET_ICI_NO_AUTOREGISTER"

# The only folder of ours that nnU-Net searches. It must not be the package itself: the search removes the modules that
# it loads from sys.modules again, which would make our classes unpicklable.
EXT_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ext")


def register() -> None:
    """Append our folder to ``nnUNet_extTrainer``, after the user's folders, unless it is already listed.

    Does nothing if ``NNUNET_ICI_NO_AUTOREGISTER`` is set to anything but "", "0" or "false". Never raises, because a
    plugin must not prevent an interpreter from starting.
    """
    try:
        if os.environ.get(OPT_OUT, "").lower() not in ("", "0", "false"):
            return
        paths = os.environ.get(VARIABLE, "")
        if EXT_FOLDER not in paths.split(os.pathsep):
            os.environ[VARIABLE] = paths + os.pathsep + EXT_FOLDER if paths else EXT_FOLDER
    except Exception:
        pass
