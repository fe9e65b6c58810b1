"""Datasets: conversion of the ATLAS releases to nnU-Net raw data, and synthetic data in their layout.

The commands are ``convert-atlas`` (:mod:`~nnunet_ici.datasets.atlas_to_raw`) and ``synth-atlas``
(:mod:`~nnunet_ici.datasets.synth_atlas`).
"""
