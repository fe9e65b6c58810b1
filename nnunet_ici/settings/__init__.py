"""Settings of losses and trainers: their defaults, their checks, and the options in trainer names.

:mod:`~nnunet_ici.settings.terms` defines the settings of the terms, :mod:`~nnunet_ici.settings.losses` the losses of
the trainers, and :mod:`~nnunet_ici.settings.options` the options in their names. Importing this package loads neither
torch nor nnU-Net.
"""

from nnunet_ici.settings.losses import COMMON_DEFAULTS, LOSSES, TrainerLoss
from nnunet_ici.settings.options import OPTIONS, Option
from nnunet_ici.settings.terms import (
    DILATION_RADIUS,
    FIXED_THRESHOLD,
    GLOBAL_LOSSES,
    INNER_LOSSES,
    RANDOM_THRESHOLD,
    SMOOTH,
    TERM_SETTINGS,
    TermSettings,
    check_radius,
    check_size,
    check_threshold,
    check_weights,
    term_settings,
)

__all__ = [
    "COMMON_DEFAULTS", "DILATION_RADIUS", "FIXED_THRESHOLD", "GLOBAL_LOSSES", "INNER_LOSSES", "LOSSES",
    "OPTIONS", "RANDOM_THRESHOLD", "SMOOTH", "TERM_SETTINGS", "Option", "TermSettings", "TrainerLoss", "check_radius",
    "check_size", "check_threshold", "check_weights", "term_settings",
]  # fmt: skip
