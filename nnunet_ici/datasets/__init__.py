"""Datasets: conversion of the ATLAS releases to nnU-Net raw data, and synthetic data in their layout.

The commands are ``convert-atlas`` and ``synth-atlas``. Names are loaded on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_ici.on_demand import load

if TYPE_CHECKING:
    from nnunet_ici.datasets.atlas_to_raw import BadInputError, convert_atlas
    from nnunet_ici.datasets.splits import make_split
    from nnunet_ici.datasets.synth_atlas import synthesize_atlas

__all__ = [
    "BadInputError",
    "convert_atlas",
    "make_split",
    "synthesize_atlas",
]

_PARTS = {
    "BadInputError": "atlas_to_raw",
    "convert_atlas": "atlas_to_raw",
    "make_split": "splits",
    "synthesize_atlas": "synth_atlas",
}


def __getattr__(name: str) -> object:
    return load(__name__, name, _PARTS)
