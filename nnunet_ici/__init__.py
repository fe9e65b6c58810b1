"""Instance-aware losses for nnU-Net v2.

Importing the package loads neither torch nor nnunetv2. Its parts are

* :mod:`nnunet_ici.losses`          loss terms and compound losses,
* :mod:`nnunet_ici.instances`       connected components and sums over them,
* :mod:`nnunet_ici.trainers`        nnU-Net trainers,
* :mod:`nnunet_ici.evaluation`      lesion-wise evaluation of predictions,
* :mod:`nnunet_ici.postprocessing`  threshold and minimum lesion volume, chosen on validation data,
* :mod:`nnunet_ici.datasets`        ATLAS, real and synthetic, as nnU-Net raw data.
"""

__all__ = ["__version__"]

__version__ = "0.2.0"
