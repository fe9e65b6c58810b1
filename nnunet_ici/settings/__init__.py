"""Settings of losses and trainers in one place: defaults, checks, and the options that trainers' names carry.

:mod:`~nnunet_ici.settings.terms` has the settings of terms, :mod:`~nnunet_ici.settings.losses` the losses of the
trainers, and :mod:`~nnunet_ici.settings.options` the options of their names. Nothing here knows torch or nnU-Net. The
losses, the trainers, their names and ``nnunet_ici explain`` read it.
"""

from nnunet_ici.settings.losses import COMMON_DEFAULTS, LOSSES, TrainerLoss
from nnunet_ici.settings.options import EVERYWHERE, OPTIONS, Option
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
    "COMMON_DEFAULTS", "DILATION_RADIUS", "EVERYWHERE", "FIXED_THRESHOLD", "GLOBAL_LOSSES", "INNER_LOSSES", "LOSSES",
    "OPTIONS", "RANDOM_THRESHOLD", "SMOOTH", "TERM_SETTINGS", "Option", "TermSettings", "TrainerLoss", "check_radius",
    "check_size", "check_threshold", "check_weights", "term_settings",
]  # fmt: skip
