"""Instance-aware losses for nnU-Net v2.

Importing the package costs nothing: neither torch nor nnunetv2 is loaded. The parts live in

* :mod:`nnunet_ici.losses`      the loss terms and their compounds,
* :mod:`nnunet_ici.instances`   connected components and sums over them,
* :mod:`nnunet_ici.trainers`    the nnU-Net trainers,
* :mod:`nnunet_ici.evaluation`  lesion-wise evaluation of predictions,
* :mod:`nnunet_ici.datasets`    ATLAS, real and synthetic, as nnU-Net raw data.
"""

__all__ = ["__version__"]

__version__ = "0.2.0"
